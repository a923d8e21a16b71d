"""The references of a run: seen once, a chunk at a time, and the same as all at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from running import ready, small_recipe

from genmem.data.dataset import Dataset
from genmem.scoring import neighbours
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.moments import Moments
from genmem.scoring.sets import pictures as sets


@pytest.fixture(scope="module")
def recipe(data):
    found = small_recipe(data)
    ready(found)
    return found


def test_splits_are_seen_in_chunks_and_scores_are_those_of_all_at_once(recipe, monkeypatch) -> None:
    monkeypatch.setattr(sets, "CHUNK", 100)
    monkeypatch.setattr(sets, "_FIT_BYTES", 64 * 90)
    monkeypatch.setattr(sets.spread, "__defaults__", (64 * 90,))
    asked: list[int] = []
    plain = Dataset.pictures

    def spy(self, split, numbers, tokenizer):
        asked.append(len(numbers))
        return plain(self, split, numbers, tokenizer)

    monkeypatch.setattr(Dataset, "pictures", spy)
    dataset = ready(recipe)
    evaluation = Evaluation(recipe, dataset, torch.device("cpu"))
    assert max(asked) == 100 and sum(asked) <= dataset.count("train") + dataset.count("test") + 90 * len(
        evaluation.spaces
    )
    train, test = (
        plain(dataset, split, np.arange(dataset.count(split)), evaluation.tokenizer)
        for split in ("train", "test")
    )
    half = np.arange(1, len(test), 2)
    before = len(asked)
    floor, of_half = evaluation.row(evaluation.train), evaluation.row(evaluation.train, half)
    assert len(asked) == before
    for name, space in evaluation.spaces.items():
        x, y = (space.encoder.encode(part).pooled_BD for part in (train, test))
        assert floor[f"fd/{name}"] == pytest.approx(frechet(Moments.of(x), Moments.of(y)), rel=1e-9)
        assert of_half[f"fd/{name}"] == pytest.approx(frechet(Moments.of(x), Moments.of(y[half])), rel=1e-9)
    assert np.array_equal(evaluation.train.read(np.array([[5, 3]])[0]), train[[5, 3]])


def test_a_picture_set_is_shown_to_an_encoder_once(recipe, monkeypatch) -> None:
    evaluation = Evaluation(recipe, ready(recipe), torch.device("cpu"))
    given = evaluation.test.read(np.arange(200))
    calls = []
    encoder = evaluation.lookup.encoder
    plain = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda part: calls.append(len(part)) or plain(part))
    found = evaluation.scores(given, np.zeros(200, np.int64))
    assert sum(calls) == 200
    assert {"labels", "nearest", "copies"} < found.keys()
    assert evaluation.row(given).items() < found.items()


def test_nearest_rows_of_a_large_reference_are_found_in_pieces(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    rows, query = rng.normal(size=(60, 5)), rng.normal(size=(9, 5))
    rows[40] = rows[3]
    query[0] = rows[3]
    distance = np.linalg.norm(query[:, None] - rows, axis=2)
    order = np.argsort(distance, axis=1, kind="stable")[:, :4]
    monkeypatch.setattr(neighbours, "_AT_ONCE", 7)
    found, numbers = neighbours.nearest(query, rows, 4)
    assert np.array_equal(numbers, order) and numbers[0, :2].tolist() == [3, 40]
    np.testing.assert_allclose(found, np.take_along_axis(distance, order, 1), rtol=1e-12, atol=1e-12)
