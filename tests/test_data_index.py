"""Indexes and tars: ours read like anybody's, and what is wrong with a tar is named."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from data_fakes import SEVEN, fill, shape_latent, write_split
from webdataset.autodecode import basichandlers

from genmem.data.errors import DataError
from genmem.data.format.index import load_index
from genmem.data.format.scanning import scan_shard
from genmem.data.format.writer import write_shard


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=values.dtype.hasobject)
    return stream.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


ONE = npy(np.arange(4, dtype=np.float32))


def test_offsets_sizes_and_checksums_are_tarfiles_own(tmp_path: Path) -> None:
    shards = write_split(tmp_path, SEVEN, views=2)
    number = 0
    for shard in shards.manifest.shards:
        with tarfile.open(tmp_path / shard.name) as tar:
            for member in tar:
                key, field = member.name.split(".", 1)
                place = shards.index.fields[field]
                n = int(key)
                assert shards.index.key_N[n] == key.encode()
                assert (place.offset_N[n], place.size_N[n]) == (member.offset_data, member.size)
                body = tar.extractfile(member)
                assert body is not None and zlib.crc32(body.read()) == place.crc_N[n]
                number += 1
    assert number == sum(SEVEN) * 5


def test_webdataset_reads_what_we_wrote(tmp_path: Path) -> None:
    shards = write_split(tmp_path, SEVEN, views=2)
    urls = [str(tmp_path / shard.name) for shard in shards.manifest.shards]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode(pre=[], post=[basichandlers]))
    assert [sample["__key__"] for sample in theirs] == [f"{n:08d}" for n in range(40)]
    numbers = np.arange(40)
    for view, suffix in enumerate(("", ".mirror")):
        x = shards.read("x", numbers, np.full(40, view))
        near = shards.read("near", numbers, np.full(40, view))
        assert np.array_equal(np.stack([sample[f"x{suffix}.npy"] for sample in theirs]), x)
        assert np.array_equal(np.stack([sample[f"near{suffix}.npy"] for sample in theirs]), near)
    assert [sample["cls"] for sample in theirs] == shards.labels(numbers).tolist()


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_split(tmp_path / name, (4, 3))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["000000.tar", "000001.tar", "index.npz", "manifest.json"]
    for name in names:
        a, b = ((tmp_path / folder / name).read_bytes() for folder in "ab")
        assert hashlib.sha256(a).digest() == hashlib.sha256(b).digest()


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_other_tars_are_read_long_names_and_folders_included(tmp_path: Path, format: int) -> None:
    key = "folder/" + "k" * (80 if format == tarfile.USTAR_FORMAT else 150)
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w", format=format) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in ((f"./{key}.cls", b"7"), (f"./{key}.x.npy", ONE)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 0.5 if format == tarfile.PAX_FORMAT else 0
            tar.addfile(info, io.BytesIO(data))
    index = scan_shard(path)
    assert index.key_N.tolist() == [key.encode()]
    assert index.label_N.tolist() == [7]
    assert path.read_bytes()[index.fields["x.npy"].offset_N[0] :].startswith(ONE)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "holds no samples"),
        ([("a.v2.cls", b"1")], "member 'a.v2.cls': 'v2.cls' is no field that is read"),
        ([("a.pyd", b"1")], "'pyd' is no field that is read"),
        ([("a.pth", b"1")], "'pth' is no field that is read"),
        ([("a", b"1")], "member 'a': expected a key"),
        ([("../a.cls", b"1")], "member '../a.cls': expected a key"),
        ([("/a.cls", b"1")], "member '/a.cls': expected a key"),
        ([("a.cls", b"1"), ("a.cls", b"2")], "sample 'a': field 'cls' is there twice"),
        (
            [("a.cls", b"1"), ("b.cls", b"1"), ("a.x.npy", ONE)],
            "sample 'a': its members do not stand together",
        ),
        (
            [("a.cls", b"1"), ("a.x.npy", ONE), ("b.cls", b"1")],
            r"sample 'b': has \['cls'\], the first sample has",
        ),
        ([("a.cls", b"one")], "sample 'a': cls: expected a class number, found b'one'"),
        ([("a.cls", b"9" * 100)], "sample 'a': cls: expected a class number"),
        ([("a.x.npy", b"no npy at all")], "sample 'a': x.npy: not an npy array"),
        ([("a.x.npy", ONE[:-1])], "sample 'a': x.npy: 143 bytes, but its header announces 144"),
        ([("a.x.npy", npy(np.array([{}])))], "sample 'a': x.npy: an array of object; only plain numbers"),
        ([("a.x.npy", npy(np.ones((2, 3), order="F")))], "sample 'a': x.npy: an array in Fortran order"),
        (
            [("a.x.npy", ONE), ("b.x.npy", npy(np.arange(5, dtype=np.float32)))],
            r"sample 'b': x.npy: <f4 \(5,\), the first sample's is <f4 \(4,\)",
        ),
        (
            [("a.x.npy", npy(np.ones((2, 3)))), ("b.x.npy", npy(np.ones((3, 2))))],
            r"sample 'b': x.npy: <f8 \(3, 2\), the first sample's is <f8 \(2, 3\)",
        ),
    ],
)
def test_what_is_wrong_with_a_tar_is_named(
    tmp_path: Path, members: list[tuple[str, bytes]], message: str
) -> None:
    path = write_tar(tmp_path / "bad.tar", members)
    with pytest.raises(DataError, match=message) as caught:
        scan_shard(path)
    assert str(path) in str(caught.value)


def test_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.cls")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DataError, match=r"member 'a.cls' is neither a file nor a folder"):
        scan_shard(path)


def test_every_truncation_is_found_without_a_manifest(tmp_path: Path) -> None:
    """webdataset and tarfile end silently at many of these points."""
    path = tmp_path / "a.tar"
    write_shard(path, 0, {"x": np.zeros((3, 2, 4, 4), np.float16)}, np.zeros(3, np.int64))
    whole = path.read_bytes()
    # Tars are padded with zeros beyond the two blocks that end them.
    end = len(whole.rstrip(b"\0"))
    end += -end % 512
    cut = tmp_path / "cut.tar"
    for size in range(0, end + 1024, 97):
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut.tar: (truncated|holds no samples)"):
            scan_shard(cut)
    cut.write_bytes(whole[: end + 1024])
    assert len(scan_shard(cut)) == 3


def test_a_flipped_byte_in_a_header_is_found_without_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, 0, {"x": np.zeros((2, 2, 4, 4), np.float16)})
    whole = bytearray(path.read_bytes())
    for place in range(0, 512, 7):
        whole[place] ^= 0x15
        path.write_bytes(whole)
        with pytest.raises(DataError, match=r"a.tar"):
            scan_shard(path)
        whole[place] ^= 0x15


def test_an_index_that_was_changed_or_compressed_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, (3, 2))
    path = tmp_path / "index.npz"
    whole = path.read_bytes()
    for broken in (whole[:-30], whole[:100], b"", b"PK"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"index.npz: damaged"):
            load_index(tmp_path)
    for body in (bytes(10_000_000), np.random.default_rng(0).bytes(5000)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("key.npy", body)
        with pytest.raises(DataError, match=r"key.npy is compressed or larger than its file"):
            load_index(tmp_path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("key.npy", npy(np.array([{}], object)))
    with pytest.raises(DataError, match="only plain numbers are read"):
        load_index(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"index.npz: missing"):
        load_index(tmp_path)


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    x = np.zeros((3, 2, 4, 4), np.float16)
    with pytest.raises(DataError, match="fields of one length above 0"):
        write_shard(tmp_path / "a.tar", 0, {"x": x}, np.zeros(2, np.int64))
    with pytest.raises(ValueError):
        write_shard(tmp_path / "a.tar", 0, {"x": x}, np.array(["1", "2", "cat"]))
    assert list(tmp_path.iterdir()) == []


def test_fields_of_all_shards_must_be_alike(tmp_path: Path) -> None:
    from genmem.data.format.index import join_indexes

    arrays = fill(4, shape_latent())
    write_shard(tmp_path / "a.tar", 0, arrays)
    write_shard(tmp_path / "b.tar", 4, {"x": arrays["x"]})
    write_shard(tmp_path / "c.tar", 4, arrays | {"x": arrays["x"].astype(np.float32)})
    indexes = [scan_shard(tmp_path / f"{name}.tar") for name in "abc"]
    for other in indexes[1:]:
        with pytest.raises(DataError, match="begin with samples '00000000' and '00000004' differ"):
            join_indexes([indexes[0], other])
