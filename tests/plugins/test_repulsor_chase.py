"""The collective chase, in a toy: repulsion from the past alone runs after itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs
import pytest
import torch
from repulsor_parts import config
from torch import Tensor, nn

from genmem.contracts import Facts, Hide, Prediction, Step
from genmem.testing.objective import example_step
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.queue import Queue
from genmem_repulsor.terms import score_within

BATCH, WIDTH, SAMPLES, AGE, EVERY = 64, 32, 1024, 256, 30
SETTINGS = RepulsorConfig(
    memory="queue", tap=1, temperature=0.5, w_bank=1.0, group=BATCH, head="linear", min_fill=1
)
FACTS = Facts(
    sample_shape=(2, 4, 4), output_channels=2, batch=BATCH, memory_widths={"queue": WIDTH}, tap_widths={1: 64}
)


class Found(NamedTuple):
    """Of the last half of a run."""

    lines: list[dict[str, float]]
    """Means over EVERY steps each, as a log has them."""

    true: float
    """The same functional over the whole data set with fresh features."""


def run(settings: RepulsorConfig, steps: int) -> Found:
    """Train a small network on the repulsion alone."""
    torch.manual_seed(0)
    objective = settings.build(FACTS)
    network = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64))
    data, queue, keep = torch.randn(SAMPLES, 16), Queue(AGE * BATCH, WIDTH), torch.tensor(True)
    optimizer = torch.optim.Adam([*network.parameters(), *objective.parameters()], lr=1e-3)
    template, seen = example_step(SETTINGS, batch=BATCH), []
    for number in range(steps):
        ids = torch.randperm(SAMPLES)[:BATCH]
        value, metrics = objective(_step(template, network(data[ids]), ids, queue))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        queue.commit(keep)
        if number >= steps // 2:
            seen.append(metrics)
    with torch.no_grad():
        fresh = objective.queries(network(data)[:, None])  # type: ignore[operator]
        true = score_within(fresh[None], Hide(), 2.0, "dot")
    lines = [
        {name: float(torch.stack([m[name] for m in seen[start : start + EVERY]]).mean()) for name in seen[0]}
        for start in range(0, len(seen), EVERY)
    ]
    return Found(lines, float((true.lse_B - true.count_B.log()).mean()))


def _step(template: Step, hidden: Tensor, ids: Tensor, queue: Queue) -> Step:
    return attrs.evolve(
        template,
        batch=template.batch._replace(index_B=ids),
        prediction=Prediction(template.prediction.output, {1: hidden[:, None]}),
        memories={"queue": queue},
    )


@pytest.mark.slow
def test_trap_30_the_alarm_rings_for_the_queue_alone() -> None:
    """Oracle 13: below the floor, which one distribution cannot reach; the in-batch term prevents it."""
    alone = attrs.evolve(SETTINGS, w_batch=0.0)
    chased, calm = run(alone, 900), run(SETTINGS, 900)
    within = run(attrs.evolve(SETTINGS, w_bank=0.0), 900)
    assert any("run from their own past" in (alone.warn(line) or "") for line in chased.lines)
    assert not any(SETTINGS.warn(line) for line in calm.lines)
    mean_query = [max(line["mean_query"] for line in found.lines) for found in (chased, calm)]
    assert mean_query[0] > 2 * mean_query[1]
    assert chased.true > 2 * calm.true
    assert calm.true < 1.05 * within.true


@pytest.mark.parametrize(
    ("changes", "metrics", "line"),
    [
        ({}, {"gap": -0.03, "held": 10.0}, "L_bank lies 0.03 below its floor"),
        ({}, {"gap": -0.02, "held": 10.0}, None),
        ({}, {"gap": 0.5, "held": 1000.0}, None),
        (
            {"w_batch": 0.25},
            {"gap": 0.5, "held": 65.0},
            "w_batch = 0.25 is below w_bank = 0.5 with 65 global",
        ),
        ({"w_batch": 0.25}, {"gap": 0.5, "held": 64.0}, None),
        # Where the floor is no bound, or nothing follows the queries.
        ({"metric": "l2"}, {"gap": -0.1}, None),
        ({"hide_class": True}, {"gap": -0.1}, None),
        ({"window": 0.1}, {"gap": -0.1}, None),
        ({"enqueue": False, "w_batch": 0.0}, {"gap": -0.1, "held": 1000.0}, None),
        ({}, {}, None),
    ],
)
def test_what_the_person_who_watches_is_told(
    changes: dict[str, Any], metrics: dict[str, float], line: str | None
) -> None:
    """What is wrong and what to change; nothing where the floor is no bound."""
    found = config(**changes).warn(metrics)
    assert (found is None) == (line is None)
    assert line is None or (found is not None and line in found and "raise w_batch" in found)
