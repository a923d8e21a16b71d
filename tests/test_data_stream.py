"""The stream: a pure function of the step, whatever ranks, workers and micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_fakes import SEVEN, fill, shape_latent, write_split

from genmem.contracts import Batch, MemoryStore
from genmem.data.streaming.order import permute_epoch
from genmem.data.streaming.shards import ShardSet
from genmem.data.streaming.stream import Stream
from genmem.draws import Draws

TOTAL = sum(SEVEN)
SPEC = shape_latent()
MOMENTS = shape_latent(moments=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_split(tmp_path_factory.mktemp("stream"), SEVEN, views=2)


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_split(tmp_path_factory.mktemp("moments"), SEVEN, spec=MOMENTS, views=2)


class Memory(MemoryStore):
    """Fetches number and view; a silent one has nothing to fetch."""

    width = 2
    num_rows = TOTAL

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent

    def to(self, device: torch.device) -> None:
        pass

    def fetch(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray | None:
        return None if self.silent else np.stack([index_B, view_B], 1).astype(np.float32)


def flatten(batches: list[Batch]) -> dict[str, torch.Tensor]:
    columns: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, value in batch._asdict().items():
            for key, tensor in value.items() if isinstance(value, Mapping) else [("", value)]:
                columns.setdefault(f"{name}/{key}", []).append(tensor)
    return {name: torch.cat(parts) for name, parts in columns.items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_is_what_order_shards_and_spec_say(shards: ShardSet) -> None:
    arrays = fill(TOTAL, SPEC, 2)
    batch = flatten(Stream(shards, SPEC, seed=3, batch=32, memories={"m": Memory()}).batches(2))
    order = np.concatenate([permute_epoch(3, epoch, SEVEN) for epoch in range(3)])[64:96]
    assert batch["index_B/"].tolist() == order.tolist()
    assert batch["round_B/"].tolist() == [(64 + i) // TOTAL for i in range(32)]
    assert batch["label_B/"].tolist() == (order % 10).tolist()
    view = batch["view_B/"].numpy()
    stored = np.stack([arrays["x"], arrays["x.mirror"]])[view, order].astype(np.float64)
    scale, shift = (np.array(values).reshape(1, 2, 1, 1) for values in (SPEC.scale, SPEC.shift))
    assert batch["x/"].dtype == torch.float32
    np.testing.assert_allclose(batch["x/"].numpy(), stored * scale + shift, rtol=1e-6)
    assert batch["features/near"].tolist() == np.stack([order, view], 1).tolist()
    assert batch["fetched/m"].tolist() == np.stack([order, view], 1).tolist()


@pytest.mark.parametrize(("lanes", "window"), [(1, None), (6, 2)])
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_workers_and_micro_batches_change_nothing(
    moments: ShardSet, world: int, workers: int, lanes: int, window: int | None
) -> None:
    def start(rank: int, world: int, **more: Any) -> Stream:
        dealt = {"lanes": lanes, "window": window, "memories": {"m": Memory()}}
        return Stream(moments, MOMENTS, seed=1, batch=12, rank=rank, world=world, **(dealt | more))

    alone = start(0, 1)
    ranks = [start(rank, world, micro_batch=2, workers=workers) for rank in range(world)]
    seen: list[tuple[int, int]] = []
    for step in range(2 * TOTAL // 12 + 1):
        expected = flatten(alone.batches(step))
        shares = [rank.batches(step) for rank in ranks]
        assert {len(share) for share in shares} == {12 // world // 2}
        assert same(flatten([batch for share in shares for batch in share]), expected)
        seen += zip(expected["round_B/"].tolist(), expected["index_B/"].tolist(), strict=True)
    for epoch in range(2):
        assert sorted(n for e, n in seen if e == epoch) == list(range(TOTAL))
    for stream in ranks:
        stream.close()


@pytest.mark.parametrize(("lanes", "worlds"), [(1, (4, 2, 3)), (6, (3, 1, 6))])
def test_killed_at_any_step_another_world_size_goes_on(
    shards: ShardSet, lanes: int, worlds: tuple[int, ...]
) -> None:
    def read(step: int, world: int) -> dict[str, torch.Tensor]:
        streams = [
            Stream(shards, SPEC, seed=1, batch=12, rank=r, world=world, lanes=lanes, window=2, workers=1)
            for r in range(world)
        ]
        batches = [batch for stream in streams for batch in stream.batches(step)]
        for stream in streams:
            stream.close()
        return flatten(batches)

    for step in range(5):
        first, *others = (read(step, world) for world in worlds)
        assert all(same(first, other) for other in others)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_step_depends_on_its_number_alone(moments: ShardSet, workers: int) -> None:
    stream = Stream(moments, MOMENTS, seed=7, batch=16, workers=workers)
    steps = [3, 4, 5, 0, 1, 9, 3, 100, 4, 4]
    found = [flatten(stream.batches(step)) for step in steps]
    stream.close()
    for step, batch in zip(steps, found, strict=True):
        fresh = flatten(Stream(moments, MOMENTS, seed=7, batch=16).batches(step))
        assert same(batch, fresh)


@pytest.mark.parametrize("micro_batch", [1, 3, 12])
def test_micro_batches_are_the_steps_rows_in_order(shards: ShardSet, micro_batch: int) -> None:
    batches = Stream(shards, SPEC, seed=2, batch=12, micro_batch=micro_batch).batches(1)
    assert [len(batch.x) for batch in batches] == [micro_batch] * (12 // micro_batch)
    assert same(flatten(batches), flatten(Stream(shards, SPEC, seed=2, batch=12).batches(1)))


def test_another_world_size_goes_on_with_the_same_stream(moments: ShardSet) -> None:
    def run(worlds: list[int]) -> dict[str, torch.Tensor]:
        batches = []
        for step, world in enumerate(worlds):
            for rank in range(world):
                batches += Stream(moments, MOMENTS, seed=1, batch=12, rank=rank, world=world).batches(step)
        return flatten(batches)

    assert same(run([1] * 7), run([3, 3, 3, 2, 2, 4, 6]))


def test_latent_feature_and_memory_share_one_coin_per_sample_and_epoch(shards: ShardSet) -> None:
    stream = Stream(shards, SPEC, seed=0, batch=TOTAL, memories={"m": Memory()})
    views = torch.zeros(50, TOTAL)
    for step in range(50):
        batch = flatten(stream.batches(step))
        stored = (batch["x/"][:, 0, 0, 0] + 1) / 0.5
        assert torch.equal((stored >= 1000).long(), batch["view_B/"])
        assert torch.equal(batch["features/near"][:, 1].long(), batch["view_B/"])
        assert torch.equal(batch["fetched/m"][:, 1].long(), batch["view_B/"])
        views[step, batch["index_B/"]] = batch["view_B/"].float()
    # 2,000 coins: within five deviations of a half; every sample shows both sides, no epoch is one-sided.
    assert abs(views.mean() - 0.5) < 5 * 0.5 / 2000**0.5
    assert ((views.mean(0) > 0.1) & (views.mean(0) < 0.9)).all()
    assert ((views.mean(1) > 0.1) & (views.mean(1) < 0.9)).all()


def test_one_view_may_be_asked_of_two(shards: ShardSet) -> None:
    batch = flatten(Stream(shards, SPEC, seed=0, batch=TOTAL, views=1).batches(0))
    assert not batch["view_B/"].any()


def test_the_posterior_is_drawn_with_the_samples_own_key(moments: ShardSet) -> None:
    arrays = fill(TOTAL, MOMENTS, 2)
    (batch,) = Stream(moments, MOMENTS, seed=5, batch=32).batches(3)
    noise = Draws(5, batch.index_B, batch.round_B).normal("posterior", (2, 4, 4)).double().numpy()
    stored = np.stack([arrays["x"], arrays["x.mirror"]])[batch.view_B, batch.index_B].astype(np.float64)
    scale, shift = (np.array(values).reshape(1, 2, 1, 1) for values in (MOMENTS.scale, MOMENTS.shift))
    expected = (stored[:, :2] + stored[:, 2:] * noise) * scale + shift
    np.testing.assert_allclose(batch.x.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_batch_of_gives_named_samples_and_the_posteriors_mean(moments: ShardSet) -> None:
    arrays = fill(TOTAL, MOMENTS, 2)
    stream = Stream(moments, MOMENTS, seed=5, batch=8)
    for view, suffix in enumerate(("", ".mirror")):
        batch = stream.batch_of([7, 3, 39], view)
        assert batch.index_B.tolist() == [7, 3, 39]
        assert batch.view_B.tolist() == [view] * 3
        assert batch.round_B.tolist() == [0] * 3
        mean = arrays[f"x{suffix}"][[7, 3, 39], :2].astype(np.float64)
        scale, shift = (np.array(values).reshape(1, 2, 1, 1) for values in (MOMENTS.scale, MOMENTS.shift))
        np.testing.assert_allclose(batch.x.numpy(), mean * scale + shift, rtol=1e-6)


def test_features_are_read_as_asked_and_silent_memories_left_out(shards: ShardSet) -> None:
    (batch,) = Stream(
        shards, SPEC, seed=0, batch=4, features=(), memories={"m": Memory(silent=True)}
    ).batches(0)
    assert batch.features == {} and batch.fetched == {}


def test_a_reading_thread_that_fails_is_heard(shards: ShardSet) -> None:
    class Broken(Memory):
        def fetch(self, index_B: np.ndarray, view_B: np.ndarray) -> np.ndarray | None:
            raise OSError("the bank is gone")

    stream = Stream(shards, SPEC, seed=0, batch=4, memories={"m": Broken()}, workers=2)
    for step in (0, 1):
        with pytest.raises(OSError, match="the bank is gone"):
            stream.batches(step)
    stream.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch": 10, "world": 3},
            "a batch of 10 cannot be shared by 3 processes; take 9 or 12",
        ),
        ({"lanes": 5}, "a batch of 12 cannot be shared by 5 lanes; take 10 or 15"),
        ({"lanes": 4, "world": 3}, "4 lanes cannot be shared by 3 processes; they can by 1, 2, 4"),
        ({"micro_batch": 5}, "of 5 does not divide the 12 samples .* would: 1, 2, 3, 4, 6, 12"),
        ({"micro_batch": 13}, "of 13 does not divide"),
        ({"views": 3}, "3 views asked for, the set has 2"),
        ({"features": ["far"]}, "no feature 'far'; there are \\['near'\\]"),
    ],
)
def test_what_does_not_fit_is_refused(shards: ShardSet, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stream(shards, SPEC, **({"seed": 0, "batch": 12} | changes))


def test_an_empty_split_serves_named_samples_only(tmp_path: Path) -> None:
    empty = write_split(tmp_path, (), arrays={"x": np.zeros(0)})
    stream = Stream(empty, SPEC, seed=0, batch=1)
    assert stream.batch_of([]).x.shape == (0, 2, 4, 4)
    with pytest.raises(ValueError, match="without samples"):
        stream.batches(0)
