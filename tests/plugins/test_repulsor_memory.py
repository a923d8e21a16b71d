"""The repulsor and its memory: what is read when, what is written when.

Numbers in brackets are those of the queue traps in the reference on objectives.
"""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import pytest
import torch
from bank_data import decaying, make
from repulsor_parts import BATCH, WIDTH, build, config, directions, filled, part_of, step_with
from synchronisation import no_host_synchronisation

from genmem import attention
from genmem.contracts import Objective
from genmem.testing import ListMemory
from genmem_repulsor.queue import Queue
from genmem_repulsor.sphere import uniform_floor


def test_scored_before_it_is_written() -> None:
    """[5] A forward changes nothing in the memory; what it staged arrives at commit, once."""
    settings, queue = config(), filled(first_id=1000)
    module, step = build(settings), step_with(queue, settings)
    before = queue.state()
    module(step)
    assert all(torch.equal(queue.state()[key], value) for key, value in before.items())
    queue.commit(torch.tensor(True))
    assert int(queue.total) == 300 + BATCH
    q = module.queries(step.prediction.hidden[2]).detach()
    torch.testing.assert_close(queue.state()["rows"][-BATCH:], q)
    # Once it is there, its own copy is hidden: else the sum would hold exp(1/τ) from itself.
    others = torch.cat([before["rows"], q])
    own = torch.arange(300 + BATCH) == 300 + torch.arange(BATCH)[:, None]
    expected = (5.0 * q @ others.T).masked_fill(own, -torch.inf).logsumexp(1) - math.log(299 + BATCH)
    torch.testing.assert_close(module(step).metrics["bank"], expected.mean())
    lse, count = queue.attend(q, 5.0)  # the wrong variant: written first, no mask
    assert bool((lse - count.log() > expected).all())


def test_the_weight_of_one_copy_of_oneself() -> None:
    """[5] Oracle 7: 91.7 % at τ = 0.07, 0.2 % at 0.2, in 65,536 uniform rows of width 128."""
    keys = directions(65_536, width=128)
    for temperature, mass in ((0.07, 0.917), (0.2, 0.002)):
        closed = 1 / (1 + 65_536 * math.exp(uniform_floor(128, temperature) - 1 / temperature))
        lse = ListMemory(keys).attend(keys[:64], 1 / temperature).lse_B
        assert float((1 / temperature - lse).exp().mean()) == pytest.approx(closed, rel=0.05)
        assert closed == pytest.approx(mass, abs=6e-4)


@pytest.mark.parametrize("held", [0, 4 * BATCH - 1, 4 * BATCH])
def test_below_min_fill_the_term_is_zero_and_connected(held: int) -> None:
    """[6] No NaN, no unused parameter, no jump: only the in-batch term has a gradient."""
    settings = config(w_batch=0.0)
    module = build(settings)
    step = step_with(filled(held, first_id=1000), settings)
    value, metrics = module(step)
    value.backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    moved = any(bool(gradient.any()) for gradient in gradients if gradient is not None)
    ready = held >= 4 * BATCH
    assert moved == ready and (float(value.detach()) != 0) == ready and float(metrics["ready"]) == ready
    assert ready or float(metrics["gap"]) == 0


def test_a_memory_that_can_never_fill_is_refused() -> None:
    """By both numbers, and with the way out."""
    settings = config()
    with pytest.raises(ValueError, match=r"room for 64 rows.*4 global batches, 128 rows.*lower min_fill"):
        build(settings)(step_with(Queue(64, WIDTH), settings))


def test_written_in_training_only() -> None:
    """[7] Not in evaluation, and not to a memory that is only read."""
    for changes, training, staged in (({}, True, 1), ({}, False, 0), ({"enqueue": False}, True, 0)):
        settings, memory = config(**changes), ListMemory(directions(300))
        build(settings).train(training)(step_with(memory, settings))
        assert len(memory.staged) == staged
    assert config().needs == {"negatives": {"attend", "write"}}
    assert config(enqueue=False).needs == {"negatives": {"attend"}}


def test_a_frozen_memory_is_full_from_the_start() -> None:
    """`min_fill` waits for what training writes, and there is nothing to wait for."""
    settings = config(enqueue=False)
    result = build(settings)(step_with(ListMemory(directions(10), torch.arange(1000, 1010)), settings))
    assert float(result.metrics["ready"]) == 1


def test_the_split_into_micro_batches_does_not_matter() -> None:
    """[7] The mean over micro-batches of whole groups is the value of the whole."""
    settings, memory = config(), ListMemory(directions(300))
    module, step = build(settings), step_with(memory, config())
    whole: Objective = module(step)
    parts = [module(part_of(step, start, start + 8)) for start in range(0, BATCH, 8)]
    torch.testing.assert_close(torch.stack([part.value for part in parts]).mean(), whole.value)
    rows = torch.cat([rows for rows, _ in memory.staged[1:]])
    torch.testing.assert_close(rows, memory.staged[0][0])
    with pytest.raises(ValueError, match="micro-batch of 12 is not whole groups of 8"):
        module(part_of(step, 0, 12))


def test_no_host_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """[26] In a whole step: forward, backward, commit."""
    settings, queue = config(), filled()
    module, step = build(settings), step_with(queue, settings)
    monkeypatch.setattr(attention, "_on_host", lambda tensor: False)
    with no_host_synchronisation():
        module(step).value.backward()
        queue.commit(torch.tensor(True))


def test_it_holds_no_memory() -> None:
    """[22] Neither a copy nor a checkpoint of the objective contains rows."""
    settings = config()
    module = build(settings)
    module(step_with(filled(), settings))
    assert set(module.state_dict()) == {f"head.{n}.{p}" for n in (0, 1, 3) for p in ("weight", "bias")}
    assert not list(module.buffers())


def test_a_frozen_bank_serves_as_negatives(tmp_path: Path) -> None:
    """The same objective on a low-rank bank: the value its reconstructed rows give."""
    bank, settings = make(tmp_path, decaying(width=WIDTH), rank=5), config(enqueue=False)
    rows = ListMemory(bank.rows(torch.arange(60))[:, 0])
    module, step = build(settings), step_with(bank, settings)
    expected = module(attrs.evolve(step, memories={"negatives": rows}))
    found = module(step)
    torch.testing.assert_close(found.value, expected.value)
    found.value.backward()
    assert step.prediction.hidden[2].grad is not None
