"""Planted attacks: nothing in a set is executed, followed, or believed about its size."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_fakes import write_split

from genmem.data.errors import DataError
from genmem.data.format.index import load_index
from genmem.data.format.manifest_file import load_manifest
from genmem.data.format.npy import split_header
from genmem.data.format.scanning import scan_shard
from genmem.data.format.verification import verify_split
from genmem.data.streaming.shards import ShardSet

END = bytes(1024)


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def header(name: str, size: bytes, kind: bytes = b"0", link: str = "") -> bytes:
    """A tar header with a right checksum and any lie in it."""
    info = tarfile.TarInfo(name)
    info.linkname = link
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[156:157] = size.ljust(12, b"\0"), kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, body: bytes, kind: bytes = b"0", link: str = "") -> bytes:
    return header(name, b"%011o" % len(body), kind, link) + body + bytes(-len(body) % 512)


def npy(descr: str, shape: str, body: bytes = b"", fortran: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def refuse(path: Path, content: bytes, message: str) -> None:
    """Scanning names what is wrong, at once and without reserving what was announced."""
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message) as caught:
        scan_shard(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 4_000_000 + len(content)


@pytest.mark.parametrize("field", ["x.npy", "x.pyd", "x.pkl", "x.pickle", "pth", "x.npz", "pt", "tar", "gz"])
def test_pickles_are_not_loaded_whatever_their_name(tmp_path: Path, field: str) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(tmp_path / "sprung")], object), allow_pickle=True)
    for body in (stream.getvalue(), pickle.dumps(Trap(tmp_path / "sprung"))):
        refuse(
            tmp_path / "a.tar", member(f"a.{field}", body) + END, r"only plain numbers|not an npy|no field"
        )
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name",
    ["../a.cls", "a/../../b.cls", "/etc/a.cls", "..\\a.cls", "C:\\a.cls", "a\nb.cls", "a b.cls", "|ls.cls"],
)
def test_names_that_lead_elsewhere_are_refused_or_only_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.tar"
    path.write_bytes(member(name, b"1") + END)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"a.tar: member '.*': expected a key"):
        scan_shard(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"7", b"S", b"K", b"V", b"M"])
def test_links_devices_pipes_and_sparse_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    content = member("a.cls", b"1", kind, "/etc/passwd") + END
    refuse(tmp_path / "a.tar", content, "member 'a.cls' is neither a file nor a folder")


def test_sparse_files_in_the_posix_form_are_refused(tmp_path: Path) -> None:
    record = b"24 GNU.sparse.size=9999\n"
    assert len(record) == 24
    content = member("PaxHeader", record, b"x") + member("a.cls", b"1") + END
    refuse(tmp_path / "a.tar", content, "a member at byte 0 is sparse")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (b"77777777777", "truncated: a member at byte 0 needs 8589935103 bytes"),
        (b"\x80" + b"\xff" * 11, "truncated: a member at byte 0 needs"),
        (b"\xff" * 12, "truncated: a member at byte 0 needs"),
        (b"-0000001000", "holds b'-0000001000' where a number belongs"),
        (b"-1", "holds b'-1' where a number belongs"),
        (b"0x10", "where a number belongs"),
        (b"1_0", "where a number belongs"),
        (b"", "holds b'' where a number belongs"),
    ],
)
def test_sizes_that_lie_are_refused(tmp_path: Path, size: bytes, message: str) -> None:
    """A negative one would lead back to its own header for ever."""
    refuse(tmp_path / "a.tar", header("a.cls", size) + b"1" + bytes(511) + END, message)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"9999 size=1\n", "cannot be read"),
        (b"0 size=1\n", "cannot be read"),
        (b"-5 size=1\n", "for a number"),
        (b"9" * 5000 + b" size=1\n", "for a number"),
        (b"5019 size=" + b"9" * 5008 + b"\n", "for a number"),
        ("12 size=٣\n".encode(), "for a number|cannot be read"),
        (b"27 size=999999999999999999\n", "truncated: a member at byte 1024 needs"),
        (b"1" * 70_000, "has 70000 bytes"),
    ],
)
def test_extended_headers_that_lie_are_refused(tmp_path: Path, record: bytes, message: str) -> None:
    content = member("PaxHeader", record, b"x") + member("a.cls", b"1") + END
    refuse(tmp_path / "a.tar", content, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("'<f4'", "(1000000000000, 1000)"), "header announces"),
        (npy("'<f4'", "(-2, -2)", bytes(16)), r"its shape is \(-2, -2\)"),
        (npy("'<f4'", "(" + "9" * 500 + ",)"), "announces"),
        (npy("'<f4'", "(" * 300 + ")" * 300), "not an npy array"),
        (npy("'<f4'", "2"), "not an npy array"),
        (npy("'<f4'", "(1.5,)"), "not an npy array"),
        (npy("'O'", "(1,)", bytes(8)), "only plain numbers"),
        (npy("'<U8'", "(1,)", bytes(32)), "only plain numbers"),
        (npy("'V8'", "(1,)", bytes(8)), "only plain numbers"),
        (npy("[('a', '<f4')]", "(1,)", bytes(4)), "only plain numbers"),
        (npy("'<c8'", "(1,)", bytes(8)), "only plain numbers"),
        (npy("__import__('os').mkdir('sprung')", "(1,)", bytes(4)), "not an npy array"),
        (npy("'<f4'", "(2, 2)", bytes(16), "True"), "Fortran order"),
        (b"\x93NUMPY\x01\x00\xff\xff", "not an npy array"),
        (b"\x93NUMPY\x09\x09" + bytes(100), "not an npy array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(100), "not an npy array"),
        (b"", "not an npy array"),
    ],
)
def test_arrays_that_lie_are_refused_before_anything_is_reserved(
    tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse(tmp_path / "a.tar", member("a.x.npy", content) + END, message)
    assert not (tmp_path / "sprung").exists()


def test_a_compressed_tar_is_no_tar_and_is_not_unpacked(tmp_path: Path) -> None:
    refuse(tmp_path / "a.tar", gzip.compress(bytes(50_000_000)), r"a.tar: (damaged|truncated)")


def test_members_of_an_index_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A thousand names for one array would unfold to a thousand of it."""
    write_split(tmp_path, (2,))
    path, body = tmp_path / "index.npz", npy("'<i8'", "(1000,)", bytes(8000))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("key.npy", body)
        first = file.infolist()[0]
        for _ in range(1000):
            copy = zipfile.ZipInfo("key.npy")
            copy.header_offset, copy.CRC = first.header_offset, first.CRC
            copy.file_size = copy.compress_size = first.file_size
            file.filelist.append(copy)
    with pytest.raises(DataError, match="compressed or larger than its file"):
        load_index(tmp_path)


@pytest.mark.parametrize(
    "name", ["pipe:ls.tar", "../000000.tar", "/root/a.tar", "a/b.tar", "a.tar.gz", "s3://b/a.tar"]
)
def test_a_shards_name_is_a_plain_name(tmp_path: Path, name: str) -> None:
    write_split(tmp_path, (2,))
    path = tmp_path / "manifest.json"
    table = json.loads(path.read_text())
    table["shards"][0]["name"] = name
    path.write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"shards\[0\].name: expected a plain file name"):
        ShardSet.open(tmp_path)


def test_a_manifest_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    os.truncate(tmp_path / "manifest.json", 1 << 40)
    with pytest.raises(DataError, match="1099511627776 bytes; a manifest has at most"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("shape", [[2, 9**9, 9**9], [1 << 40, 1 << 40, 1 << 40]])
def test_a_form_that_no_record_has_is_refused_before_anything_is_reserved(
    tmp_path: Path, shape: list[int]
) -> None:
    write_split(tmp_path, (2,))
    path = tmp_path / "manifest.json"
    table = json.loads(path.read_text())
    table["latent"] |= {"shape": shape, "scale": [1.0], "shift": [0.0]}
    path.write_text(json.dumps(table))
    with pytest.raises(DataError, match=r"sample '00000000': x.npy: 192 bytes, float16 .* takes"):
        ShardSet.open(tmp_path)


def test_noise_in_place_of_anything_is_an_error_that_is_ours(tmp_path: Path) -> None:
    """Bytes changed at random: whatever happens, it is a DataError, and it comes to an end."""
    write_split(tmp_path, (3, 2), views=2)
    rng = random.Random(0)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = 0
    for turn in range(100):
        path = rng.choice(sorted(whole))
        broken = bytearray(whole[path])
        for _ in range(rng.choice([1, 3, 30])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
        try:
            shards = ShardSet.open(tmp_path, check=True)
            for field in ("x", "near"):
                shards.read(field, np.arange(5), np.full(5, turn % 2))
        except DataError:
            found += 1
        with contextlib.suppress(DataError):
            # No hash tells of a manifest that still makes sense.
            assert verify_split(tmp_path) or path.name == "manifest.json"
        for other, content in whole.items():
            other.write_bytes(content)
    assert found > 50


def test_random_headers_are_arrays_or_errors_that_are_ours() -> None:
    rng, good = random.Random(1), npy("'<f4'", "(3,)", bytes(12))
    for _ in range(3000):
        broken = bytearray(good)
        for _ in range(rng.choice([1, 2, 8])):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            head, form = split_header(memoryview(bytes(broken)), "here")
        except DataError:
            continue
        assert len(head) + np.dtype(form.dtype).itemsize * int(np.prod(form.shape)) == len(broken)
