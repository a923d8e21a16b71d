"""The queue against a Python deque, and its traps.

Numbers in brackets are those of the queue traps in the reference on objectives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import pytest
import torch
from synchronisation import no_host_synchronisation
from torch import Tensor

from genmem import attention
from genmem.draws import Draws
from genmem.testing import check_memory
from genmem_repulsor import QueueConfig
from genmem_repulsor.queue import Queue

YES, NO = torch.tensor(True), torch.tensor(False)


def fresh(rows: int, width: int = 3) -> Queue:
    """An empty queue in fp32 whose memory is poisoned, to show that it is never read."""
    queue = Queue(rows, width, "fp32")
    queue.rows_RE.fill_(torch.nan)
    return queue


def numbered(ids: Iterable[int], width: int = 3) -> tuple[Tensor, Tensor]:
    """Rows that follow from their sample's number, and those numbers."""
    ids_B = torch.tensor(list(ids), dtype=torch.int64)
    return Draws(0, ids_B).normal("row", (width,)), ids_B


def write(queue: Queue, ids: Iterable[int], keep: Tensor = YES) -> None:
    """One optimizer step that brings these samples."""
    queue.stage(*numbered(ids, queue.width))
    queue.commit(keep)


def holds(queue: Queue, ids: Iterable[int]) -> bool:
    """Whether the state is exactly these samples' rows, in this order."""
    rows, expected = numbered(ids, queue.width)
    state = queue.state()
    return torch.equal(state["ids"], expected) and torch.equal(state["rows"], rows)


def test_contract() -> None:
    """What every store must do."""
    check_memory(QueueConfig(rows=7, width=8).build(None))  # type: ignore[arg-type]
    check_memory(QueueConfig(rows=64, width=8, dtype="fp32").build(None), tolerance=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("capacity", [1, 7, 10, 64])
def test_contents_and_order_are_a_deques(capacity: int) -> None:
    """[1, 2, 3] Batches of one, of the capacity, beyond it and of primes, wrapping as they come."""
    queue, model, start = fresh(capacity), deque[int](maxlen=capacity), 0
    for count in (1, 2, capacity, 3, capacity + 3, 5, 0, 11, 2 * capacity + 1, 13, 1):
        ids = range(start, start + count)
        write(queue, ids)
        model.extend(ids)
        start += count
        assert holds(queue, model)
    assert int(queue.total) == start


def test_pointer_reset_at_the_wrap_loses_the_order() -> None:
    """[2] The wrong variant: writing from slot 0 after a wrap."""
    queue, wrong = fresh(5), torch.full((5,), -1)
    write(queue, range(3))
    write(queue, range(3, 7))
    wrong[:3], wrong[3:] = torch.arange(3), torch.arange(3, 5)  # what did not fit is dropped
    assert holds(queue, [2, 3, 4, 5, 6]) and wrong.tolist() != queue.ids_R.tolist()


@pytest.mark.parametrize("filled", [0, 4, 10, 13])
def test_only_rows_held_are_attended_to(filled: int) -> None:
    """[4] Partly filled, full and wrapped: brute force over what a deque would hold."""
    queue = fresh(10)
    write(queue, range(filled))
    q, own = numbered(range(8, 14))
    keys, ids = numbered(range(max(0, filled - 10), filled))
    hidden = own[:, None] == ids
    expected = (4.0 * q @ keys.T).masked_fill(hidden, -torch.inf).logsumexp(1)
    lse, count = queue.attend(q, 4.0, own)
    assert torch.equal(count.long(), (~hidden).sum(1))
    torch.testing.assert_close(lse, torch.where(count > 0, expected, 0.0))


def test_nearest_gives_slots() -> None:
    """Own rows are found again; what is missing is marked."""
    queue = fresh(10)
    rows, ids = torch.eye(3), torch.arange(3)
    queue.stage(rows, ids)
    queue.commit(YES)
    products, slots = queue.nearest(rows, 4)
    assert torch.equal(slots[:, 0], ids) and torch.equal(products[:, 0], torch.ones(3))
    assert slots[:, 3].tolist() == [-1] * 3
    with pytest.raises(ValueError, match="11 closest rows of a memory that has 10"):
        queue.nearest(rows, 11)


def test_a_step_is_written_once_whole_and_only_if_kept() -> None:
    """[7] Micro-batches in order; a skipped step leaves nothing; nothing before commit."""
    queue = fresh(10)
    write(queue, range(3))
    for part in (range(3, 5), range(5, 6), range(6, 8)):
        queue.stage(*numbered(part))
    assert holds(queue, range(3))
    queue.commit(YES)
    assert holds(queue, range(8))
    queue.commit(YES)
    assert holds(queue, range(8))
    write(queue, range(8, 12), keep=NO)
    assert holds(queue, range(8)) and int(queue.total) == 8
    queue.stage(*numbered([99]))
    queue.discard()
    queue.commit(YES)
    assert holds(queue, range(8))


def test_rows_are_copies_without_gradient() -> None:
    """[8] What is staged or held changes with nothing else, and a backward after commit works."""
    queue = fresh(4)
    write(queue, range(2))
    rows, ids = numbered([5])
    source = rows.clone().requires_grad_()
    q = source * 1.0
    loss = queue.attend(q, 1.0, ids).lse_B.sum()
    queue.stage(q, ids)
    q.detach().fill_(7.0)
    queue.commit(YES)
    loss.backward()
    assert holds(queue, [0, 1, 5]) and not queue.rows_RE.requires_grad
    # The wrong variant: keys that autograd saved, overwritten before the backward.
    wrong = ((source * 1.0) @ queue.rows_RE.T).sum()
    write(queue, [6])
    with pytest.raises(RuntimeError, match="inplace"):
        wrong.backward()


def test_rows_that_are_not_finite_are_no_negatives() -> None:
    """[10] They take their slot, count as rejected, and poison nothing, before or after a restore."""
    queue = fresh(6)
    rows, ids = numbered(range(4))
    rows[1, 0], rows[2, 2] = torch.nan, -torch.inf
    queue.stage(rows, ids)
    queue.commit(YES)
    q, own = numbered([9])
    for store in (queue, fresh(6)):
        store.load_state(queue.state())
        attended = store.attend(q, 1.0, own)
        assert float(attended.count_B) == 2
        torch.testing.assert_close(attended.lse_B, (q @ rows[[0, 3]].T).logsumexp(1))
        assert int(store.metrics()["rejected"]) == 2
        assert float(store.metrics()["filled"]) == pytest.approx(2 / 6)
    queue.stage(torch.full((1, 3), torch.nan), torch.tensor([7]))
    queue.commit(NO)
    assert int(queue.rejected) == 2


def test_bf16_rows_are_rounded_once_and_stay() -> None:
    """[9, 25] Norms within a unit in the last place; storage does not follow autocast."""
    queue = Queue(8, 128)
    rows = torch.nn.functional.normalize(numbered(range(8), 128)[0], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        queue.stage(rows, torch.arange(8))
        queue.commit(YES)
    assert queue.rows_RE.dtype == torch.bfloat16 and torch.equal(queue.rows_RE, rows.bfloat16())
    assert bool(((queue.rows_RE.float().norm(dim=1) - 1).abs() < 2**-8).all())


def test_fp32_storage_under_autocast() -> None:
    """[25]"""
    queue = fresh(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        write(queue, range(5))
    assert holds(queue, range(5))


@pytest.mark.parametrize("capacity", [4, 10, 30])
def test_state_loads_at_another_capacity(capacity: int) -> None:
    """[23] Saved in the middle of a wrap; the newest rows that fit, in order; then it goes on."""
    queue, other = fresh(10), fresh(capacity)
    write(queue, range(13))
    write(other, range(50, 57))
    other.stage(*numbered([99]))
    other.load_state(queue.state())
    held = [*range(3, 13)][-capacity:]
    assert holds(other, held)
    assert float(other.metrics()["filled"]) == pytest.approx(min(1.0, 10 / capacity))
    write(other, range(13, 20))
    assert holds(other, [*held, *range(13, 20)][-capacity:])
    assert int(other.total) == 20


@pytest.mark.parametrize("written", [4, 13])
def test_a_restored_queue_goes_on_bit_for_bit(written: int) -> None:
    """[23] Half filled, and in the middle of a wrap: the very same next value."""
    queue, other = fresh(10), fresh(10)
    write(queue, range(written))
    other.load_state(queue.state())
    q, own = numbered(range(20, 24))
    for _ in range(2):
        assert torch.equal(queue.attend(q, 3.0, own).lse_B, other.attend(q, 3.0, own).lse_B)
        write(queue, range(30, 33))
        write(other, range(30, 33))


def test_another_width_is_refused() -> None:
    """[23] By name, both of them, at load and at stage."""
    queue = fresh(10, width=3)
    write(queue, range(3))
    other = fresh(10, width=4)
    write(other, range(2))
    with pytest.raises(ValueError, match="width 3, this one takes width 4"):
        other.load_state(queue.state())
    assert holds(other, range(2))
    with pytest.raises(ValueError, match=r"\(1, 4\) for 1 samples do not fit a queue of width 3"):
        queue.stage(*numbered([1], width=4))


def test_the_count_lives_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """[26] Neither reading nor writing makes the host wait, whatever is kept."""
    queue = fresh(10)
    q, ids = numbered(range(4))
    monkeypatch.setattr(attention, "_on_host", lambda tensor: False)
    with no_host_synchronisation():
        for keep in (YES, NO, YES, YES):
            queue.attend(q, 1.0, ids)
            queue.stage(q, ids)
            queue.commit(keep)
            queue.metrics()
    assert isinstance(queue.total, Tensor) and int(queue.total) == 12
    with no_host_synchronisation(), pytest.raises(AssertionError, match="wait for the device"):
        queue.state()  # the wrong variant: a count on the host


def test_moving_keeps_contents() -> None:
    """[25]"""
    queue = fresh(10)
    write(queue, range(13))
    queue.to(torch.device("cpu"))
    queue.to(torch.device("cpu"))
    assert holds(queue, range(3, 13))
    assert queue.num_bytes() == 10 * (3 * 4 + 8)
