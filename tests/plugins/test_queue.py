"""The queue against a Python deque, and its traps, by their numbers in the list of queue traps.

Where the traps are tested: 1-4, 7-10, 25-27 here; 23, 24 in test_queue_state.py; 5-7, 22, 24, 26, 29,
31 in test_repulsor_memory.py; 11-16 in test_repulsor.py; 17-21 in test_repulsor_ranks.py; 30 in
test_repulsor_chase.py; 28 in tests/test_inference_cost.py, for every objective. Where a test has no
wrong variant beside it, test_repulsor_wrong_variants.py has one.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch
from repulsor_parts import NO, YES, fresh, holds, numbered, write
from synchronisation import no_host_synchronisation
from torch import Tensor

from genmem.attention import host
from genmem.contracts import Facts, Hide, Tags
from genmem.testing import check_memory
from genmem_repulsor import QueueConfig
from genmem_repulsor.queue import Queue
from genmem_repulsor.ring import Ring

FACTS = Facts(sample_shape=(2, 4, 4), output_channels=2)


def test_contract() -> None:
    """What every store must do."""
    check_memory(QueueConfig(rows=7, width=8).build(FACTS))
    check_memory(QueueConfig(rows=64, width=8, dtype="fp32").build(FACTS), tolerance=1e-6)


@pytest.mark.parametrize("capacity", [1, 7, 10, 64])
def test_trap_01_03_contents_and_order_are_a_deques(capacity: int) -> None:
    """Batches of one, of the capacity, beyond it and of primes, wrapping as they come."""
    queue, model, start = fresh(capacity), deque[int](maxlen=capacity), 0
    for count in (1, 2, capacity, 3, capacity + 3, 5, 0, 11, 2 * capacity + 1, 13, 1):
        ids = range(start, start + count)
        write(queue, ids)
        model.extend(ids)
        start += count
        assert holds(queue, model)
    assert int(queue.total) == start


def test_trap_02_a_pointer_reset_at_the_wrap_loses_rows() -> None:
    """The wrong variant: what did not fit is dropped, and writing goes on from slot 0."""
    queue, wrong = fresh(5), torch.full((5,), -1)
    write(queue, range(3))
    write(queue, range(3, 7))
    wrong[:3], wrong[3:] = torch.arange(3), torch.arange(3, 5)
    assert holds(queue, [2, 3, 4, 5, 6]) and wrong.tolist() != queue.ring["ids"].tolist()


def test_trap_02_no_slot_is_written_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than there is room for; which of two writes stays is anybody's guess on a GPU."""
    put, seen = Ring.put, []

    def watch(ring: Ring, rows: Any, number_N: Tensor, wanted_N: Tensor) -> None:
        seen.append((number_N % ring.slots)[wanted_N].tolist())
        put(ring, rows, number_N, wanted_N)

    monkeypatch.setattr(Ring, "put", watch)
    queue = fresh(5)
    for ids in (range(3), range(3, 16), range(16, 21)):
        write(queue, ids)
    assert holds(queue, range(16, 21)) and [len(slots) for slots in seen] == [3, 5, 5]
    assert all(len(set(slots)) == len(slots) for slots in seen)


@pytest.mark.parametrize("filled", [0, 4, 10, 13])
def test_trap_04_only_rows_held_are_attended_to(filled: int) -> None:
    """Partly filled, full and wrapped: brute force over what a deque would hold."""
    queue = fresh(10)
    write(queue, range(filled))
    q, own = numbered(range(8, 14))
    keys, tags = numbered(range(max(0, filled - 10), filled))
    hidden = own.ids_B[:, None] == tags.ids_B
    expected = (4.0 * q @ keys.T).masked_fill(hidden, -torch.inf).logsumexp(1)
    lse, count = queue.attend(q, 4.0, Hide(own.ids_B))
    assert torch.equal(count.long(), (~hidden).sum(1))
    torch.testing.assert_close(lse, torch.where(count > 0, expected, 0.0))
    if filled == 4:  # the wrong variant: all slots count, also those of random rows never written
        queue.ring["rows"][4:].normal_()
        assert not torch.allclose(lse, (4.0 * q @ queue.ring["rows"].T).logsumexp(1), atol=0.1)


@pytest.mark.parametrize("metric", ["dot", "l2"])
def test_rows_are_hidden_by_sample_class_and_time(metric: str) -> None:
    """Each alone and all together, against brute force, wrapped."""
    queue = fresh(10)
    write(queue, range(13))
    q, own = numbered(range(8, 16))
    keys, tags = numbered(range(3, 13))
    assert (
        own.label_B is not None and own.t_B is not None and tags.label_B is not None and tags.t_B is not None
    )
    label = own.label_B.clone()
    label[0] = -1
    logits = 2.0 * (q @ keys.T if metric == "dot" else -torch.cdist(q, keys).square())
    by_id = own.ids_B[:, None] == tags.ids_B
    by_class = label[:, None] == tags.label_B
    by_time = (own.t_B[:, None] - tags.t_B).abs() >= 0.3
    for hide, hidden in (
        (Hide(own.ids_B), by_id),
        (Hide(label_B=label), by_class),
        (Hide(t_B=own.t_B, window=0.3), by_time),
        (Hide(own.ids_B, label, own.t_B, 0.3), by_id | by_class | by_time),
    ):
        lse, count = queue.attend(q, 2.0, hide, metric)  # type: ignore[arg-type]
        expected = logits.masked_fill(hidden, -torch.inf).logsumexp(1)
        assert torch.equal(count.long(), (~hidden).sum(1))
        torch.testing.assert_close(lse, torch.where(count > 0, expected, 0.0))


def test_nearest_gives_slots() -> None:
    """Own rows are found again; what is missing is marked."""
    queue = fresh(10)
    rows, ids = torch.eye(3), torch.arange(3)
    queue.stage(rows, Tags(ids))
    queue.commit(YES)
    products, slots = queue.nearest(rows, 4)
    assert torch.equal(slots[:, 0], ids) and torch.equal(products[:, 0], torch.ones(3))
    assert slots[:, 3].tolist() == [-1] * 3
    with pytest.raises(ValueError, match="11 closest rows of a memory that has 10"):
        queue.nearest(rows, 11)


def test_trap_07_a_step_is_written_once_whole_and_only_if_kept() -> None:
    """Micro-batches in order; a skipped step leaves nothing; nothing before commit."""
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


def test_trap_08_rows_are_copies_without_gradient() -> None:
    """What is staged or held changes with nothing else, and a backward after commit works."""
    queue = fresh(4)
    write(queue, range(2))
    rows, tags = numbered([5])
    source = rows.clone().requires_grad_()
    q = source * 1.0
    loss = queue.attend(q, 1.0, Hide(tags.ids_B)).lse_B.sum()
    queue.stage(q, tags)
    view = q.detach()
    view.fill_(7.0)
    queue.commit(YES)
    loss.backward()
    assert holds(queue, [0, 1, 5]) and not queue.ring["rows"].requires_grad
    assert not torch.equal(view, rows)  # the wrong variant: a key that is a view of q
    # Another wrong variant: keys that autograd saved, overwritten before the backward.
    wrong = ((source * 1.0) @ queue.ring["rows"].nan_to_num_().T).sum()
    write(queue, [6])
    with pytest.raises(RuntimeError, match="inplace"):
        wrong.backward()


def test_trap_10_rows_that_are_not_finite_are_no_negatives() -> None:
    """They take their slot, count as rejected, and poison nothing, before or after a restore."""
    queue = fresh(6)
    rows, tags = numbered(range(4))
    rows[1, 0], rows[2, 2] = torch.nan, -torch.inf
    queue.stage(rows, tags)
    queue.commit(YES)
    q, own = numbered([9])
    assert not (q @ rows.T).logsumexp(1).isfinite()  # the wrong variant: stored as it is
    for store in (queue, fresh(6)):
        store.load_state(queue.state())
        attended = store.attend(q, 1.0, Hide(own.ids_B))
        assert float(attended.count_B) == 2
        torch.testing.assert_close(attended.lse_B, (q @ rows[[0, 3]].T).logsumexp(1))
        assert int(store.metrics()["rejected"]) == 2
        assert float(store.metrics()["filled"]) == pytest.approx(2 / 6)
    queue.stage(torch.full((1, 3), torch.nan), Tags(torch.tensor([7])))
    queue.commit(NO)
    assert int(queue.rejected) == 2


def test_trap_09_25_bf16_rows_are_rounded_once_and_stay() -> None:
    """Norms within a unit in the last place; storage does not follow autocast."""
    queue = Queue(8, 128)
    rows = torch.nn.functional.normalize(numbered(range(8), 128)[0], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        queue.stage(rows, Tags(torch.arange(8)))
        queue.commit(YES)
    stored = queue.ring["rows"]
    assert stored.dtype == torch.bfloat16 and torch.equal(stored, rows.bfloat16())
    assert bool(((stored.float().norm(dim=1) - 1).abs() < 2**-8).all())
    # The wrong variant: normalised after the cast, rounded twice.
    late = torch.nn.functional.normalize((1e3 * rows).bfloat16(), dim=1)
    assert float((late.float() - rows).norm()) > 1.2 * float((stored.float() - rows).norm())


def test_trap_25_fp32_storage_under_autocast_and_moves() -> None:
    """The dtype stays, and so do contents and count on a move."""
    queue = fresh(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        write(queue, range(13))
    queue.to(torch.device("cpu"))
    queue.to(torch.device("cpu"))
    assert holds(queue, range(5, 13))
    assert queue.num_bytes() == 8 * (3 * 4 + 8 + 4 + 4)


def test_trap_26_the_count_lives_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither reading nor writing makes the host wait, whatever is kept, hidden or too old."""
    queue = fresh(10, max_age=7)
    q, tags = numbered(range(4))
    monkeypatch.setattr(host, "on_host", lambda tensor: False)
    monkeypatch.setattr("genmem.attention.passes.on_host", lambda tensor: False)
    with no_host_synchronisation():
        for keep in (YES, NO, YES, YES):
            queue.attend(q, 1.0, Hide(tags.ids_B, tags.label_B, tags.t_B, 0.5))
            queue.stage(q, tags)
            queue.commit(keep)
            queue.metrics()
    assert isinstance(queue.total, Tensor) and int(queue.total) == 12
    with no_host_synchronisation(), pytest.raises(AssertionError, match="wait for the device"):
        queue.state()  # the wrong variant: a count on the host


@pytest.mark.parametrize("written", [0, 4, 10, 23])
def test_trap_27_ages_are_rows_written_since(written: int) -> None:
    """(total - 1 - number), the mean of it over what is held; and not the slot's own number."""
    queue = fresh(10)
    for start in range(0, written, 3):
        write(queue, range(start, min(start + 3, written)))
    held = [*range(written)][-10:]
    number = {number % 10: number for number in held}
    expected = [written - 1 - number[slot] for slot in sorted(number)]
    assert queue.ages()[: len(held)].tolist() == expected
    mean = sum(expected) / max(1, len(expected))
    assert float(queue.metrics()["age"]) == pytest.approx(mean)
    wrong = [written - 1 - slot for slot in sorted(number)]  # a slot taken for a row's number
    assert (wrong == expected) == (written <= 10)


@pytest.mark.parametrize("max_age", [1, 4, 10, 99])
def test_rows_that_are_too_old_do_not_count(max_age: int) -> None:
    """As a queue of that length; they are kept, and count again where they may be older."""
    queue, short = fresh(10, max_age=max_age), fresh(min(10, max_age))
    assert queue.num_rows == min(10, max_age)
    for ids in (range(2), range(2, 9), range(9, 23)):
        write(queue, ids)
        write(short, ids)
        q, own = numbered(range(5, 12))
        for one, other in zip(
            queue.attend(q, 2.0, Hide(own.ids_B)), short.attend(q, 2.0, Hide(own.ids_B)), strict=True
        ):
            torch.testing.assert_close(one, other)
    assert holds(queue, range(13, 23))
    assert float(queue.metrics()["filled"]) == pytest.approx(min(10, max_age) / 10)
