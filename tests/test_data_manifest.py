"""manifest.json: what is written reads back, and everything wrong is named with file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_fakes import write_split

from genmem.data.errors import DataError
from genmem.data.format.manifest import Manifest
from genmem.data.format.manifest_file import load_manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split")
    write_split(path, (3, 2))
    return path


def test_a_manifest_reads_back_as_it_was(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert isinstance(manifest, Manifest)
    assert manifest.samples == 5
    assert [(s.name, s.samples, s.fields) for s in manifest.shards] == [
        ("000000.tar", 3, ("cls", "near.npy", "x.npy")),
        ("000001.tar", 2, ("cls", "near.npy", "x.npy")),
    ]
    assert manifest.to_json() == (folder / "manifest.json").read_text()
    assert json.loads(manifest.to_json())["samples"] == 5


def test_forms_follow_from_latent_and_features(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert manifest.form("x") == ("float16", (2, 4, 4))
    assert manifest.form("near") == ("float32", (2,))
    with pytest.raises(KeyError):
        manifest.form("far")


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(table: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        inner: Any = table
        for key in parents:
            inner = inner[int(key)] if key.isdigit() else inner[key]
        inner[last] = value

    return change


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda table: table.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", 2), "format: this genmem reads format 1, found 2"),
        (_drop("shards"), "shards: missing"),
        (_drop("format"), "format: missing"),
        (_set("colour", 1), "colour: unknown key"),
        (_set("samples", 6), "samples: 6, but its shards have 5 in all"),
        (_set("samples", True), "samples: expected an integer, 0 or more, found True"),
        (_set("samples", -1), "samples: expected an integer, 0 or more, found -1"),
        (_set("split", 3), "split: expected text, found a number"),
        (_set("views", 3), "views: expected 1 or 2, found 3"),
        (_set("class_names", "ab"), "class_names: expected a list, found text"),
        (_set("class_names", ["a", None]), "class_names[1]: expected text, found null"),
        (_set("picture_shape", [8, 8]), "picture_shape: expected three sizes above 0, found [8, 8]"),
        (_set("latent", []), "latent: expected a table, found a list"),
        (_set("latent.scale", [1, 2, 3]), "latent.scale: expected 1 or 2 numbers, found 3"),
        (_set("latent.scale", [1, float("nan")]), "latent.scale[1]: expected a finite number, found nan"),
        (_set("latent.dtype", "object"), "latent.dtype: expected a NumPy number type such as float16, found"),
        (_set("latent.moments", 1), "latent.moments: expected true or false, found a number"),
        (_set("latent.vae", "x"), "latent.vae: unknown key"),
        (_set("features.near.encoder", "far"), "features.near.encoder: no encoder is named 'far'"),
        (_set("encoders.near.state", "xyz"), "encoders.near.state: expected a sha256 in hex, or nothing"),
        (_set("shards.0.name", "../x.tar"), "shards[0].name: expected a plain file name that ends in .tar"),
        (
            _set("shards.0.name", "pipe:ls.tar"),
            "shards[0].name: expected a plain file name that ends in .tar",
        ),
        (_set("shards.1.name", "000000.tar"), "shards[1].name: '000000.tar' is listed twice"),
        (_set("shards.1.sha256", "0" * 63), "shards[1].sha256: expected a sha256 in hex, found"),
        (_set("index", ""), "index: expected a sha256 in hex, found ''"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    table = json.loads((folder / "manifest.json").read_text())
    change(table)
    (tmp_path / "manifest.json").write_text(json.dumps(table))
    with pytest.raises(DataError) as caught:
        load_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'manifest.json'}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[1]", "top level: expected a table, found a list"),
        (b'{"format": 1, "format": 1}', "key 'format' is there twice"),
        (b"[" * 100_000, "not readable as JSON"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(DataError, match=message) as caught:
        load_manifest(tmp_path)
    assert "manifest.json" in str(caught.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest.json: missing"):
        load_manifest(tmp_path)
