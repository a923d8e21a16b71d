"""The full table of a run: its samples beside noise, a Gaussian, a linear decode, and the floor.

Shapes: N samples, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmem import collectives
from genmem.contracts import MemoryStore
from genmem.draws import Draws
from genmem.sampling.gallery import Gallery, Tick, generate
from genmem.sampling.generator import Generator
from genmem.scoring.evaluation import Evaluation
from genmem.scoring.protocol import Protocol
from genmem.scoring.reading import RowReading, read_rows
from genmem.scoring.table import DECODE, HELD_OUT, NOT_APPLICABLE, SAMPLES, Cell, Column, Row, ScoreTable

Scores = dict[str, float]

SHOWN = 64
"""Samples in a picture grid."""


class Report(NamedTuple):
    """The outcome of a full scoring."""

    table: ScoreTable
    evaluations: int
    """Of the network, for one sample."""

    first: np.ndarray
    """uint8 (at most SHOWN, H, W, C): the first samples of the first seed."""

    memory: dict[str, Any] | None
    """Of the memory that conditions: what it is, its rows, and the pixel energy they carry."""


def full_report(
    evaluation: Evaluation, generator: Generator, protocol: Protocol, tick: Tick | None = None
) -> Report | None:
    """Every process makes its share of what is scored, and looks at it; a report on rank 0, None elsewhere.

    Args:
        evaluation: References and measures.
        generator: What is scored.
        protocol: Its seeds are those of noise and conditions, one for each repetition.
        tick: For a progress bar.
    """
    store = generator.conditioner.store
    reading = None if store is None else read_rows(evaluation, store)
    rounds = [_round(evaluation, generator, reading, seed, tick) for seed in protocol.seeds]
    kinds = {name: [scores] for name, scores in _baselines(evaluation).items()}
    kinds |= {name: [one.rows[name] for one in rounds] for name in rounds[0].rows}
    kinds["held-out pictures"] = [evaluation.held_out_scores()]
    floor = evaluation.row(evaluation.train)
    kinds["floor: training pictures"] = [floor]
    if collectives.rank() != 0:
        return None
    table = _table(evaluation, kinds, floor, rounds[0].floors, protocol.digest)
    return Report(table, rounds[0].evaluations, rounds[0].first, _facts(store, reading))


class _Round(NamedTuple):
    """One repetition; rows have scores on rank 0."""

    evaluations: int
    first: np.ndarray
    rows: dict[str, Scores]
    floors: dict[str, Scores]
    """Of rows whose floor is not the table's."""


def _round(
    evaluation: Evaluation, generator: Generator, reading: RowReading | None, seed: int, tick: Tick | None
) -> _Round:
    found = sample_set(evaluation, generator, seed, tick)
    rows, floors = _samples(evaluation, generator, found, reading), {}
    if held_out := _HeldOutRows.of(evaluation, generator, seed):
        unseen = sample_set(evaluation, generator, seed, tick, held_out.memory_NKE)
        rows[HELD_OUT] = evaluation.scores(unseen, held_out.label_N, held_out.other_half)
        floors[HELD_OUT] = evaluation.row(evaluation.train, held_out.other_half)
    return _Round(found.evaluations, found.head(SHOWN), rows, floors)


def sample_set(
    evaluation: Evaluation,
    generator: Generator,
    seed: int,
    tick: Tick | None = None,
    memory_NKE: Tensor | None = None,
) -> Gallery:
    """As many samples of a seed as are scored."""
    options = evaluation.recipe.evaluate
    return generate(
        generator,
        evaluation.tokenizer,
        options.samples,
        seed=seed,
        batch=options.batch,
        memory_NKE=memory_NKE,
        tick=tick,
    )


def score_samples(evaluation: Evaluation, generator: Generator, gallery: Gallery) -> Scores:
    """Every score of samples, by column key. Collective; empty but on rank 0."""
    return evaluation.scores(gallery, evaluation.asked_labels(gallery, generator))


def _baselines(evaluation: Evaluation) -> dict[str, Scores]:
    """What a score has to be held against: noise, and a Gaussian that knows two moments."""
    gaussian = evaluation.gaussian()
    known = {} if gaussian is None else evaluation.scores(gaussian)
    return {"noise": evaluation.row(evaluation.noise()), "Gaussian": known}


def _samples(
    evaluation: Evaluation, generator: Generator, gallery: Gallery, reading: RowReading | None
) -> dict[str, Scores]:
    """The samples, after what their memory rows alone give."""
    store, row_N, rows = generator.conditioner.store, gallery.row_N, {}
    if store is not None and reading is not None and row_N is not None:
        device, rows_of, decode = generator.device, store.rows, reading.pictures

        def draw(numbers_B: np.ndarray) -> np.ndarray:
            return decode(rows_of(torch.from_numpy(row_N[numbers_B]).to(device)).cpu())

        labels = evaluation.asked_labels(gallery, generator)
        rows[DECODE] = evaluation.scores(evaluation.drawn(DECODE, draw), labels)
    return rows | {SAMPLES: score_samples(evaluation, generator, gallery)}


def _facts(store: MemoryStore | None, reading: RowReading | None) -> dict[str, Any] | None:
    if store is None or reading is None:
        return None
    found = {"rows": store.num_rows, "width": store.width, "pixel_energy": reading.energy}
    return found | store.fingerprint() | store.describe() | {"spectrum": list(store.spectrum())}


class _HeldOutRows(NamedTuple):
    """Memory rows of one half of the held-out split, one for each sample."""

    memory_NKE: Tensor
    label_N: np.ndarray | None
    other_half: np.ndarray

    @classmethod
    def of(cls, evaluation: Evaluation, generator: Generator, seed: int) -> _HeldOutRows | None:
        store = generator.conditioner.store
        if store is None:
            return None
        count = evaluation.dataset.count("test")
        rows_half, other_half = np.arange(0, count, 2), np.arange(1, count, 2)
        encoded = store.encode(evaluation.held_out.batch_of(rows_half))
        draws = Draws(seed, torch.arange(evaluation.recipe.evaluate.samples))
        chosen_N = draws.integers("held-out-row", len(rows_half))
        has_labels = bool(evaluation.dataset.class_names)
        labels = evaluation.dataset.labels("test")[rows_half[chosen_N.numpy()]] if has_labels else None
        return cls(encoded[chosen_N.to(encoded.device)], labels, other_half)


def columns_of(evaluation: Evaluation) -> tuple[Column, ...]:
    """The scores of a run."""
    columns = [Column(key=f"fd/{name}", title=f"FD {name}") for name in evaluation.spaces]
    lookup = evaluation.recipe.evaluate.copies
    if lookup:
        columns.append(Column(key=f"energy/{lookup}", title="energy", digits=4, multiples=False))
        columns.append(Column(key="labels", title="labels", better="higher", unit="share", digits=1))
        columns.append(Column(key="nearest", title="nearest", better="neither", digits=2))
        columns.append(Column(key="copies", title="copies", unit="share", digits=1))
    return tuple(columns)


def _table(
    evaluation: Evaluation,
    kinds: Mapping[str, Sequence[Scores]],
    floor: Scores,
    floors: Mapping[str, Scores],
    digest: str,
) -> ScoreTable:
    """A row for each kind of pictures, from its scores in each repetition."""
    columns = columns_of(evaluation)
    shown = [
        Row(name=name, cells={c.key: _cell(c.key, rounds) for c in columns}, floor=floors.get(name, {}))
        for name, rounds in kinds.items()
    ]
    return ScoreTable(
        title=f"{evaluation.recipe.name}: {evaluation.recipe.evaluate.samples:,} pictures of each kind, "
        f"against {evaluation.dataset.count('test'):,} held-out pictures",
        protocol=digest,
        columns=columns,
        rows=tuple(shown),
        floor=floor,
    )


def _cell(key: str, rounds: Sequence[Scores]) -> Cell:
    values = [scores[key] for scores in rounds if key in scores]
    return Cell.of_several(values) if len(values) == len(rounds) else Cell(None, NOT_APPLICABLE)
