"""Benchmark `sampler`: SDE Heun, and guidance in an interval, beside the forms written first.

Shapes: B samples, C H W of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Facts, Interpolant, Prediction, SamplerConfig
from genmem.draws import Draws
from genmem.host import Catalog, load_catalog
from genmem.sampling.evaluation import NetworkEvaluation
from genmem_bench.plain_sampler import sample_guided_euler, sample_sde_heun
from genmem_bench.rounds import Timing, interleave, ratio

SHAPE, CLASSES = (4, 16, 16), 10
LAST, SCALE = 0.004, 3.0
INTERVAL = (0.305, 0.405)
"""A tenth of the times; the grid has as large a share of its points inside."""

TOLERANCE = 1e-3
"""Largest difference of the results, in their deviations."""


class Bench(NamedTuple):
    """A network and what it is sampled with."""

    network: nn.Module
    interpolant: Interpolant
    cond: Conditioning
    draws: Draws
    noise: Tensor

    def evaluation(self, guidance: Any = None) -> NetworkEvaluation:
        """Counts calls and evaluations."""
        return NetworkEvaluation(self.network, self.interpolant, self.cond, guidance)

    def velocity(self, *, drop: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
        """The bare network, with or without its condition."""
        dropped = torch.full((len(self.noise),), drop) if drop else None

        def call(x: Tensor, t_B: Tensor) -> Tensor:
            with torch.no_grad():
                found = self.network(x, t_B.to(x.dtype), self.cond._replace(drop_B=dropped))
            return cast(Prediction, found).output

        return call


def pose(catalog: Catalog, depth: int, width: int, batch: int) -> Bench:
    """A label-conditioned network with weights that are not zero."""
    config = catalog.find("backbone", "sit").config(depth=depth, width=width, heads=width // 64, patch=2)
    facts = Facts(
        sample_shape=SHAPE, output_channels=SHAPE[0], num_classes=CLASSES, tap_widths=config.tap_widths
    )
    torch.manual_seed(0)
    network = config.build(facts).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    draws = Draws(0, torch.arange(batch))
    interpolant = catalog.find("interpolant", "linear").config().build()
    cond = Conditioning(label_B=draws.integers("label", CLASSES))
    return Bench(network, interpolant, cond, draws, draws.normal("initial-noise", SHAPE))


def run(steps: int, depth: int, width: int, batch: int, rounds: int) -> dict[str, Any]:
    """Both comparisons; asserts that the results are equal."""
    catalog = load_catalog()
    bench = pose(catalog, depth, width, batch)
    return {
        "benchmark": "sampler",
        "steps": steps,
        "batch": batch,
        "rounds": rounds,
        **_sde_heun(bench, catalog, steps, rounds),
        **_guidance(bench, catalog, steps, rounds),
    }


def _sde_heun(bench: Bench, catalog: Catalog, steps: int, rounds: int) -> dict[str, Any]:
    settings = {"steps": steps, "diffusion": "linear", "last_step_size": LAST}
    config: SamplerConfig = catalog.find("sampler", "sde-heun").config(**settings)
    sampler = config.build()

    def ours() -> Tensor:
        return sampler(bench.evaluation(), bench.noise, bench.draws)

    def plain() -> Tensor:
        return sample_sde_heun(
            bench.velocity(),
            bench.noise,
            steps,
            LAST,
            lambda i: bench.draws.normal(f"sde/{i}", SHAPE),
        )

    _assert_equal(ours(), plain())
    counted = bench.evaluation()
    sampler(counted, bench.noise, bench.draws)
    timings = interleave({"ours": ours, "plain": plain}, rounds)
    return {
        "sde_heun_evaluations": counted.calls,
        "sde_heun_plain_evaluations": 2 * counted.calls,
        **_figures("sde_heun", timings),
    }


def _guidance(bench: Bench, catalog: Catalog, steps: int, rounds: int) -> dict[str, Any]:
    low, high = INTERVAL
    guidance = catalog.find("guidance", "cfg").config(scale=SCALE, interval=INTERVAL).build()
    sampler = catalog.find("sampler", "euler").config(steps=steps).build()

    def ours() -> Tensor:
        return cast(Tensor, sampler(bench.evaluation(guidance), bench.noise, bench.draws))

    def plain() -> Tensor:
        null = bench.velocity(drop=True)
        return sample_guided_euler(bench.velocity(), null, bench.noise, steps, SCALE, low, high)

    _assert_equal(ours(), plain())
    counted = bench.evaluation(guidance)
    sampler(counted, bench.noise, bench.draws)
    evaluations = int(counted.evaluations_B.max())
    timings = interleave({"ours": ours, "plain": plain}, rounds)
    figures = _figures("guidance", timings)
    return {
        "guidance_evaluations": evaluations,
        "guidance_plain_evaluations": 2 * steps,
        "guidance_interval_ratio": 2 * steps / evaluations,
        "guidance_wall_ratio": figures.pop("guidance_ratio"),
        **figures,
    }


def _figures(name: str, timings: dict[str, Timing]) -> dict[str, float]:
    return {
        f"{name}_ratio": ratio(timings["plain"], timings["ours"]),
        f"{name}_seconds": timings["ours"].least,
        f"{name}_spread": timings["ours"].spread,
        f"{name}_plain_seconds": timings["plain"].least,
        f"{name}_plain_spread": timings["plain"].spread,
    }


def _assert_equal(ours: Tensor, plain: Tensor) -> None:
    apart = ((ours - plain).abs().max() / plain.std()).item()
    assert apart < TOLERANCE, f"the two forms differ by {apart:.2g} deviations"
