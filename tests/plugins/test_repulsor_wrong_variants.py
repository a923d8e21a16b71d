"""What the tests of the queue's traps would see if it were wrong: the variants in a line or two.

By number, for those traps whose tests beside this file have no wrong variant of their own.
"""

from __future__ import annotations

import math
from collections import deque

import pytest
import torch
from repulsor_parts import BATCH, Brute, build, config, directions, fresh, holds, step_with, write
from torch import nn

from genmem_repulsor.sphere import uniform_floor


def test_trap_01_keeping_the_first_rows_of_a_batch_that_is_too_large() -> None:
    queue, wrong = fresh(5), list(range(8))[:5]
    write(queue, range(8))
    assert holds(queue, deque(range(8), maxlen=5)) and not holds(queue, wrong)


def test_trap_03_overwriting_the_end_at_the_wrap() -> None:
    """A batch that does not fit goes over the last slots, and the pointer back to 0."""
    queue, wrong, pointer = fresh(7), torch.full((7,), -1), 0
    for start in range(0, 12, 3):
        write(queue, range(start, start + 3))
        pointer = 4 if pointer + 3 > 7 else pointer
        wrong[pointer : pointer + 3] = torch.arange(start, start + 3)
        pointer = (pointer + 3) % 7
    assert holds(queue, range(5, 12)) and sorted(wrong.tolist()) != list(range(5, 12))


def test_trap_06_a_zero_of_nowhere_and_a_mean_over_nothing() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.zeros(()).backward()
    assert math.isnan(float(torch.empty(0).mean()))


def test_trap_13_without_the_logarithm_of_the_count() -> None:
    uniform = directions(4096, width=32)
    seen = Brute(uniform).attend(uniform[:512], 2.0)
    floor, tolerance = uniform_floor(32, 0.5), 0.05
    assert abs(float((seen.lse_B - seen.count_B.log()).mean()) - floor) < tolerance
    assert abs(float(seen.lse_B.mean()) - floor) > tolerance


def test_trap_14_a_memory_of_the_batch_that_hides_nothing() -> None:
    """Own rows left in: the memory's term is no longer the in-batch term."""
    settings = config(group=BATCH, min_fill=0)
    module, step = build(settings), step_with(None, settings)
    q = module.queries(step.prediction.hidden[2]).detach()
    scale = 1 / settings.temperature
    left_in = Brute(q).attend(q, scale)
    left_out = module(step_with(Brute(q, step.batch.index_B), settings)).metrics["batch"]
    assert abs(float((left_in.lse_B - left_in.count_B.log()).mean()) - float(left_out)) > 0.1


def test_trap_17_writing_in_the_order_of_a_strided_sampler() -> None:
    """Two ranks that take turns, gathered rank by rank: what is oldest differs from one process."""
    queue, taking_turns = fresh(6), [0, 2, 4, 6, 1, 3, 5, 7]
    write(queue, range(8))
    assert holds(queue, range(2, 8)) and not holds(queue, taking_turns[-6:])


def test_trap_19_padding_that_is_counted() -> None:
    """Ranks with 5 and 3 rows, padded to 5 and not cut back: two rows that nobody wrote."""
    parts = [torch.arange(5), torch.arange(5, 8)]
    padded = torch.cat([nn.functional.pad(part, (0, 5 - len(part))) for part in parts])
    assert torch.cat(parts).tolist() == list(range(8)) and padded.tolist() != list(range(8))


def test_trap_20_random_rows_counted_before_any_is_written() -> None:
    """Ranks of two seeds disagree at once; a queue that is empty has no negatives to disagree about."""
    q, values = directions(3), []
    for seed in (0, 1):
        garbage = torch.randn(5, q.shape[1], generator=torch.Generator().manual_seed(seed))
        values.append(Brute(garbage).attend(q, 1.0).lse_B)
    assert not torch.allclose(*values)
    assert fresh(5, width=q.shape[1]).attend(q, 1.0).count_B.tolist() == [0, 0, 0]


def test_trap_22_rows_as_a_buffer() -> None:
    """They would be saved with the objective, averaged with it, and cast with it."""
    module = nn.Module()
    module.register_buffer("rows", torch.zeros(5, 8))
    assert "rows" in module.state_dict() and module.half().rows.dtype == torch.float16
