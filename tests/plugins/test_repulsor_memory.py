"""The repulsor and its memory: what is read when, what is written when, by the queue traps' numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from bank_data import decaying, make
from repulsor_parts import BATCH, WIDTH, YES, Brute, build, config, directions, filled, part_of, step_with
from synchronisation import no_host_synchronisation
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from genmem.contracts import Conditioning, Hide, Objective, Tags
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import tags_of
from genmem_repulsor.sphere import uniform_floor


def test_trap_05_scored_before_it_is_written() -> None:
    """A forward changes nothing in the memory; what it staged arrives at commit, once."""
    settings, queue = config(), filled(first_id=1000)
    module, step = build(settings), step_with(queue, settings)
    before = queue.state()
    module(step)
    assert all(torch.equal(queue.state()[key], value) for key, value in before.items())
    queue.commit(YES)
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


def test_trap_05_the_weight_of_one_copy_of_oneself() -> None:
    """Oracle 7: 91.7 % at τ = 0.07, 0.2 % at 0.2, in 65,536 uniform rows of width 128."""
    keys = directions(65_536, width=128)
    logits = keys[:64] @ keys.T
    for temperature, mass in ((0.07, 0.917), (0.2, 0.002)):
        closed = 1 / (1 + 65_536 * math.exp(uniform_floor(128, temperature) - 1 / temperature))
        lse = (logits / temperature).logsumexp(1)
        assert float((1 / temperature - lse).exp().mean()) == pytest.approx(closed, rel=0.05)
        assert closed == pytest.approx(mass, abs=6e-4)


@pytest.mark.parametrize("held", [0, 4 * BATCH - 1, 4 * BATCH])
@pytest.mark.parametrize("options", [{}, {"reduction": "global"}, {"metric": "l2"}], ids=str)
def test_trap_06_below_min_fill_the_term_is_zero_and_connected(held: int, options: dict[str, Any]) -> None:
    """No NaN, no unused parameter, no jump: only the in-batch term has a gradient."""
    settings = config(w_batch=0.0, **options)
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
    assert float(metrics["held"]) == pytest.approx(held / BATCH)


def test_trap_07_written_in_training_only() -> None:
    """Not in evaluation, and not to a memory that is only read."""
    for changes, training, staged in (({}, True, 1), ({}, False, 0), ({"enqueue": False}, True, 0)):
        settings, memory = config(**changes), Brute(directions(300))
        build(settings).train(training)(step_with(memory, settings))
        assert len(memory.staged) == staged


def test_trap_07_recomputed_blocks_write_nothing_twice() -> None:
    """The objective stands outside the blocks that activation checkpointing runs again."""
    settings, memory = config(), Brute(directions(300))
    module, step = build(settings), step_with(memory, config())
    layer, runs = torch.nn.Linear(16, 16), []

    def block(hidden: torch.Tensor) -> torch.Tensor:
        runs.append(1)
        memory.stage(hidden.detach().mean(1), tags_of(step))  # the wrong variant: written inside
        return layer(hidden)

    hidden = checkpoint(block, step.prediction.hidden[2], use_reentrant=False)
    module(attrs.evolve(step, prediction=step.prediction._replace(hidden={2: hidden}))).value.backward()
    assert len(runs) == 2
    assert [rows.shape[1] for rows, _ in memory.staged] == [16, WIDTH, 16]


def test_a_frozen_memory_is_full_from_the_start() -> None:
    """`min_fill` waits for what training writes, and there is nothing to wait for."""
    settings = config(enqueue=False)
    result = build(settings, rows=10)(step_with(Brute(directions(10)), settings))
    assert float(result.metrics["ready"]) == 1


@pytest.mark.parametrize("options", [{}, {"reduction": "global"}, {"metric": "l2", "window": 0.5}], ids=str)
def test_trap_07_the_split_into_micro_batches_does_not_matter(options: dict[str, Any]) -> None:
    """The mean over micro-batches of whole groups is the value of the whole."""
    settings, memory = config(**options), Brute(directions(300), label=torch.zeros(300), t=torch.rand(300))
    module, step = build(settings), step_with(memory, settings)
    whole: Objective = module(step)
    parts = [module(part_of(step, start, start + 8)) for start in range(0, BATCH, 8)]
    torch.testing.assert_close(torch.stack([part.value for part in parts]).mean(), whole.value)
    rows = torch.cat([rows for rows, _ in memory.staged[1:]])
    torch.testing.assert_close(rows, memory.staged[0][0])
    with pytest.raises(ValueError, match="micro-batch of 12 is not whole groups of 8"):
        module(part_of(step, 0, 12))


@pytest.mark.parametrize(
    "options", [{}, {"metric": "l2", "reduction": "global", "hide_class": True}], ids=str
)
def test_trap_26_no_host_synchronisation(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a whole step: forward, backward, commit."""
    settings, queue = config(**options), filled()
    module, step = build(settings), step_with(queue, settings)
    monkeypatch.setattr("genmem.attention.passes.on_host", lambda tensor: False)
    with no_host_synchronisation():
        module(step).value.backward()
        queue.commit(YES)
        module.commit(YES)


def test_trap_22_it_holds_no_memory() -> None:
    """Neither a copy nor a checkpoint of the objective contains rows; the queue is no module."""
    settings, queue = config(), filled()
    module = build(settings)
    module(step_with(queue, settings))
    linear = {f"head.{n}.{p}" for n in (1, 2, 4) for p in ("weight", "bias")}
    assert set(module.state_dict()) == linear | {"metric"}
    assert sum(buffer.numel() for buffer in module.buffers()) == 1
    assert not isinstance(queue, torch.nn.Module)
    module.half()
    assert queue.ring["rows"].dtype == torch.float32


def test_trap_23_a_head_of_another_metric_is_refused() -> None:
    """Its features, and the saved queue's, would mean nothing."""
    saved = build(config(metric="l2")).state_dict()
    with pytest.raises(ValueError, match=r'are for metric = "l2", this objective has "cos"'):
        build(config()).load_state_dict(saved)
    build(config(metric="l2")).load_state_dict(saved)


def test_trap_29_classes_are_the_datas_own() -> None:
    """A label dropped for guidance still hides its class, and stays in the memory."""
    settings = config(hide_class=True, w_batch=0.0)
    queue, module = filled(), build(settings)
    step = step_with(queue, settings)
    dropped = Conditioning(label_B=torch.full((BATCH,), 3), drop_B=torch.ones(BATCH, dtype=torch.bool))
    plain, without = module(step), module(attrs.evolve(step, cond=dropped))
    assert torch.equal(plain.value, without.value)
    queue.commit(YES)
    assert torch.equal(queue.state()["label"][-BATCH:], step.batch.label_B.int())
    assert torch.equal(queue.state()["t"][-BATCH:], step.times.t)
    # The wrong variant: the label the network saw, which hides nothing.
    assert float(build(config(w_batch=0.0))(step).metrics["held"]) > 1.3 * float(plain.metrics["held"])
    wrong = queue.attend(module.queries(step.prediction.hidden[2]), 5.0, Hide(label_B=dropped.label_B))
    assert bool((wrong.count_B == 300 + 2 * BATCH).all())


def test_token_times_count_by_their_mean() -> None:
    """For the window and in the memory."""
    step = step_with(None, config())
    tags = tags_of(attrs.evolve(step, times=step.times._replace(t=torch.rand(BATCH, 4))))
    assert tags.t_B is not None and tags.t_B.shape == (BATCH,)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that anything makes."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor) and one._base is None:
                self.most = max(self.most, one.numel())
        return result


def test_trap_31_no_tensor_of_queries_by_rows() -> None:
    """However many rows: nothing grows with batch times rows."""
    queue, q = Queue(65_536, WIDTH), directions(256, seed=1).requires_grad_()
    rows = directions(65_536)
    queue.stage(rows, Tags(torch.arange(65_536)))
    queue.commit(YES)
    with Largest() as largest:
        queue.attend(q, 5.0, Hide(torch.arange(256))).lse_B.sum().backward()
    with Largest() as wrong:
        (5.0 * q @ rows.T).logsumexp(1).sum().backward()
    assert largest.most <= wrong.most / 8 and wrong.most == 256 * 65_536


def test_a_frozen_bank_serves_as_negatives(tmp_path: Path) -> None:
    """The same objective on a low-rank bank: the value its reconstructed rows give."""
    bank = make(tmp_path, decaying(width=WIDTH), rank=5)
    rows = Brute(bank.rows(torch.arange(60))[:, 0], torch.arange(60))
    for options in ({}, {"metric": "l2"}):
        settings = config(enqueue=False, **options)
        module, step = build(settings, rows=60), step_with(bank, settings)
        expected = module(attrs.evolve(step, memories={"negatives": rows}))
        found = module(step)
        torch.testing.assert_close(found.value, expected.value)
        found.value.backward()
        assert step.prediction.hidden[2].grad is not None
    assert not config(enqueue=False, hide_class=True).needs["negatives"] <= bank.abilities
