"""Reading shards: what was written comes back, and damage is named with shard and sample."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
from data_fakes import SEVEN, fill, shape_latent, write_split

from genmem.data.dataset import Dataset
from genmem.data.errors import DataError
from genmem.data.files import hash_file
from genmem.data.format.index import join_indexes, save_index
from genmem.data.format.manifest import Manifest
from genmem.data.format.manifest_file import load_manifest
from genmem.data.format.verification import verify_split
from genmem.data.format.writer import describe_shard
from genmem.data.streaming.shards import ShardSet

TOTAL = sum(SEVEN)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound")
    write_split(path, SEVEN, views=2)
    return path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "set"))


def test_any_numbers_and_views_come_back_as_written(sound: Path) -> None:
    shards, arrays = ShardSet.open(sound), fill(TOTAL, shape_latent(), 2)
    rng = np.random.default_rng(0)
    for count in (0, 1, 2, 100):
        number_B, view_B = rng.integers(0, TOTAL, count), rng.integers(0, 2, count)
        for field in ("x", "near"):
            both = np.stack([arrays[field], arrays[f"{field}.mirror"]])
            read = shards.read(field, number_B, view_B)
            assert read.dtype == both.dtype
            assert np.array_equal(read, both[view_B, number_B])
            assert np.array_equal(shards.read(field, number_B), both[0, number_B])
    assert shards.labels(np.array([3, 17, 39])).tolist() == [3, 7, 9]


def test_records_need_not_be_evenly_spaced(tmp_path: Path) -> None:
    """Labels of one and of two hundred digits put the records of one shard at uneven distances."""
    import io
    import tarfile

    arrays, shards = fill(6, shape_latent()), write_split(tmp_path, (6,))
    with tarfile.open(tmp_path / "000000.tar") as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "000000.tar", "w") as tar:
        for i, (name, data) in enumerate(members):
            extra = [(name.replace("cls", "txt"), bytes(700 * i))] if name.endswith("cls") else []
            for member, body in [(name, data), *extra]:
                info = tarfile.TarInfo(member)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    shard, index = describe_shard(tmp_path / "000000.tar")
    save_index(join_indexes([index]), tmp_path)
    attrs.evolve(shards.manifest, shards=(shard,), index=hash_file(tmp_path / "index.npz")).save(tmp_path)
    again = ShardSet.open(tmp_path)
    assert len(set(np.diff(again.index.fields["x.npy"].offset_N))) > 1
    assert np.array_equal(again.read("x", np.arange(6)), arrays["x"])


def test_what_is_not_there_is_refused(sound: Path, tmp_path: Path) -> None:
    shards = ShardSet.open(sound)
    for numbers in ([-1], [0, TOTAL]):
        with pytest.raises(IndexError, match=f"there are {TOTAL}"):
            shards.read("x", np.array(numbers))
        with pytest.raises(IndexError):
            shards.labels(np.array(numbers))
    with pytest.raises(KeyError):
        shards.read("far", np.array([0]))
    with pytest.raises(IndexError, match="view 2 asked for, the set has 2"):
        shards.read("x", np.array([0]), np.array([2]))
    plain = write_split(tmp_path, (3,))
    with pytest.raises(IndexError, match="view 1 asked for, the set has 1"):
        plain.read("x", np.array([0]), np.array([1]))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x40
    path.write_bytes(data)


def truncate(path: Path, by: int = 512) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "000002.tar").unlink()
    with pytest.raises(DataError, match=r"000002.tar: missing, though manifest.json lists it"):
        ShardSet.open(folder)
    assert [d.file.name for d in verify_split(folder)] == ["000002.tar"]


def test_a_truncated_shard_is_named_when_opened(folder: Path) -> None:
    truncate(folder / "000004.tar")
    with pytest.raises(DataError, match=r"000004.tar: \d+ bytes, manifest.json says \d+: truncated"):
        ShardSet.open(folder)


def test_a_shard_truncated_while_the_set_is_open_is_named(folder: Path) -> None:
    shards = ShardSet.open(folder)
    truncate(folder / "000004.tar")
    with pytest.raises(DataError, match=r"000004.tar: \d+ bytes"):
        shards.read("x", np.arange(TOTAL))


def test_two_shards_of_one_size_swapped_are_found_by_reading(tmp_path: Path) -> None:
    write_split(tmp_path, (4, 4))
    first, second, aside = (tmp_path / name for name in ("000000.tar", "000001.tar", "aside"))
    first.rename(aside), second.rename(first), aside.rename(second)
    shards = ShardSet.open(tmp_path)
    with pytest.raises(
        DataError, match=r"000000.tar: sample '00000000': expected '00000000.cls' at byte 512"
    ):
        shards.read("x", np.array([1]))
    assert len(verify_split(tmp_path)) >= 2


def test_a_shard_of_another_set_is_found_by_verify(folder: Path, tmp_path: Path) -> None:
    other = {name: values + 1 for name, values in fill(TOTAL, shape_latent(), 2).items()}
    write_split(tmp_path / "other", SEVEN, views=2, arrays=other)
    shutil.copy(tmp_path / "other" / "000003.tar", folder / "000003.tar")
    found = verify_split(folder)
    assert {d.file.name for d in found} == {"000003.tar"}
    assert {d.sample for d in found} == {"00000015", "00000016", "00000017"}


def test_a_flipped_payload_byte_is_named_with_its_sample(folder: Path) -> None:
    place = int(ShardSet.open(folder).index.fields["x.npy"].offset_N[20])
    flip(folder / "000004.tar", place + 150)
    assert [(d.file.name, d.sample, d.problem) for d in verify_split(folder)] == [
        ("000004.tar", "00000020", "x.npy: its checksum differs")
    ]
    ShardSet.open(folder).read("x", np.arange(TOTAL))
    with pytest.raises(
        DataError, match=r"000004.tar: sample '00000020': x.npy: damaged: its checksum differs"
    ):
        ShardSet.open(folder, check=True).read("x", np.arange(TOTAL))


def test_checking_passes_what_is_sound(sound: Path) -> None:
    shards = ShardSet.open(sound, check=True)
    views = np.arange(TOTAL) % 2
    assert np.array_equal(
        shards.read("x", np.arange(TOTAL), views)[:, 0, 0, 0], np.arange(TOTAL) + 1000 * views
    )


def test_verify_finds_every_flipped_byte_and_names_the_sample(folder: Path) -> None:
    """200 bytes over a shard of three samples: in values, headers and padding."""
    path = folder / "000003.tar"
    whole = path.read_bytes()
    index = ShardSet.open(folder).index
    extents = {
        n: [(p.offset_N[n], p.offset_N[n] + p.size_N[n]) for p in index.fields.values()]
        for n in range(15, 18)
    }
    assert verify_split(folder) == []
    for place in np.linspace(0, len(whole) - 1, 200).astype(int).tolist():
        flip(path, place)
        owners = [n for n, ranges in extents.items() if any(a <= place < b for a, b in ranges)]
        found = verify_split(folder)
        assert [d.sample for d in found] == ([f"{owners[0]:08d}"] if owners else [""])
        assert found[0].file == path
        path.write_bytes(whole)


def test_verify_finds_every_truncation_and_names_the_first_lost_sample(folder: Path) -> None:
    path = folder / "000003.tar"
    whole = path.read_bytes()
    lost = ShardSet.open(folder).index.fields["x.npy"]
    for size in np.linspace(0, len(whole) - 1, 200).astype(int).tolist():
        path.write_bytes(whole[:size])
        found = verify_split(folder)
        assert f"{size} bytes, manifest.json says {len(whole)}" in found[0].problem
        gone = {f"{n:08d}" for n in range(15, 18) if lost.offset_N[n] + lost.size_N[n] > size}
        assert gone <= {d.sample for d in found}


def rewrite(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    change(load_manifest(folder)).save(folder)


def test_an_index_of_another_set_is_refused(folder: Path, tmp_path: Path) -> None:
    write_split(tmp_path / "other", (20, 20), views=2)
    shutil.copy(tmp_path / "other" / "index.npz", folder / "index.npz")
    with pytest.raises(DataError, match=r"index.npz: sha256 [0-9a-f]{64}, manifest.json says"):
        ShardSet.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: attrs.evolve(m, latent=m.latent._replace(shape=(4, 4, 2), scale=(1.0,), shift=(0.0,))),
            r"x.npy: the shards hold <f2 \(2, 4, 4\), manifest.json says float16 \(4, 4, 2\)",
        ),
        (lambda m: attrs.evolve(m, latent=m.latent._replace(dtype="int16")), "x.npy: the shards hold <f2"),
        (
            lambda m: attrs.evolve(m, latent=m.latent._replace(dtype="float32")),
            "sample '00000000': x.npy: 192 bytes",
        ),
        (
            lambda m: attrs.evolve(m, latent=m.latent._replace(shape=(2, 9**9, 9**9))),
            "sample '00000000': x.npy",
        ),
        (lambda m: attrs.evolve(m, features={"far": m.features["near"]}), "field 'far.npy' is missing"),
        (
            lambda m: attrs.evolve(m, class_names=("only",)),
            "sample '00000001': class 1, manifest.json names 1",
        ),
        (lambda m: attrs.evolve(m, class_names=()), "names 0 classes"),
        (lambda m: attrs.evolve(m, shards=m.shards[:-1]), "index.npz: 40 samples, manifest.json says 32"),
    ],
)
def test_a_manifest_that_contradicts_its_shards_is_refused(
    folder: Path, change: Callable[[Manifest], Manifest], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(DataError, match=message):
        ShardSet.open(folder)


def test_an_index_that_points_outside_is_refused(folder: Path) -> None:
    index = ShardSet.open(folder).index
    for number, offset in ((7, 1 << 60), (8, -5), (9, 100)):
        places = index.fields["near.npy"]
        wrong_N = places.offset_N.copy()
        wrong_N[number] = offset
        fields = {**index.fields, "near.npy": attrs.evolve(places, offset_N=wrong_N)}
        save_index(attrs.evolve(index, fields=fields), folder)
        rewrite(folder, lambda m: attrs.evolve(m, index=hash_file(folder / "index.npz")))
        with pytest.raises(DataError, match=f"sample '{number:08d}': near.npy: index.npz places it outside"):
            ShardSet.open(folder)


def test_an_empty_split_opens(tmp_path: Path) -> None:
    shards = write_split(tmp_path, (), arrays={"x": np.zeros(0)})
    assert len(shards) == 0
    assert shards.read("x", np.zeros(0, np.int64)).shape == (0, 2, 4, 4)
    assert verify_split(tmp_path) == []


def test_a_feature_is_read_in_either_view(tmp_path: Path) -> None:
    write_split(tmp_path / "train", SEVEN, views=2)
    write_split(tmp_path / "test", (4,), views=2, split="test")
    dataset, arrays = Dataset(tmp_path), fill(TOTAL, shape_latent(), 2)
    assert np.array_equal(dataset.feature("train", "near", 7, 20), arrays["near"][7:20])
    assert np.array_equal(dataset.feature("train", "near", 7, 20, 1), arrays["near.mirror"][7:20])
    with pytest.raises(IndexError, match="view 2 asked for"):
        dataset.feature("train", "near", 7, 20, 2)
