"""The order plan: coverage, purity, windows, ranks, and that it really is a shuffle."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from data_fakes import SEVEN

from genmem.data.streaming.order import Order, permute_epoch, rank_positions

TOTAL = sum(SEVEN)


@pytest.mark.parametrize("window", [None, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("lanes", [1, 2, 6, 39, 50])
def test_every_epoch_holds_every_sample_once(window: int | None, lanes: int) -> None:
    for epoch in range(4):
        order = permute_epoch(3, epoch, SEVEN, window=window, lanes=lanes)
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(TOTAL))


def test_seeds_and_epochs_give_other_orders_and_the_same_give_the_same() -> None:
    orders = [tuple(permute_epoch(seed, epoch, SEVEN)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25
    assert tuple(permute_epoch(2, 3, SEVEN)) == orders[2 * 5 + 3]


def test_shuffle_is_uniform_over_permutations() -> None:
    """4! permutations over 4,800 epochs: a chi-square of 23 degrees of freedom, below its 99.9 % point."""
    seen = Counter(tuple(permute_epoch(0, epoch, (4,)).tolist()) for epoch in range(4800))
    assert len(seen) == math.factorial(4)
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 49.7


@pytest.mark.parametrize("window", [1, 2, 3])
def test_a_window_mixes_the_samples_of_its_shards_and_no_others(window: int) -> None:
    shard_of = np.repeat(np.arange(7), SEVEN)
    first_windows = set()
    for epoch in range(30):
        order, start = permute_epoch(9, epoch, SEVEN, window=window), 0
        left = set(range(7))
        for _ in range(math.ceil(7 / window)):
            # A window is as many whole shards as it has room for: the next samples tell which.
            members: set[int] = set()
            stop = start
            while stop < TOTAL and len(members | {int(shard_of[order[stop]])}) <= window:
                members.add(int(shard_of[order[stop]]))
                stop += 1
            assert members <= left and stop - start == sum(SEVEN[s] for s in members)
            if start == 0:
                first_windows.add(frozenset(members))
            left -= members
            start = stop
        assert not left
    assert len(first_windows) > 3


def test_samples_inside_a_window_are_permuted() -> None:
    inside = {tuple(permute_epoch(0, epoch, (6,), window=1)) for epoch in range(20)}
    assert len(inside) > 15


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [6, 12, 48])
def test_ranks_join_to_one_global_order_without_gap_or_overlap(world: int, batch: int) -> None:
    order = Order(SEVEN, seed=5)
    joined, epochs = [], []
    for step in range(3 * TOTAL // math.gcd(batch, TOTAL)):
        shares = [rank_positions(step, batch, rank, world) for rank in range(world)]
        assert {len(share) for share in shares} == {batch // world}
        for share in shares:
            epoch_B, number_B = order.locate(share)
            joined += number_B.tolist()
            epochs += epoch_B.tolist()
    assert epochs == [p // TOTAL for p in range(len(joined))]
    assert (
        joined
        == list(itertools.chain(*(permute_epoch(5, e, SEVEN) for e in range(max(epochs) + 1))))[: len(joined)]
    )
    for epoch in range(len(joined) // TOTAL):
        assert sorted(joined[epoch * TOTAL : (epoch + 1) * TOTAL]) == list(range(TOTAL))


def test_another_world_size_goes_on_with_the_same_stream() -> None:
    def stream(worlds: list[int]) -> list[int]:
        numbers = []
        for step, world in enumerate(worlds):
            for rank in range(world):
                numbers += Order(SEVEN, seed=1).locate(rank_positions(step, 12, rank, world))[1].tolist()
        return numbers

    assert stream([1] * 10) == stream([2] * 4 + [3] * 6)


def test_a_batch_may_span_several_epochs_and_only_two_stay_in_memory() -> None:
    order = Order(SEVEN, seed=0)
    epoch_B, number_B = order.locate(np.arange(10, 10 + 3 * TOTAL))
    assert set(epoch_B.tolist()) == {0, 1, 2, 3}
    epochs = [permute_epoch(0, epoch, SEVEN) for epoch in range(4)]
    assert np.array_equal(number_B, np.concatenate(epochs)[10 : 10 + 3 * TOTAL])
    assert len(order._epochs) == 2
    assert np.array_equal(order.locate(np.arange(5))[1], permute_epoch(0, 0, SEVEN)[:5])


def test_what_cannot_be_served_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match="a batch of 10 cannot be shared by 3 processes; take 9 or 12"):
        rank_positions(0, 10, 0, 3)
    with pytest.raises(ValueError, match="cannot be shared by 3 processes; take 3"):
        rank_positions(0, 2, 0, 3)
    with pytest.raises(ValueError, match="a batch of 10 cannot be shared by 6 lanes; take 6 or 12"):
        rank_positions(0, 10, 0, 1, lanes=6)
    with pytest.raises(ValueError, match=r"6 lanes cannot be shared by 4 processes; they can by 1, 2, 3, 6"):
        rank_positions(0, 12, 0, 4, lanes=6)
    with pytest.raises(ValueError, match="lanes must be 1 or more"):
        permute_epoch(0, 0, SEVEN, lanes=0)
    with pytest.raises(ValueError, match="window must be 1"):
        permute_epoch(0, 0, SEVEN, window=0)
    with pytest.raises(ValueError, match="without samples"):
        Order((), seed=0).locate(np.arange(1))


@pytest.mark.parametrize(("lanes", "worlds"), [(1, (1, 2, 3, 4)), (6, (1, 2, 3, 6)), (4, (1, 2, 4))])
def test_ranks_serve_whole_lanes_and_join_to_the_same_global_batch(
    lanes: int, worlds: tuple[int, ...]
) -> None:
    for step in range(5):
        alone = rank_positions(step, 12, 0, 1, lanes)
        assert sorted(alone.tolist()) == list(range(12 * step, 12 * step + 12))
        for world in worlds:
            shares = [rank_positions(step, 12, rank, world, lanes) for rank in range(world)]
            assert {len(share) for share in shares} == {12 // world}
            assert np.array_equal(np.concatenate(shares), alone)
            if lanes > 1:
                served = [{p % lanes for p in share.tolist()} for share in shares]
                assert sum(map(len, served)) == lanes


@pytest.mark.parametrize("window", [1, 2])
def test_a_lane_reads_its_windows_one_after_the_other(window: int) -> None:
    """Worked out by hand from the row of shards: cut at the sample, then `window` shards at a time."""
    lanes, shard_of = 3, np.repeat(np.arange(7), SEVEN)
    rows = set()
    for epoch in range(6):
        order = permute_epoch(4, epoch, SEVEN, window=window, lanes=lanes)
        position_N = epoch * TOTAL + np.arange(TOTAL)
        read: list[list[int]] = []
        for lane in range(lanes):
            shards = shard_of[order[position_N % lanes == lane]]
            # Shards of a window are mixed; windows are not: each is left for good.
            seen: list[int] = []
            for shard in shards.tolist():
                if shard not in seen:
                    seen.append(shard)
                assert seen.index(shard) // window == (len(seen) - 1) // window
            read.append(seen)
        # Every cut is in at most one shard, which two lanes read.
        assert sum(map(len, read)) <= 7 + lanes - 1
        rows.add(tuple(map(tuple, read)))
    assert len(rows) == 6


def test_lanes_get_equally_many_however_uneven_the_shards() -> None:
    for lanes in (2, 3, 6, 7):
        taken = np.zeros(lanes, int)
        for epoch in range(lanes):
            shares = np.bincount((epoch * TOTAL + np.arange(TOTAL)) % lanes, minlength=lanes)
            assert shares.max() - shares.min() <= 1
            taken += shares
        assert set(taken.tolist()) == {TOTAL}


def test_a_kill_at_any_step_and_other_world_sizes_lose_and_repeat_nothing() -> None:
    """The counter alone is kept: a fresh order goes on where the one before stopped."""
    lanes, batch, steps = 6, 12, 12
    whole = np.concatenate(
        [
            Order(SEVEN, seed=2, window=2, lanes=lanes).locate(rank_positions(s, batch, 0, 1, lanes))[1]
            for s in range(steps)
        ]
    )
    for killed in range(steps):
        numbers: list[int] = []
        for step in range(steps):
            world = 3 if step < killed else 2
            order = Order(SEVEN, seed=2, window=2, lanes=lanes)
            for rank in range(world):
                numbers += order.locate(rank_positions(step, batch, rank, world, lanes))[1].tolist()
        assert numbers == whole.tolist()
    # 144 positions are three epochs of 40 and a part of the fourth, though batches straddle their ends.
    order = Order(SEVEN, seed=2, window=2, lanes=lanes)
    epoch_B, number_B = order.locate(np.arange(batch * steps))
    for epoch in range(3):
        assert sorted(number_B[epoch_B == epoch].tolist()) == list(range(TOTAL))
    assert sorted(number_B.tolist()) == sorted(numbers)
