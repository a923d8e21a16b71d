"""Building a bank: two streaming passes over the features, never an N × E decomposition.

Pass one sums the moments of the unit rows, in float64 from part to part; the eigenvectors of their
covariance are the right singular vectors of M - μ. Pass two writes the coefficients, reads them back
and sums the error. Nothing grows with N; the processes of a team share the blocks of rows.
Shapes: E width, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import attrs
import torch
from torch import Tensor

from genmem_bank.building.features import Features
from genmem_bank.building.moments import EXACT, Decomposition, decompose, is_steep, join_moments, sum_moments
from genmem_bank.building.team import Team
from genmem_bank.building.unfinished import Block, Unfinished, blocks_of
from genmem_bank.building.writing import Projection, write_rows
from genmem_bank.storage.card import Card, Origin, Segment, read_card, write_card
from genmem_bank.storage.columns import write_column
from genmem_bank.storage.files import (
    identity_of,
    lock,
    name_segment,
    rows_header,
    write_basis,
    write_encoder,
)
from genmem_bank.storage.tensors import DTYPES, STORED, Dtype
from genmem_bank.storage.verification import hash_array

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@attrs.frozen(kw_only=True)
class Form:
    """How rows are stored; as they are, if neither rank nor energy is given."""

    rank: int | None = None
    energy: float | None = None
    """In place of a rank: the fewest dimensions that keep this share of the energy."""

    dtype: Dtype = "fp32"


def build_bank(
    folder: Path,
    features: Features,
    form: Form,
    team: Team | None = None,
    report: Report = lambda what, done, total: None,
) -> Card:
    """Decompose features and store the bank in `folder`, in place of one that is there.

    Whoever kills it leaves the old bank, or none; called again it goes on where it was. The bank is
    the same for any number of processes.

    Args:
        folder: Of the bank.
        features: Its rows.
        form: How they are stored.
        team: The processes that call this, each with the same arguments; this one alone if absent.
        report: Told of this process's progress.

    Raises:
        ValueError: Zero or non-finite features, or a rank above what the rows span; nothing is left.
    """
    team = team or Team()
    there = folder.exists()
    if team.first:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder) if team.first else nullcontext():
            return _Construction(folder, features, form, team, report).run()
    except ValueError:
        if team.first and not there:
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()
        raise


class _Construction:
    """One build. What a killed one has done is not done again."""

    def __init__(self, folder: Path, features: Features, form: Form, team: Team, report: Report) -> None:
        self.folder, self.features, self.form, self.team, self.report = folder, features, form, team, report
        with team.step():
            self.width = features.width()
        self.unfinished = Unfinished(folder, blocks_of(features.rows, self.width), self.width)
        self.own = team.share(self.unfinished.blocks)
        self.exact = features.rows * self.width <= EXACT

    def run(self) -> Card:
        """Every step, together with the other processes."""
        try:
            self.once(self.begin)
            found = None
            if self.form.rank is not None or self.form.energy is not None:
                found = self.find_basis()
            head = self.head(found)
            self.once(lambda: self.unfinished.begin_rows(head, self.features.rows * self.row_bytes(found)))
            self.each(lambda block: self.write_block(block, found, len(head)))
            self.once(lambda: self.finish(found, len(head)))
        except ValueError:
            if self.team.first:
                self.unfinished.remove()
            raise
        return read_card(self.folder)

    def find_basis(self) -> Decomposition:
        """Pass one, in fp32; again in float64 where the spectrum falls too far for that."""
        self.each(self.sum_block)
        self.once(self.decompose)
        found = self.unfinished.basis()
        if found is not None and (self.exact or not is_steep(found)):
            return found
        self.exact = True
        self.once(self.unfinished.forget_moments)
        return self.find_basis()

    def once(self, step: Callable[[], None]) -> None:
        """What the first process does, while the others wait."""
        with self.team.step():
            if self.team.first:
                step()

    def each(self, step: Callable[[Block], None]) -> None:
        """What is done with every block, by the process that has it."""
        with self.team.step():
            for block in self.own:
                step(block)

    def begin(self) -> None:
        """Compare with what a killed build was about."""
        features = self.features
        self.unfinished.begin(
            {
                "encoder": features.maker(),
                "provenance": features.provenance(),
                "samples": attrs.asdict(features.samples(None)),
                "numbers": None if features.numbers is None else hash_array(features.numbers),
                "width": self.width,
                "form": attrs.asdict(self.form),
            }
        )

    def sum_block(self, block: Block) -> None:
        """Pass one."""
        if self.unfinished.moments(block) is None:
            parts = self.parts("moments", block, torch.float64 if self.exact else torch.float32)
            self.unfinished.keep_moments(block, sum_moments(parts))

    def decompose(self) -> None:
        """The basis, from the moments of all blocks; none where fp32 cannot tell how much they span."""
        if self.unfinished.basis() is not None:
            return
        moments = join_moments(self.unfinished.all_moments())
        try:
            self.unfinished.keep_basis(decompose(moments, self.form.rank, self.form.energy))
        except ValueError:
            if self.exact:
                raise

    def write_block(self, block: Block, found: Decomposition | None, start: int) -> None:
        """Pass two: rows into their place in the file."""
        if not self.unfinished.is_written(block):
            size = self.row_bytes(found)
            at = start + block.start * size
            projection = Projection(None if found is None else found.basis)
            parts = self.parts("rows", block, torch.float32)
            error = write_rows(self.unfinished.rows, at, parts, projection, self.form.dtype)
            self.unfinished.note_rows(block, at, (block.stop - block.start) * size, error)

    def finish(self, found: Decomposition | None, start: int) -> None:
        """Give the files their names, and make the bank whole."""
        features, basis = self.features, None if found is None else found.basis
        error = math.sqrt(self.unfinished.squared_error() / features.rows)
        name, settings, state = features.maker()
        identity = identity_of(features.maker(), self.width, basis)
        learned = features.learned
        card = Card(
            kind="raw" if found is None else "low-rank",
            encoder=name,
            settings=settings,
            state=state,
            rank=None if found is None else found.rank,
            width=self.width,
            dtype=self.form.dtype,
            energy=1.0 if found is None else found.energy,
            error=error,
            identity=identity,
            basis_file=None if found is None else write_basis(self.folder, identity, *found),
            encoder_file=None if learned is None else write_encoder(self.folder, learned),
            segments=(self.finish_rows(start),),
            provenance=features.provenance(),
        )
        write_card(self.folder, card)
        self.unfinished.remove()

    def finish_rows(self, start: int) -> Segment:
        """Store what is known of the rows, and give their file its name."""
        features, digest = self.features, self.unfinished.hash_rows(start)
        label_N = features.labels()
        labels = None if label_N is None else write_column(self.folder, "labels", label_N)
        numbers = None if features.numbers is None else write_column(self.folder, "numbers", features.numbers)
        self.unfinished.rows.replace(self.folder / name_segment(digest))
        origin = Origin(samples=features.samples(numbers, labels))
        return Segment(file=name_segment(digest), hash=digest, rows=features.rows, origin=origin)

    def parts(self, what: str, block: Block, dtype: torch.dtype) -> Iterator[Tensor]:
        """The unit rows of a block, each part counted when it is done with."""
        done = block.start - self.own[0].start
        for part_NE in self.features.parts(block.start, block.stop, self.width, dtype):
            yield part_NE
            done += len(part_NE)
            self.report(what, done, self.own[-1].stop - self.own[0].start)

    def head(self, found: Decomposition | None) -> bytes:
        """Of the segment's file."""
        stored = self.width if found is None else found.rank
        kind = "raw" if found is None else "low-rank"
        return rows_header(kind, self.form.dtype, (self.features.rows, stored))

    def row_bytes(self, found: Decomposition | None) -> int:
        """Bytes stored for a row."""
        return (self.width if found is None else found.rank) * DTYPES[STORED[self.form.dtype]].itemsize
