"""Fields read in one go: joined where that saves a call, and every value the one that was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_fakes import fill, shape_latent, write_split

from genmem.data.format.manifest import Form
from genmem.data.streaming.reading import plan_stretches
from genmem.data.streaming.shards import ShardSet

FORMS = {"a": Form("float16", (3,)), "b": Form("float64", (2, 2)), "c": Form("int8", (5,))}


def test_fields_that_keep_their_distance_are_read_together() -> None:
    start = np.array([1000, 9000, 5000])
    (one,) = plan_stretches({"b": start + 100, "a": start, "c": start + 4200}, FORMS)
    assert one.offset_B.tolist() == start.tolist()
    assert (one.size, dict(one.place)) == (4205, {"a": 0, "b": 100, "c": 4200})
    raw = one.reserve()
    assert raw.shape[1] >= 4205 and raw.shape[1] % 16 == 0
    assert [one.lost(found, FORMS) for found in (0, 5, 6, 131, 132, 4204)] == ["a", "a", "b", "b", "c", "c"]


@pytest.mark.parametrize(
    "offset",
    [np.array([100, 200, 301]), np.array([6, 6, 6]) + 4200, np.array([5, 5, 5]), np.array([-16, -16, -16])],
)
def test_fields_that_do_not_or_lie_far_apart_are_read_alone(offset: np.ndarray) -> None:
    start = np.array([1000, 1100, 1200])
    other = offset if offset[0] == 100 else start + offset
    assert len(plan_stretches({"a": start, "b": other}, FORMS)) == 2
    assert plan_stretches({"a": start[:0], "b": start[:0]}, FORMS)


def test_a_field_at_an_odd_place_is_read_all_the_same() -> None:
    (one,) = plan_stretches({"a": np.array([0, 50]), "b": np.array([7, 57])}, FORMS)
    raw = np.arange(2 * one.reserve().shape[1], dtype=np.uint8).reshape(2, -1)
    expected = np.stack([np.frombuffer(row[7:39].tobytes(), np.float64).reshape(2, 2) for row in raw])
    assert np.array_equal(one.values(raw, "b", FORMS["b"]), expected)


@pytest.mark.parametrize("views", [1, 2])
def test_together_or_alone_the_values_are_the_same(tmp_path: Path, views: int) -> None:
    """With two views the fields of one view lie at other distances than those of the other."""
    write_split(tmp_path, (6, 1, 4), views=views)
    arrays = fill(11, shape_latent(), views)
    shards = ShardSet.open(tmp_path, check=True)
    rng = np.random.default_rng(0)
    for count in (0, 1, 30):
        number_B, view_B = rng.integers(0, 11, count), rng.integers(0, views, count)
        both = shards.read_fields(("x", "near"), number_B, view_B)
        for field in ("x", "near"):
            stored = (
                np.stack([arrays[field], arrays[f"{field}.mirror"]]) if views == 2 else arrays[field][None]
            )
            assert np.array_equal(both[field], stored[view_B, number_B])
            assert np.array_equal(shards.read(field, number_B, view_B), both[field])
