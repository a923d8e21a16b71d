"""`genmem bank build` and `info`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bank_data import decaying, make
from click.testing import CliRunner, Result

from genmem.data.dataset import Dataset
from genmem.extras import MissingExtra
from genmem_bank.commands.build_commands import bank
from genmem_bank.looking import spectrum
from genmem_bank.storage.card import read_card
from genmem_bank.storage.rows import StoredRows


def call(*arguments: object) -> Result:
    """One command line."""
    return CliRunner().invoke(bank, [str(argument) for argument in arguments])


def test_info(tmp_path: Path) -> None:
    """What it is, and that its files are whole."""
    card = make(tmp_path, decaying(), rank=5).card
    shown = call("info", tmp_path / "bank")
    assert shown.exit_code == 0
    for part in ("60", "enc, width 12", "5, which keeps 9", card.identity, card.rows_hash, "made up", "fp32"):
        assert part in shown.output
    found = json.loads(call("info", tmp_path / "bank", "--json").output)
    assert (found["rows"], found["rank"], found["error"]) == (60, 5, card.error)
    assert found["energy_by_rank"]["5"] == pytest.approx(card.energy)
    assert found["bytes"] > 60 * 5 * 4
    rows = tmp_path / "bank" / card.segments[0].file
    content = bytearray(rows.read_bytes())
    content[-1] ^= 1
    rows.write_bytes(content)
    changed = call("info", tmp_path / "bank")
    assert changed.exit_code == 1 and "changed since the bank was built" in changed.output


def test_info_of_a_folder_without_a_bank(tmp_path: Path) -> None:
    """Says how one comes to be."""
    nothing = call("info", tmp_path)
    assert nothing.exit_code == 1 and "no bank here; `genmem bank build RECIPE`" in nothing.output


RECIPE = """
extends = "quickstart"
[data]
path = "digits"
[memory.bank]
path = "bank"
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its set, and its bank."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("mine.toml").write_text(RECIPE)
        built = call("build", "mine.toml")
        assert built.exit_code == 0 and "1,437" in built.output and "pca, width 16" in built.output
    return folder


@pytest.fixture(autouse=True)
def inside(digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run there."""
    monkeypatch.chdir(digits)


def test_a_recipes_banks() -> None:
    """Built once; checked when it is there; another is refused; a recipe without one says so."""
    before = Path("bank/bank.json").stat().st_mtime_ns
    assert call("build", "mine.toml").exit_code == 0
    assert Path("bank/bank.json").stat().st_mtime_ns == before
    other = call("build", "mine.toml", "--memory.bank.rank=8")
    assert other.exit_code == 1 and "rank is 16, expected 8" in other.output
    assert call("build", "mine.toml", "--memory.bank.encoder=absent").exit_code == 1
    Path("none.toml").write_text('extends = "mine.toml"\n[condition]\nmemory = "negatives"\n')
    assert call("build", "none.toml").exit_code != 0


@pytest.mark.parametrize("target", ["mine.toml", "digits", "digits/train"])
def test_from_a_recipe_a_set_or_shards(target: str, tmp_path: Path) -> None:
    """The same rows, of the only feature there is."""
    built = call("build", target, "--rank", 8, "-o", tmp_path / "bank")
    assert built.exit_code == 0, built.output
    card, whole = read_card(tmp_path / "bank"), read_card(Path("bank"))
    assert (card.rank, card.rows, card.encoder) == (8, 1437, "pca")
    assert (card.settings, card.state) == (whole.settings, whole.state)
    found = StoredRows(tmp_path / "bank", card).part(0, 1437)
    np.testing.assert_allclose(
        np.abs(found), np.abs(StoredRows(Path("bank"), whole).part(0, 1437)[:, :8]), atol=1e-4
    )


def test_what_an_encoder_makes_of_the_pictures(tmp_path: Path) -> None:
    """Of a set that does not have the feature; both views of some samples; what it learned is kept."""
    options = ["--encoder", "random-conv", "--data.encoder.random-conv.width=16", "--raw", "--device", "cpu"]
    built = call(
        "build", "digits", *options, "--per-class", 3, "--seed", 2, "--views", 2, "-o", tmp_path / "bank"
    )
    assert built.exit_code == 0, built.output
    assert "60, plain and mirrored, 3 samples of each class drawn with seed 2" in built.output
    card, dataset = read_card(tmp_path / "bank"), Dataset(Path("digits"))
    rows = StoredRows(tmp_path / "bank", card)
    sample, view = rows.samples(np.arange(60))
    assert np.bincount(dataset.labels("train")[sample]).tolist() == [6] * 10
    from genmem_encoders import PixelTokenizerConfig, RandomConvConfig

    encoder = RandomConvConfig(width=16).build()
    pictures = dataset.pictures("train", sample, PixelTokenizerConfig().build())
    encoder.fit(dataset.pictures("train", range(1437), PixelTokenizerConfig().build()))
    pictures[view == 1] = pictures[view == 1][:, :, ::-1]
    expected = encoder.encode(pictures).pooled_BD
    np.testing.assert_allclose(
        rows.part(0, 60), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
    )
    assert card.encoder_file is not None and (tmp_path / "bank" / card.encoder_file).is_file()
    assert card.provenance["computed"]["random-conv"]["settings"]["width"] == 16
    assert card.provenance["states"]["random-conv"][:16] in card.encoder_file
    assert not (tmp_path / "bank" / ".build").exists()


def test_a_bank_that_is_there(tmp_path: Path) -> None:
    """Is replaced when asked, and not otherwise."""
    out = tmp_path / "bank"
    assert call("build", "digits", "--rank", 4, "-o", out).exit_code == 0
    first = read_card(out)
    refused = call("build", "digits", "--rank", 5, "-o", out)
    assert refused.exit_code == 1 and "say --replace" in refused.output and read_card(out) == first
    assert call("build", "digits", "--rank", 5, "-o", out, "--replace").exit_code == 0
    assert read_card(out).rank == 5
    named = {"bank.json", ".lock", *read_card(out).files, *first.files}
    assert {path.name for path in out.iterdir()} - {"spectrum.png"} == named - (
        set(first.files) - set(read_card(out).files)
    )


def test_options_without_a_folder(tmp_path: Path) -> None:
    """Are about the recipe's bank: its place, and its feature; a set has none."""
    place = f"--memory.bank.path={tmp_path / 'bank'}"
    assert call("build", "mine.toml", "--energy", 0.5, "--dtype", "bf16", place).exit_code == 0
    card = read_card(tmp_path / "bank")
    assert card.encoder == "pca" and card.rank is not None and card.rank < 16 and card.dtype == "bf16"
    refused = call("build", "mine.toml", "--rank", 3, place)
    assert refused.exit_code == 1 and "say --replace" in refused.output
    assert "say -o FOLDER" in call("build", "digits", "--rank", 3).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits", "--rank", 4, "--raw"], "say one of --rank, --energy and --raw"),
        (["digits", "--seed", 1], "say one of --rank, --energy and --raw"),
        (["digits", "--raw", "--rows", 5, "--per-class", 2], "say --rows or --per-class, not both"),
        (["digits", "--rank", 4, "--dtype", "fp16"], "--dtype fp16 is for --raw"),
        (["digits", "--rank", 17], "rank = 17, but the features have width 16"),
        (["digits", "--rank", 4, "--rows", 2000], "--rows 2000, but there are 1437 samples"),
        (["digits", "--rank", 4, "--views", 2], "has plain views alone"),
        (["digits", "--rank", 4, "--encoder", "absent"], "absent"),
        (["mine.toml", "--rank", 4, "--encoder", "absent"], "absent: no such feature or encoder"),
        (["digits/train", "--rank", 4, "--encoder", "random-conv"], "no such feature or encoder"),
        ([".", "--rank", 4], "manifest"),
    ],
)
def test_what_cannot_be_built(arguments: list[object], message: str, tmp_path: Path) -> None:
    """Says why; nothing is written."""
    out = tmp_path / "bank"
    refused = call("build", *arguments, "-o", out)
    assert refused.exit_code != 0 and message in refused.output + str(refused.exception)
    assert not out.exists()


def test_the_spectrum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn beside the bank where matplotlib is there; where it is not, one line says so."""

    def missing(name: str, extra: str) -> None:
        raise MissingExtra(f"{name} is not installed; it comes with the extra {extra!r}")

    with monkeypatch.context() as patch:
        patch.setattr(spectrum, "import_extra", missing)
        built = call("build", "digits", "--rank", 4, "-o", tmp_path / "one")
    assert built.exit_code == 0 and "not drawn: matplotlib is not installed" in built.output
    pytest.importorskip("matplotlib")
    built = call("build", "digits", "--rank", 4, "-o", tmp_path / "two")
    assert (tmp_path / "two" / "spectrum.png").read_bytes().startswith(b"\x89PNG")
