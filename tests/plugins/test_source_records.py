"""CIFAR-10's binary records, and WebDataset shards of pictures."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from source_parts import encode, pixels, tar_bytes, write_cifar, write_folder, write_tar

from genmem.contracts import UnreadablePicture
from genmem.testing import check_source
from genmem_sources import CifarConfig, WebShardsConfig


def test_cifar_is_read_from_its_folder_and_from_its_archive(tmp_path: Path) -> None:
    records = write_cifar(tmp_path / "cifar-10-batches-bin")
    files = {f"cifar-10-batches-bin/{p.name}": p.read_bytes() for p in sorted(tmp_path.glob("*/*.bin"))}
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(tar_bytes(files)))
    for name in ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", "."):
        config = CifarConfig(path=str(tmp_path / name))
        source = config.build()
        check_source(config)
        assert (source.count("train"), source.count("test")) == (20, 4)
        for split, first in (("train", 0), ("test", 20)):
            for number in range(source.count(split)):
                picture, label = source.picture(split, number)
                assert label == records[first + number, 0]
                # Three planes of 32 rows: red, then green, then blue.
                for y, x, c in ((0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 31, 2)):
                    assert picture[y, x, c] == records[first + number, 1 + 1024 * c + 32 * y + x]
        assert source.class_names[3] == "cat"


def test_cifar_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    whole = (tmp_path / "data_batch_3.bin").read_bytes()
    (tmp_path / "data_batch_3.bin").write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: 12291 bytes are no whole number of records"):
        CifarConfig(path=str(tmp_path)).build()
    (tmp_path / "data_batch_3.bin").write_bytes(whole[: 3073 * 2] + b"\x0a" + whole[3073 * 2 + 1 :])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: record 2 has class 10, there are 10"):
        CifarConfig(path=str(tmp_path)).build()
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no data_batch_3.bin"):
        CifarConfig(path=str(tmp_path)).build()


def web_files(first: int, count: int, form: str = "PNG") -> dict[str, bytes]:
    """Samples as img2dataset writes them, with a class in both places."""
    files = {}
    for i in range(first, first + count):
        key = f"{i:09d}"
        files[f"{key}.{form.lower()}"] = encode(pixels(i), form)
        files[f"{key}.json"] = json.dumps({"kind": "ab"[i % 2], "width": 8}).encode()
        files[f"{key}.txt"] = b"a caption"
        files[f"{key}.cls"] = str(i % 3).encode()
    return files


def write_web(folder: Path) -> Path:
    """Two shards, and what img2dataset leaves beside them."""
    write_tar(folder / "00000.tar", web_files(0, 5))
    write_tar(folder / "00001.tar", web_files(5, 4, "WEBP") | web_files(9, 1, "JPEG"))
    return write_folder(folder, {"00000_stats.json": b"{}", "00000.parquet": b"x"})


def test_shards_of_pictures_are_read_in_order(tmp_path: Path) -> None:
    config = WebShardsConfig(path=str(write_web(tmp_path)))
    source = config.build()
    check_source(config)
    assert (source.count("train"), source.class_names) == (10, ("0", "1", "2"))
    assert [source.picture("train", i)[1] for i in range(10)] == [i % 3 for i in range(10)]
    assert all(np.array_equal(source.picture("train", i)[0], pixels(i)) for i in range(5))
    assert source.provenance["tars"] == 2


def test_the_class_may_stand_in_json_or_nowhere(tmp_path: Path) -> None:
    write_web(tmp_path)
    by_kind = WebShardsConfig(path=str(tmp_path), label="json:kind").build()
    assert by_kind.class_names == ("a", "b")
    assert [by_kind.picture("train", i)[1] for i in range(4)] == [0, 1, 0, 1]
    by_number = WebShardsConfig(path=str(tmp_path), label="json:width").build()
    assert (by_number.class_names, by_number.picture("train", 3)[1]) == (("8",), 0)
    none = WebShardsConfig(path=str(tmp_path), label="none").build()
    assert (none.class_names, none.picture("train", 3)[1]) == ((), -1)
    with pytest.raises(ValueError, match=r"00000.tar: 000000000: json: expected a text .* under 'colour'"):
        WebShardsConfig(path=str(tmp_path), label="json:colour").build()
    with pytest.raises(ValueError, match='label must be "cls"'):
        WebShardsConfig(path=str(tmp_path), label="json")


def test_splits_of_shards(tmp_path: Path) -> None:
    write_web(tmp_path / "a" / "train")
    write_tar(tmp_path / "a" / "test" / "00000.tar", web_files(20, 3))
    source = WebShardsConfig(path=str(tmp_path / "a")).build()
    assert (source.count("train"), source.count("test")) == (10, 3)
    assert np.array_equal(source.picture("test", 0)[0], pixels(20))
    with pytest.raises(ValueError, match="has a test folder of its own"):
        WebShardsConfig(path=str(tmp_path / "a"), held_out=2).build()
    held = [WebShardsConfig(path=str(write_web(tmp_path / name)), held_out=0.3).build() for name in "bc"]
    found = [[s.picture("test", i)[0].tobytes() for i in range(s.count("test"))] for s in held]
    assert len(found[0]) == 3 and found[0] == found[1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.cls": b"1"}, r"1: expected one picture \(jpg, jpeg, png, webp\), found \['cls'\]"),
        ({"1.png": b"", "1.jpg": b""}, r"expected one picture"),
        ({"1.png": b"", "1.cls": b"one"}, r"1: cls: expected a class number, found b'one'"),
        ({"1.png": b"", "1.cls": b"1", "2.png": b""}, r"some samples have a class and some have none"),
        ({"1.v2.png": b""}, r"1: expected one picture .*, found \['v2.png'\]"),
        ({"noname": b""}, r"member 'noname': expected KEY.jpg"),
        ({"1.png": b"", "1.PNG": b""}, r"member '1.PNG' is there twice"),
    ],
)
def test_samples_that_are_none_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_tar(tmp_path / "00000.tar", files)
    with pytest.raises(ValueError, match=message):
        WebShardsConfig(path=str(tmp_path)).build()


def test_a_damaged_picture_of_a_shard_is_named(tmp_path: Path) -> None:
    files = web_files(0, 3) | {"000000001.png": web_files(1, 1)["000000001.png"][:60]}
    write_tar(tmp_path / "00000.tar", files)
    with pytest.raises(UnreadablePicture, match=r"00000.tar: 000000001: not a readable picture"):
        WebShardsConfig(path=str(tmp_path)).build().picture("train", 1)
    data = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(data[:3000])
    with pytest.raises(ValueError, match=r"00000.tar: truncated"):
        WebShardsConfig(path=str(tmp_path)).build()
