"""Threads that work ahead: what they make is what was asked for, and what fails is heard."""

from __future__ import annotations

import threading

import pytest

from genmem.data.streaming.readahead import Prefetch, ReadAhead


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_results_are_those_of_the_steps_asked_for(workers: int) -> None:
    ahead = ReadAhead(lambda step: step * step, workers)
    steps = [0, 1, 2, 7, 8, 3, 3, 100, 0]
    for step in steps:
        assert ahead.take(step) == step * step
        assert len(ahead._ahead) <= workers
    ahead.close()


def test_no_more_is_made_ahead_than_there_are_workers() -> None:
    made: list[int] = []
    ahead = ReadAhead(made.append, 2)
    ahead.take(5)
    ahead.close()
    assert set(made) <= {5, 6, 7} and 5 in made


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_an_error_is_raised_in_the_step_it_belongs_to_and_no_other(workers: int) -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("step 2") from OSError("the cause")
        return step

    ahead = ReadAhead(make, workers)
    assert [ahead.take(0), ahead.take(1)] == [0, 1]
    for _ in range(2):
        with pytest.raises(ValueError, match="step 2") as caught:
            ahead.take(2)
        assert isinstance(caught.value.__cause__, OSError)
    assert ahead.take(3) == 3
    ahead.close()


def test_closing_waits_for_nothing_that_was_not_begun() -> None:
    release, begun = threading.Event(), []

    def make(step: int) -> None:
        begun.append(step)
        if step:
            release.wait(10)

    ahead = ReadAhead(make, 1)
    ahead.take(0)
    release.set()
    ahead.close()
    assert set(begun) <= {0, 1}


def settle(prefetch: Prefetch) -> None:
    assert prefetch._running is not None
    prefetch._running.result(timeout=10)


def test_every_step_up_to_the_horizon_is_fetched_once_in_order() -> None:
    fetched: list[int] = []
    prefetch = Prefetch(fetched.append, 3)
    for step in (0, 1, 2):
        prefetch.advance(step)
        settle(prefetch)
        assert fetched == list(range(step + 4))
    # Going on from somewhere else, forwards or back, begins there.
    prefetch.advance(50)
    settle(prefetch)
    assert fetched[6:] == [50, 51, 52, 53]
    prefetch.advance(10)
    settle(prefetch)
    prefetch.close()
    assert fetched[10:] == [10, 11, 12, 13]


def test_what_goes_wrong_while_fetching_is_raised_in_the_next_step() -> None:
    def fail(step: int) -> None:
        raise RuntimeError(f"no step {step}")

    prefetch = Prefetch(fail, 2)
    prefetch.advance(0)
    with pytest.raises(RuntimeError):
        settle(prefetch)
    with pytest.raises(RuntimeError, match="no step 0"):
        prefetch.advance(1)
    prefetch.close()


def test_closing_ends_a_thread_that_has_much_before_it() -> None:
    reached = threading.Event()
    fetched: list[int] = []

    def fetch(step: int) -> None:
        fetched.append(step)
        reached.set()
        threading.Event().wait(0.001)

    prefetch = Prefetch(fetch, 1_000_000)
    prefetch.advance(0)
    assert reached.wait(10)
    prefetch.close()
    assert len(fetched) < 100_000
