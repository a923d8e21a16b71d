"""The cost report of a recipe: data first, a table for people second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from genmem.contracts import Count
from genmem.profiling.costs import Macs, Parameters
from genmem.profiling.footprint import Footprint
from genmem.profiling.step import StepCost

if TYPE_CHECKING:
    from rich.console import Group

TRUSTED = 0.01
"""Two counts that differ by more than this share have missed something."""


@attrs.frozen(kw_only=True)
class CostReport:
    """What a recipe costs. Forwards are counted in MACs (1 MAC = 2 FLOPs), training in FLOPs."""

    name: str
    parameters: Parameters
    """Of the network that samples are made with."""

    training_parameters: int
    """Of everything that trains: objectives' heads too."""

    macs: Macs
    """Of one forward of one sample in evaluation."""

    worked_out: Count | None
    """The same by the backbone's settings alone, where it works them out."""

    step: StepCost
    footprint: Footprint

    @property
    def macs_per_sample(self) -> int:
        """Forward MACs of one sample."""
        return self.macs.total

    def inference(self) -> dict[str, int]:
        """What sampling costs, part by part, to the last digit."""
        parts = {f"bytes/{name}": size for name, size in self.footprint.inference.items()}
        return {"parameters": self.parameters.total, "forward MACs": self.macs.total} | parts

    def training(self) -> dict[str, float]:
        """What training costs, part by part."""
        parts = {f"bytes/{name}": size for name, size in self.footprint.training.items()}
        flops = {"FLOPs an image": self.step.flops_per_image}
        return {"parameters": self.training_parameters} | flops | parts

    def doubts(self) -> list[str]:
        """Where two counts of the same thing are too far apart to be trusted, in words."""
        found = []
        for name, other in (
            ("torch's counter", self.macs.cross_check),
            ("the backbone's own sum", self._sum),
        ):
            if other is not None and abs(self.macs.total - other) > TRUSTED * max(other, 1):
                apart = abs(self.macs.total - other) / max(other, 1)
                found.append(
                    f"MACs not to be trusted: fvcore counts {format_count(self.macs.total)}, "
                    f"{name} {format_count(other)}, {apart:.1%} apart"
                )
        if self.worked_out is not None and self.worked_out.parameters != self.parameters.total:
            found.append(
                f"the backbone's own sum has {self.worked_out.parameters:,} parameters, "
                f"the network {self.parameters.total:,}"
            )
        return found

    @property
    def _sum(self) -> int | None:
        return None if self.worked_out is None else self.worked_out.macs

    def to_json(self) -> dict[str, Any]:
        """Plain data; keys say MACs, FLOPs or bytes."""
        macs = attrs.asdict(self.macs) | {"disagreement": self.macs.disagreement}
        return {
            "name": self.name,
            "parameters": attrs.asdict(self.parameters) | {"training": self.training_parameters},
            "forward_macs": macs,
            "worked_out": None if self.worked_out is None else self.worked_out._asdict(),
            "training": attrs.asdict(self.step) | {"flops_per_image": self.step.flops_per_image},
            "memory_bytes": attrs.asdict(self.footprint),
            "doubts": self.doubts(),
        }

    def __rich__(self) -> Group:
        """The tables of `genmem.profiling.tables`."""
        from genmem.profiling.tables import show

        return show(self)


def format_count(count: float) -> str:
    """A count with a decimal prefix: 1 240 000 is "1.24 M"."""
    return _prefixed(count, 1000.0, ("", "k", "M", "G", "T", "P")).rstrip()


def format_bytes(count: float) -> str:
    """Bytes with a binary prefix: 1 572 864 is "1.50 MiB"."""
    return _prefixed(count, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _prefixed(count: float, step: float, prefixes: tuple[str, ...]) -> str:
    power = 0
    while abs(count) >= step and power < len(prefixes) - 1:
        count, power = count / step, power + 1
    return f"{count:.2f} {prefixes[power]}" if power else f"{count:.0f} {prefixes[0]}"
