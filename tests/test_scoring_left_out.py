"""What a run's table leaves out: columns nobody asked for, and what its pictures are too large for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import QUICKSTART, SMALL

from genmem.scoring import evaluation as scoring
from genmem.scoring import gaussian
from genmem.training import session

SHORT = ("--train.images=64", "--sampler.steps=2", "--evaluate.samples=64")


def scores(data: Path, out: Path, *words: str) -> dict[str, Any]:
    """What scores.json holds after a short run without the bank."""
    paths = (f'--data.path="{data}/digits"', "--condition.memory=none", "--memory.bank=none")
    session.run(str(QUICKSTART), (*paths, *SMALL, *SHORT, *words), (), out, [])
    found: dict[str, Any] = json.loads((out / "scores.json").read_text())
    return found


def cells(found: dict[str, Any], row: str) -> dict[str, Any]:
    return next(one for one in found["table"]["rows"] if one["name"] == row)["cells"]


def test_without_a_lookup_nearest_pictures_are_shown_and_not_scored(data: Path, tmp_path: Path) -> None:
    found = scores(data, tmp_path / "run", "--evaluate.copies=none")
    assert set(found["pictures"]) == {"samples", "neighbours"}
    assert all(column["key"].startswith("fd/") for column in found["table"]["columns"])


def test_a_run_without_feature_spaces_ends_with_its_pictures(data: Path, tmp_path: Path) -> None:
    found = scores(data, tmp_path / "run", "--evaluate.copies=none", "--evaluate.encoder=none")
    assert set(found["pictures"]) == {"samples"} and not found["table"]["columns"]


def test_large_pictures_have_no_gaussian(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian, "MAX_WIDTH", 63)  # digits have 64 values
    found = scores(data, tmp_path / "run")
    assert all(cell["value"] is None for cell in cells(found, "Gaussian").values())
    assert cells(found, "samples")["fd/pixels"]["value"] > 0


def test_too_few_held_out_pictures_are_told_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "QUANTILE", 0.002)  # 360 are held out
    with pytest.raises(ValueError, match=r"evaluate\.copies: .* only 360 of them; hold out 500 or more"):
        scores(data, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
