"""What a configuration costs, from its recipe and the shapes its checkpoint records. Nothing is trained
or sampled, and no data are made."""

from __future__ import annotations

from pathlib import Path

import attrs

from genmem.building import Shapes
from genmem.comparing.groups import Group
from genmem.profiling.session import cost_of
from genmem.recipe import load
from genmem.training import integrity


@attrs.frozen(kw_only=True)
class Costs:
    """Costs of one configuration; None where nobody knows, and `reason` says why."""

    parameters: int | None = None
    """At inference."""

    bytes: int | None = None
    """Of everything that sampling holds: weights, and the memory that conditions."""

    macs: int | None = None
    """Of one network evaluation of one sample."""

    training_flops: float | None = None
    """Of one training image: forwards and backwards of network and objectives."""

    evaluations: int | None = None
    """Network evaluations of one sample."""

    reason: str = ""

    @property
    def sample_flops(self) -> float | None:
        """Of one finished sample."""
        return None if self.macs is None or self.evaluations is None else 2.0 * self.macs * self.evaluations


def costs_of(group: Group, plugins: tuple[Path, ...]) -> Costs:
    """Count, or say why it cannot be counted here."""
    try:
        return _count(group, plugins)
    except (ValueError, OSError, RuntimeError) as error:
        return Costs(evaluations=group.evaluations, reason=str(error).splitlines()[0])


def _count(group: Group, plugins: tuple[Path, ...]) -> Costs:
    folder = group.first.folder
    recipe = load(folder.recipe, plugins=plugins, run_plugins=False)
    found = integrity.numbered(folder.checkpoints)
    recorded = integrity.load_state(found[-1]).get("shapes") if found else None
    if recorded is None:
        raise ValueError("it has no checkpoint that records the shapes of its data")
    report = cost_of(recipe, shapes=Shapes.of_json(recorded))
    return Costs(
        parameters=report.parameters.total,
        bytes=sum(report.footprint.inference.values()),
        macs=report.macs_per_sample,
        training_flops=report.step.flops_per_image,
        evaluations=group.evaluations,
    )
