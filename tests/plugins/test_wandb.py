"""A run in Weights & Biases, offline: what lies in its file, read back record by record."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from genmem.extras import MissingExtra
from genmem.host import load_catalog
from genmem.testing import check_notifier

CONFIG = load_catalog().find("notifier", "wandb").config
BLOCK = 32768


def records(file: Path) -> Iterator[Any]:
    """The file is LevelDB's log: blocks of 32 KiB, chunks of (crc, length, type), after seven bytes."""
    data = file.read_bytes()
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history(found: list[Any]) -> list[dict[str, Any]]:
    rows = [one.history.item for one in found if one.WhichOneof("record_type") == "history"]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row} for row in rows
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that was stopped and went on."""
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.delenv("WANDB_API_KEY", raising=False)
        check_notifier(CONFIG(project="there", tags=("a", "b")), folder)
        wandb.teardown()  # its service has written everything when this returns
    return folder


@pytest.fixture(scope="module")
def legs(run) -> list[list[Any]]:
    """Records of its two files, in the order of time."""
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    return [list(records(file)) for file in files]


def test_rows_are_drawn_over_images_seen(legs):
    rows = history(legs[0])
    assert [(row["images"], row["loss/denoise"]) for row in rows if "loss/denoise" in row] == [
        (64, 1 / 64),
        (128, 1 / 128),
        (192, 1.0),
    ]
    (scores,) = [row for row in rows if "fd/pixels" in row]
    assert (scores["images"], scores["fd/pixels"], scores["samples/width"]) == (128, 3.0, 8)
    metrics = [one.metric for one in legs[0] if one.WhichOneof("record_type") == "metric"]
    assert any(metric.glob_name == "*" and metric.step_metric == "images" for metric in metrics)


def test_a_run_that_goes_on_is_the_same_run(run, legs):
    begun = [next(one.run for one in leg if one.WhichOneof("record_type") == "run") for leg in legs]
    assert {one.run_id for one in begun} == {(run / "wandb" / "id").read_text()}
    assert {(one.project, one.display_name, tuple(one.tags)) for one in begun} == {
        ("there", "check", ("a", "b"))
    }
    config = {item.key: json.loads(item.value_json) for item in begun[0].config.update}
    assert config["train"] == {"images": 192}
    rows = history(legs[1])
    assert [row["images"] for row in rows] == [160, 128, 192]
    assert [row.get("went_back_from") for row in rows] == [None, 160, None]


def test_warnings_are_alerts_and_a_failure_is_an_exit_code(legs):
    (alert,) = [one.alert for one in legs[0] if one.WhichOneof("record_type") == "alert"]
    assert (alert.title, alert.text) == ("192 images", "a loss is not finite")
    exits = [next(one.exit for one in leg if one.WhichOneof("record_type") == "exit") for leg in legs]
    assert [one.exit_code for one in exits] == [0, 1]


def test_online_without_a_login_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ValueError, match="nobody is logged in: run wandb login"):
        CONFIG(mode="online").build()


def test_without_the_library_it_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    with pytest.raises(MissingExtra, match=r"wandb is not installed.*genmem\[wandb\]"):
        CONFIG().build()
