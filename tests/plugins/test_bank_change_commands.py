"""`genmem bank add`, `interpolate`, `search`, with pictures and the set's own encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from running import ready, small_recipe

from genmem.data.picture_files import read_pictures
from genmem.recipe import load_data
from genmem_bank import genmem_commands
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.features import Features
from genmem_bank.changing.adding import Editor
from genmem_bank.storage.card import read_card


def call(*words: object) -> str:
    """What a command printed; "refused: …" where it failed."""
    found = CliRunner().invoke(genmem_commands()["bank"], [str(word) for word in words])
    return found.output if found.exit_code == 0 else f"refused: {found.output}"


@pytest.fixture
def bank(data: Path, tmp_path: Path) -> Path:
    """A bank of the digits."""
    dataset = ready(small_recipe(data))
    features = Features(dataset=dataset, encoder="pca", count=dataset.count("train"))
    build_bank(tmp_path / "bank", features, Form(rank=16))
    return tmp_path / "bank"


@pytest.fixture
def picture(data: Path, tmp_path: Path) -> Path:
    """Training picture 17 as a file."""
    dataset = ready(small_recipe(data))
    tokenizer = load_data({"path": str(data), "tokenizer": {"use": "pixels"}}).tokenizer.config.build()
    path = tmp_path / "17.png"
    Image.fromarray(dataset.pictures("train", [17], tokenizer)[0, :, :, 0]).save(path)
    return path


def test_adding_a_stored_picture_reproduces_its_row(bank: Path, picture: Path, data: Path) -> None:
    """By the set's own encoder; what it was made of is on the card; it finds row 17 and itself."""
    set_ = data / "digits"
    assert "rows 1437 to 1437 are new; 1,438 rows in all" in call("add", bank, picture, "--data", set_)
    editor = Editor(bank)
    rows = editor.code.decode(torch.from_numpy(editor.take([17, 1437])))
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=0)
    added = read_card(bank).segments[1].origin.added
    assert added is not None and added.what == (str(picture),) and len(added.hashes[0]) == 64
    found = call("search", bank, picture, "--k", 2, "--data", set_, "-o", bank / "near.png")
    assert "sample 17" in found and str(picture) in found and Image.open(bank / "near.png").size[0] > 100


def test_interpolating(bank: Path, picture: Path, data: Path) -> None:
    """Printed, and added where asked for: what is added is eq. 11."""
    shown = call("interpolate", bank, 3, picture, "--steps", 1, "--data", data / "digits", "--append")
    assert "0.500 of 3: nearest row" in shown and "rows 1437 to 1437 are new" in shown
    first, last, middle = Editor(bank).take([3, 17, 1437])
    np.testing.assert_allclose(middle, (first + last) / 2, atol=1e-5)
    assert "nearest row 3 (1.0000)" in call("interpolate", bank, 3, 3, "--steps", 2, "--spherical")
    assert read_card(bank).rows == 1438


def test_what_is_refused(bank: Path, picture: Path, data: Path, tmp_path: Path) -> None:
    """Each in one line that says what to do; nothing is written."""
    (tmp_path / "no.png").write_bytes(b"no picture")
    before = sorted(path.name for path in bank.iterdir())
    for words, message in (
        (("add", bank), "say PICTURES, or --features FILE"),
        (("add", bank, picture), "say --data FOLDER|RECIPE"),
        (("add", bank, tmp_path / "no.png", "--data", data / "digits"), "no picture that can be read"),
        (("search", bank, 1437), "row 1437 was asked for, but the bank's rows are 0 to 1436"),
        (("search", bank, 3, "--k", 1438), "the 1438 closest rows of a memory that has 1437"),
        (("search", bank, 3, "-o", tmp_path / "x.png"), "-o shows pictures of a set"),
        (("interpolate", bank, 3, "nowhere.png", "--data", data / "digits"), "no such picture"),
        (("add", tmp_path, "--features", picture), "no bank here"),
    ):
        said = call(*words)
        assert said.startswith("refused") and message in said.replace("\n", " "), said
    assert sorted(path.name for path in bank.iterdir()) == before


def test_pictures_are_brought_to_the_sets_shape(tmp_path: Path) -> None:
    """The middle of a wide one, grey or in colour as the set is, upright as its camera was held."""
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = [200, 100, 0]
    Image.fromarray(wide).save(tmp_path / "wide.png")
    (coloured,) = read_pictures([tmp_path / "wide.png"], (8, 8, 3))
    assert (coloured == [200, 100, 0]).all()
    (grey,) = read_pictures([tmp_path / "wide.png"], (8, 8, 1))
    assert grey.shape == (8, 8, 1) and np.ptp(grey) == 0
    turned = np.zeros((8, 8), np.uint8)
    turned[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    (upright,) = read_pictures([tmp_path / "turned.png"], (8, 8, 1))
    assert np.array_equal(upright[..., 0], turned[::-1])
