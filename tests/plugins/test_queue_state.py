"""The queue's state: what a resumed run finds again, by the traps' numbers."""

from __future__ import annotations

import pytest
import torch
from repulsor_parts import Brute, fresh, holds, numbered, write

from genmem.contracts import Hide
from genmem_repulsor.queue import Queue


@pytest.mark.parametrize("capacity", [4, 10, 30])
def test_trap_23_state_loads_at_another_capacity(capacity: int) -> None:
    """Saved in the middle of a wrap; the newest rows that fit, in order; then it goes on."""
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
@pytest.mark.parametrize("max_age", [None, 6])
def test_trap_23_a_restored_queue_goes_on_bit_for_bit(written: int, max_age: int | None) -> None:
    """Half filled, and in the middle of a wrap: the very same next value."""
    queue, other = fresh(10, max_age=max_age), fresh(10, max_age=max_age)
    write(queue, range(written))
    other.load_state(queue.state())
    q, own = numbered(range(20, 24))
    for _ in range(2):
        hide = Hide(own.ids_B, own.label_B)
        assert torch.equal(queue.attend(q, 3.0, hide).lse_B, other.attend(q, 3.0, hide).lse_B)
        write(queue, range(30, 33))
        write(other, range(30, 33))
    # The wrong variant: the slots as they lie, with the count begun anew.
    wrong = fresh(10, max_age=max_age)
    wrong.load_state(queue.state() | {"total": torch.tensor(0)})
    write(wrong, range(40, 45))
    write(queue, range(40, 45))
    assert int(wrong.total) != int(queue.total)


def test_trap_23_another_width_or_dtype_is_refused() -> None:
    """By name, both of them, with the way out; what is there stays."""
    queue = fresh(10, width=3)
    write(queue, range(3))
    other = fresh(10, width=4)
    write(other, range(2))
    with pytest.raises(ValueError, match=r'width 3, this one takes width 4.*resume = "refill"'):
        other.load_state(queue.state())
    assert holds(other, range(2))
    with pytest.raises(ValueError, match=r"float32, this one in torch\.bfloat16"):
        Queue(10, 3).load_state(queue.state())
    with pytest.raises(ValueError, match=r"\(1, 4\) for 1 samples do not fit a queue of width 3"):
        queue.stage(*numbered([1], width=4))


def test_trap_23_refill_starts_empty() -> None:
    """With the count of rows, whatever the saved ones look like."""
    queue, other = fresh(10), Queue(10, 4, "fp32", resume="refill")
    write(queue, range(13))
    other.load_state(queue.state())
    assert float(other.metrics()["filled"]) == 0 and int(other.total) == 13
    write(other, range(20, 24))
    assert holds(other, range(20, 24))


def test_trap_24_a_sample_seen_again_after_a_resume_is_no_negative_of_itself() -> None:
    """Its rows from before the interruption carry its number."""
    queue, other = fresh(10), fresh(10)
    write(queue, range(8))
    other.load_state(queue.state())
    write(other, [2, 3])  # the interrupted epoch goes on in another order
    q, own = numbered([2, 3])
    rows, tags = numbered([*range(8), 2, 3])
    expected = Brute(rows, tags.ids_B).attend(q, 2.0, Hide(own.ids_B))
    found = other.attend(q, 2.0, Hide(own.ids_B))
    torch.testing.assert_close(found.lse_B, expected.lse_B)
    assert found.count_B.tolist() == [8, 8]
    assert other.attend(q, 2.0).count_B.tolist() == [10, 10]  # the wrong variant
