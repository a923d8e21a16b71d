"""The digits: the published pictures, a documented split, and no pickle."""

from __future__ import annotations

import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from genmem.contracts import Source, Split
from genmem.data.errors import DataError
from genmem.data.preparation import prepare
from genmem.recipe.tables import DataTable, Seat
from genmem_digits import DigitsConfig, genmem_sources
from genmem_digits import source as digits
from genmem_encoders import PcaConfig, PixelTokenizerConfig

PUBLISHED = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
"""Pictures of each class, from the set's own description (optdigits.names, test part)."""

FIRST = """0 0 5 13 9 1 0 0  0 0 13 15 10 15 5 0  0 3 15 2 0 11 8 0  0 4 12 0 0 8 8 0
           0 5 8 0 0 9 8 0  0 4 11 0 1 12 7 0  0 2 14 5 10 12 0 0  0 0 6 13 10 0 0 0"""
"""The first line of optdigits.tes, a zero."""


def test_the_pictures_are_the_published_ones() -> None:
    pictures, labels = digits.read_digits()
    assert pictures.dtype == labels.dtype == np.uint8
    assert (pictures.shape, labels.shape, pictures.max()) == ((1797, 8, 8), (1797,), 16)
    assert np.bincount(labels).tolist() == PUBLISHED
    assert pictures[0].ravel().tolist() == [int(v) for v in FIRST.split()]
    assert labels[:10].tolist() == list(range(10))
    assert sum(PUBLISHED) == 1797


def test_the_file_needs_no_pickle_and_has_two_plain_arrays() -> None:
    with (files("genmem_digits") / "digits.npz").open("rb") as file, zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["pictures.npy", "labels.npy"]
        for name in archive.namelist():
            assert b"'descr': '|u1'" in archive.read(name)[:128]


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, labels = digits.read_digits()
    pictures[5, 5, 5] ^= 1
    np.savez(tmp_path / "digits.npz", pictures=pictures, labels=labels)
    monkeypatch.setattr(digits, "files", lambda package: tmp_path)
    with pytest.raises(ValueError, match=r"digits.npz: sha256 of its arrays is"):
        digits.read_digits()


def test_the_split_is_exact_stratified_and_whole() -> None:
    source = DigitsConfig().build()
    pictures, labels = digits.read_digits()
    sizes: dict[Split, int] = {"train": 1437, "test": 360}
    counts, seen = {}, []
    for split, size in sizes.items():
        assert source.count(split) == size
        found = [source.picture(split, n) for n in range(size)]
        assert {(p.shape, p.dtype) for p, _ in found} == {((8, 8, 1), np.dtype(np.uint8))}
        counts[split] = np.bincount([label for _, label in found])
        seen += [(p.tobytes(), label) for p, label in found]
    due = np.array(PUBLISHED) * 360 / 1797
    assert (np.abs(counts["test"] - due) < 1).all()
    assert (counts["train"] + counts["test"]).tolist() == PUBLISHED
    grey = (pictures.astype(np.float64) * 255 / 16 + 0.5).astype(np.uint8)
    assert sorted(seen) == sorted((g.tobytes(), int(label)) for g, label in zip(grey, labels, strict=True))


def test_some_of_the_digits_keep_their_split_and_are_counted_from_0() -> None:
    whole, some = DigitsConfig().build(), DigitsConfig(classes=(3, 7)).build()
    assert some.class_names == ("3", "7")
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        expected = [whole.picture(split, n) for n in range(whole.count(split))]
        expected = [(picture, (3, 7).index(label)) for picture, label in expected if label in (3, 7)]
        found = [some.picture(split, n) for n in range(some.count(split))]
        assert [(p.tobytes(), label) for p, label in found] == [(p.tobytes(), n) for p, n in expected]


@pytest.mark.parametrize("classes", [(), (1, 1), (2, 1), (9, 10), (-1,)])
def test_classes_that_are_no_digits_in_order_are_refused(classes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="classes must be digits, each once, smallest first"):
        DigitsConfig(classes=classes)


def test_the_split_does_not_depend_on_the_files_order() -> None:
    pictures, labels = digits.read_digits()
    held = digits.hold_out(pictures, labels)
    order = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(digits.hold_out(pictures[order], labels[order]), held[order])


def test_held_out_digits_are_no_closer_to_the_training_ones_than_a_fair_draw() -> None:
    """Fréchet distance of train to held-out; splits by chance give 0.39 with a deviation of 0.03."""

    def distance(held: np.ndarray) -> float:
        a, b = flat[~held], flat[held]
        value, vector = np.linalg.eigh(np.cov(a.T))
        root = (vector * np.sqrt(value.clip(0))) @ vector.T
        cross = np.sqrt(np.linalg.eigvalsh(root @ np.cov(b.T) @ root).clip(0)).sum()
        mean = np.square(a.mean(0) - b.mean(0)).sum()
        return float(mean + np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * cross)

    pictures, labels = digits.read_digits()
    flat = pictures.reshape(1797, 64) / 8.0 - 1
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(20):
        held = np.zeros(1797, bool)
        for c in range(10):
            held[rng.permutation(np.flatnonzero(labels == c))[:36]] = True
        drawn.append(distance(held))
    ours = distance(digits.hold_out(pictures, labels))
    assert min(drawn) <= ours <= max(drawn)
    every_fifth = np.zeros(1797, bool)
    every_fifth[np.argsort(labels, kind="stable")[::5]] = True
    assert distance(every_fifth) < min(drawn)


def test_provenance_names_licence_citation_and_hash() -> None:
    provenance = DigitsConfig().build().provenance
    assert provenance["licence"] == "CC BY 4.0"
    assert "10.24432/C50P49" in provenance["citation"]
    assert len(provenance["sha256"]) == 64
    assert genmem_sources() == {"digits": DigitsConfig}


def test_the_digits_are_prepared_as_a_set(tmp_path: Path) -> None:
    data = DataTable(
        path=str(tmp_path),
        source=Seat("digits", DigitsConfig()),
        tokenizer=Seat("pixels", PixelTokenizerConfig()),
        encoder={"pca": Seat("pca", PcaConfig(width=16))},
    )
    dataset = prepare(data)
    source = DigitsConfig().build()
    assert dataset.class_names == tuple("0123456789")
    for split in ("train", "test"):
        numbers = np.arange(source.count(split))
        expected = [source.picture(split, n) for n in numbers.tolist()]
        pictures = dataset.pictures(split, numbers, data.tokenizer.config.build())
        assert np.array_equal(pictures, np.stack([picture for picture, _ in expected]))
        assert dataset.labels(split).tolist() == [label for _, label in expected]
    assert dataset.manifest("train").provenance["source"]["licence"] == "CC BY 4.0"
    # 16 components keep 85 % of the variance (a figure known for this set).
    flat = pictures_of(dataset.count("train"), source)
    kept = dataset.feature("train", "pca", 0, 1437).var(0).sum() / flat.var(0).sum()
    assert 0.84 < kept < 0.86


def test_a_set_older_than_a_key_that_nobody_gives_is_still_the_recipes(tmp_path: Path) -> None:
    def table(classes: tuple[int, ...] | None) -> DataTable:
        source = Seat("digits", DigitsConfig(classes=classes))
        return DataTable(path=str(tmp_path), source=source, tokenizer=Seat("pixels", PixelTokenizerConfig()))

    prepare(table(None))
    for file in tmp_path.glob("*/manifest.json"):
        text = file.read_text()
        assert '"classes": null' in text
        file.write_text(text.replace('"classes": null', ""))
    assert prepare(table(None)).count("train") == 1437
    with pytest.raises(DataError, match=r"data.source = digits, the recipe asks for .*classes"):
        prepare(table((1, 2)))


def pictures_of(count: int, source: Source) -> np.ndarray:
    return np.stack([source.picture("train", n)[0].ravel() for n in range(count)]) / 127.5 - 1
