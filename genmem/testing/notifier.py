"""Contract check of the Notifier seat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from genmem.contracts import Notifier, NotifierConfig, RunStart


def check_notifier(config: NotifierConfig, folder: Path) -> None:
    """Tell a notifier of a run that is stopped, goes on from an earlier checkpoint, rolls back and fails.

    Args:
        config: Whose notifier.
        folder: An empty folder, which is the run's. What the notifier wrote is left there.

    Raises:
        AssertionError: What does not hold.
        Exception: What the notifier raises; in a run it would be switched off.
    """
    picture = folder / "samples" / "grid.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(picture)
    before = picture.read_bytes()
    around = {path.name for path in folder.parent.iterdir()}

    first = _built(config)
    first.start(_start(folder, 0))
    for images in (64, 128):
        first.line(images, {"loss/denoise": 1.0 / images, "images_per_s": 10.0})
    first.scores(128, {"fd/pixels": 3.0}, {"samples": picture})
    first.checkpoint(128, folder / "checkpoints" / f"{128:012d}")
    first.line(192, {"loss/denoise": 1.0})
    first.warning(192, "a loss is not finite")
    first.end(192, "stopped", "")

    second = _built(config)
    second.start(_start(folder, 128))
    second.line(160, {"loss/denoise": 2.0})
    second.went_back(160, 128)
    second.line(192, {"loss/denoise": 0.5})
    second.end(192, "failed", "OSError: no space left")
    assert picture.read_bytes() == before, "a notifier must leave the run's own files alone"
    assert {path.name for path in folder.parent.iterdir()} == around, (
        "a notifier writes inside the run's folder"
    )


def _built(config: NotifierConfig) -> Notifier:
    notifier = config.build()
    assert isinstance(notifier, Notifier), f"build() must return a Notifier, got {type(notifier).__name__}"
    return notifier


def _start(folder: Path, images_seen: int) -> RunStart:
    recipe = {"name": "check", "train": {"images": 192}}
    return RunStart(name="check", folder=folder, images=192, images_seen=images_seen, recipe=recipe)
