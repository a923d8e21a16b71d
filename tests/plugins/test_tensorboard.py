"""A run's TensorBoard events, read back with TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genmem.contracts import RunStart
from genmem.extras import MissingExtra
from genmem.host import load_catalog
from genmem.testing import check_notifier

CONFIG = load_catalog().find("notifier", "tensorboard").config


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def scalars(events: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def text(events: EventAccumulator, name: str) -> str:
    (found,) = [event.tensor_proto.string_val[0] for event in events.Tensors(f"{name}/text_summary")][-1:]
    return found.decode()


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Any:
    folder = tmp_path_factory.mktemp("run") / "run"
    folder.mkdir()
    check_notifier(CONFIG(folder="events"), folder)
    return read(folder / "events")


def test_losses_and_scores_stand_at_images_seen(events):
    assert scalars(events, "fd/pixels") == [(128, 3.0)]
    assert scalars(events, "images_per_s") == [(64, 10.0), (128, 10.0)]


def test_what_is_taken_again_after_a_stop_or_a_roll_back_is_told_once(events):
    # 1.0 was told after the checkpoint at 128, from which the run went on; 2.0 was rolled back.
    expected = [(64, pytest.approx(1 / 64)), (128, pytest.approx(1 / 128)), (192, 0.5)]
    assert scalars(events, "loss/denoise") == expected


def test_pictures_are_the_files(events):
    (image,) = events.Images("samples")
    assert (image.step, image.width, image.height) == (128, 8, 8)


def test_recipe_checkpoints_and_ending_are_texts(events):
    assert '"images": 192' in text(events, "recipe")
    assert "checkpoints/000000000128" in text(events, "checkpoint")
    assert text(events, "ending").strip() == "failed OSError: no space left"


def test_a_grey_picture_keeps_its_greys(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    notifier = CONFIG().build()
    notifier.start(RunStart(name="grey", folder=tmp_path, images=8, images_seen=0, recipe={}))
    notifier.scores(8, {}, {"grey": tmp_path / "grey.png"})
    notifier.warning(8, "look\nhere")
    notifier.end(8, "finished", "")
    events = read(tmp_path / "tensorboard")
    (tmp_path / "back.png").write_bytes(events.Images("grey")[0].encoded_image_string)
    back = np.asarray(Image.open(tmp_path / "back.png"))
    assert np.array_equal(back, np.repeat(grey[..., None], 3, axis=2))
    assert text(events, "warning") == "    look\n    here"


def test_without_the_library_it_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    with pytest.raises(MissingExtra, match=r"tensorboard is not installed.*genmem\[tensorboard\]"):
        CONFIG().build()
