"""The collective chase, in a toy: repulsion from the past alone runs after itself."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import Tensor, nn

from genmem.contracts import Facts, Prediction, Step
from genmem.testing import example_step
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import repel_within

BATCH, WIDTH, SAMPLES, AGE = 64, 32, 1024, 256


def run(w_batch: float, steps: int) -> tuple[float, float]:
    """Train a small network on the repulsion alone; mean gap of the last half, and the true loss.

    The true loss is the same functional over the whole data set with fresh features.
    """
    torch.manual_seed(0)
    config = RepulsorConfig(
        memory="queue",
        tap=1,
        temperature=0.5,
        w_batch=w_batch,
        w_bank=1.0,
        group=BATCH,
        head="linear",
        min_fill=1,
    )
    facts = Facts(
        sample_shape=(2, 4, 4),
        output_channels=2,
        batch=BATCH,
        memory_widths={"queue": WIDTH},
        tap_widths={1: 64},
    )
    objective = config.build(facts)
    network = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64))
    data, queue, keep = torch.randn(SAMPLES, 16), Queue(AGE * BATCH, WIDTH), torch.tensor(True)
    optimizer = torch.optim.Adam([*network.parameters(), *objective.parameters()], lr=1e-3)
    template, gaps = example_step(config, batch=BATCH), []
    for number in range(steps):
        ids = torch.randperm(SAMPLES)[:BATCH]
        value, metrics = objective(_step(template, network(data[ids]), ids, queue))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        queue.commit(keep)
        if number >= steps // 2:
            gaps.append(metrics["gap"])
    with torch.no_grad():
        fresh = objective.queries(network(data)[:, None])  # type: ignore[operator]
        return float(torch.stack(gaps).min()), float(repel_within(fresh[None], 0.5))


def _step(template: Step, hidden: Tensor, ids: Tensor, queue: Queue) -> Step:
    return attrs.evolve(
        template,
        batch=template.batch._replace(index_B=ids),
        prediction=Prediction(template.prediction.output, {1: hidden[:, None]}),
        memories={"queue": queue},
    )


@pytest.mark.slow
def test_the_alarm_rings_for_the_queue_alone() -> None:
    """[30] Below the floor, which one distribution cannot reach; the in-batch term prevents it."""
    gap, true = run(w_batch=0.0, steps=900)
    calm_gap, calm_true = run(w_batch=1.0, steps=900)
    assert gap < -0.01 and calm_gap > -0.01
    assert true > 2 * calm_true
