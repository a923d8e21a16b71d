"""Folders and archives of pictures: order, classes, splits, and what is refused."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_parts import (
    CLASSES,
    encode,
    picture_files,
    pixels,
    split_files,
    tar_bytes,
    write_folder,
    write_tar,
    write_zip,
)

from genmem.contracts import Source, UnreadablePicture
from genmem.testing import check_source
from genmem_sources import ImageArchiveConfig, ImageFolderConfig, unpacking
from genmem_sources.configs import TreeConfig
from genmem_sources.holding_out import hold_out


def numbers_of(source: Source, split: Any) -> list[tuple[int, int]]:
    """(number of the picture, label) of a split, told from the pixels."""
    known = {pixels(number).tobytes(): number for number in (*range(30), *range(100, 130))}
    found = [source.picture(split, i) for i in range(source.count(split))]
    return [(known[picture.tobytes()], label) for picture, label in found]


def write_all(folder: Path, files: dict[str, bytes]) -> dict[str, TreeConfig]:
    """The same files as a folder and as archives, each with what stands around them in archives."""
    shuffled = {name: files[name] for name in reversed(files)}
    around = {f"pictures/{name}": data for name, data in shuffled.items()}
    return {
        "folder": ImageFolderConfig(path=str(write_folder(folder / "tree", files))),
        "tar": ImageArchiveConfig(path=str(write_tar(folder / "a.tar", shuffled))),
        "tar.xz": ImageArchiveConfig(path=str(write_tar(folder / "a.tar.xz", around))),
        "zip": ImageArchiveConfig(path=str(write_zip(folder / "a.zip", shuffled))),
    }


def test_folder_and_archives_are_the_same_source(tmp_path: Path) -> None:
    expected = [(number, number // 4) for number in range(12)]
    for name, config in write_all(tmp_path, picture_files()).items():
        source = config.build()
        assert source.class_names == CLASSES, name
        assert (numbers_of(source, "train"), source.count("test")) == (expected, 0), name
        check_source(config)


def test_splits_are_the_folders_at_the_top(tmp_path: Path) -> None:
    for name, config in write_all(tmp_path, split_files()).items():
        source = config.build()
        assert source.class_names == CLASSES, name
        assert numbers_of(source, "train") == [(number, number // 4) for number in range(12)], name
        assert numbers_of(source, "test") == [(100 + number, number // 2) for number in range(6)], name


def test_a_single_folder_of_a_split_is_looked_through(tmp_path: Path) -> None:
    for before in ("train/", "test/"):
        path = write_folder(tmp_path / before, picture_files(4, before))
        source = ImageFolderConfig(path=str(path)).build()
        assert source.class_names == CLASSES
        assert numbers_of(source, "train") == [(number, number // 4) for number in range(12)]


def test_a_test_tree_may_stand_elsewhere(tmp_path: Path) -> None:
    path = str(write_folder(tmp_path / "train-pictures", picture_files()))
    test = str(write_zip(tmp_path / "held.zip", picture_files(2, first=100)))
    source = ImageFolderConfig(path=path, test=test).build()
    assert numbers_of(source, "test") == [(100 + number, number // 2) for number in range(6)]
    with pytest.raises(ValueError, match="has a test folder of its own; leave test out"):
        own = write_folder(tmp_path / "own", split_files())
        ImageFolderConfig(path=str(own), test=test).build()


@pytest.mark.parametrize(("held_out", "count"), [(5, 5), (0.25, 3), (1, 1)])
def test_held_out_pictures_are_a_share_of_every_class(tmp_path: Path, held_out: Any, count: int) -> None:
    path = str(write_folder(tmp_path / "a", picture_files()))
    source = ImageFolderConfig(path=path, held_out=held_out).build()
    train, test = (numbers_of(source, split) for split in ("train", "test"))
    assert len(test) == count
    assert sorted(train + test) == [(number, number // 4) for number in range(12)]
    per_class = np.bincount([label for _, label in test], minlength=3)
    assert np.all(np.abs(per_class - count / 3) < 1)


def test_holding_out_follows_the_names_and_nothing_else() -> None:
    names, labels = [f"{i}.png" for i in range(1000)], np.arange(1000) % 7
    held = hold_out(names, labels, 150)
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(hold_out([names[i] for i in order], labels[order], 150), held[order])
    assert held.sum() == 150
    assert np.all(np.abs(np.bincount(labels[held]) - np.bincount(labels) * 0.15) <= 1)
    # A fair draw: neither the first nor the last pictures of a class.
    assert 400 < np.flatnonzero(held).mean() < 600


@pytest.mark.parametrize("held_out", [12, 40, 0.99])
def test_nothing_left_to_train_on_is_refused(tmp_path: Path, held_out: Any) -> None:
    path = str(write_folder(tmp_path / "a", picture_files()))
    with pytest.raises(ValueError, match=r"held_out = .* of 12 pictures; some must be left"):
        ImageFolderConfig(path=path, held_out=held_out).build()


def test_pictures_without_folders_have_no_labels(tmp_path: Path) -> None:
    files = {f"{i}.png": encode(pixels(i)) for i in range(4)}
    source = ImageFolderConfig(path=str(write_folder(tmp_path / "a", files))).build()
    assert source.class_names == ()
    assert numbers_of(source, "train") == [(i, -1) for i in range(4)]
    write_folder(tmp_path / "a", {"cat/9.png": encode(pixels(9))})
    with pytest.raises(ValueError, match=r"0\.png stands in no class folder, though other pictures do"):
        ImageFolderConfig(path=str(tmp_path / "a")).build()


def test_hidden_and_other_files_are_left_alone_and_counted(tmp_path: Path) -> None:
    files = picture_files() | {
        "cat/notes.txt": b"hi",
        ".DS_Store": b"",
        "cat/._0.png": b"",
        "__MACOSX/x.png": b"",
    }
    for config in write_all(tmp_path, files).values():
        source = config.build()
        assert source.count("train") == 12
        assert source.provenance["trees"][0]["other_files"] == 1


def test_provenance_follows_the_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_folder(tmp_path / name, picture_files())
    first, same = (
        ImageFolderConfig(path=str(tmp_path / name), licence="CC0").build().provenance for name in ("a", "b")
    )
    assert first["licence"] == "CC0"
    assert first["trees"][0]["sha256"] == same["trees"][0]["sha256"]
    write_folder(tmp_path / "b", {"cat/0.png": encode(pixels(50, 9, 9))})
    other = ImageFolderConfig(path=str(tmp_path / "b")).build().provenance
    assert other["trees"][0]["sha256"] != same["trees"][0]["sha256"]


def test_pictures_are_cropped_to_the_resolution(tmp_path: Path) -> None:
    files = {"a/0.png": encode(pixels(0, 40, 30)), "a/1.png": encode(pixels(1, 20, 33))}
    config = ImageFolderConfig(path=str(write_folder(tmp_path / "a", files)), resolution=16, channels=1)
    assert [config.build().picture("train", i)[0].shape for i in (0, 1)] == [(16, 16, 1)] * 2


EVIL = ("../../evil.png", "/etc/evil.png", "cat/../../x.png", "C:/x.png", "cat\\x.png", "a//b.png")


@pytest.mark.parametrize("name", EVIL)
def test_names_that_lead_out_of_an_archive_are_refused(tmp_path: Path, name: str) -> None:
    files = picture_files() | {name: encode(pixels(1))}
    for path in (write_tar(tmp_path / "a.tar", files), write_zip(tmp_path / "a.zip", files)):
        with pytest.raises(ValueError, match="which is no plain relative name"):
            ImageArchiveConfig(path=str(path)).build()


def test_links_and_doubles_in_archives_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    (tmp_path / "link.tar").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"'cat/link.png' is neither a file nor a folder"):
        ImageArchiveConfig(path=str(tmp_path / "link.tar")).build()
    once = picture_files()
    twice = tar_bytes(once)[:-10240].rstrip(b"\0")
    twice += bytes(-len(twice) % 512) + tar_bytes(once)
    (tmp_path / "twice.tar").write_bytes(twice)
    with pytest.raises(ValueError, match=r"holds 'cat/0.png' twice"):
        ImageArchiveConfig(path=str(tmp_path / "twice.tar")).build()


def test_archives_that_unfold_too_far_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ALWAYS", 1 << 20)
    bomb = tar_bytes({"cat/0.png": bytes(1 << 22)})
    for name, data in (("a.tar.xz", lzma.compress(bomb)), ("a.tar.gz", gzip.compress(bomb))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=r"unpacks to more than 1,048,576 bytes, 100 times its size"):
            ImageArchiveConfig(path=str(tmp_path / name)).build()
    source = ImageArchiveConfig(
        path=str(write_zip(tmp_path / "a.zip", {"cat/0.png": bytes(1 << 22)}))
    ).build()
    with pytest.raises(
        UnreadablePicture, match=r"cat/0.png: unpacks to 4,194,304 bytes, more than 100 times"
    ):
        source.picture("train", 0)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.xz", "a.tar.gz", "a.zip"])
def test_truncated_archives_are_refused(tmp_path: Path, name: str) -> None:
    whole = tar_bytes(picture_files())
    if name == "a.zip":
        whole = write_zip(tmp_path / name, picture_files()).read_bytes()
    pack = {"xz": lzma.compress, "gz": gzip.compress}.get(name.rpartition(".")[2], bytes)
    data = pack(whole)
    for share in (0.1, 0.3, 0.6):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            ImageArchiveConfig(path=str(tmp_path / name)).build()


def test_a_damaged_picture_is_named_with_its_archive(tmp_path: Path) -> None:
    files = picture_files() | {"cat/1.png": picture_files()["cat/1.png"][:40]}
    for config in write_all(tmp_path, files).values():
        source = config.build()
        with pytest.raises(UnreadablePicture, match=r"cat/1.png: not a readable picture"):
            source.picture("train", 1)
        assert source.picture("train", 2)[1] == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": b"x"}, "holds no pictures"),
        (split_files() | {"val/cat/0.png": b"x"}, r"the folders \['test', 'train', 'val'\] both hold a test"),
        (split_files() | {"0.png": b"x"}, r"0\.png stands outside train/ and test/"),
    ],
)
def test_trees_that_cannot_be_understood_are_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolderConfig(path=str(write_folder(tmp_path / "a", files))).build()


def test_places_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        ImageFolderConfig(path=str(tmp_path / "nowhere")).build()
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a.rar: expected a folder or an archive"):
        ImageArchiveConfig(path=str(tmp_path / "a.rar")).build()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    tree = write_folder(tmp_path / "a", picture_files())
    (tree / "cat" / "again").symlink_to(tree)
    with pytest.raises((ValueError, OSError), match=r"deep|levels"):
        ImageFolderConfig(path=str(tree)).build()
