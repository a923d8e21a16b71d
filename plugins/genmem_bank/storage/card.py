"""The card of a bank, `bank.json`: what the bank is, and which files hold it.

The card is written last and replaced at once, so a folder holds a whole bank or none, and rows that
are added are there all or not at all.
"""

from __future__ import annotations

import hashlib
import json
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

from genmem.contracts import Reads
from genmem_bank.storage.tensors import Dtype, replace

CARD = "bank.json"
FORMAT = 2
ANEW = "remove the bank's folder to build it anew"

Kind = Literal["low-rank", "raw"]


@attrs.frozen(kw_only=True)
class Samples:
    """Rows of samples of a data set: row = first row + view · count + place."""

    split: str = "train"
    first: int = 0
    """Number of the sample at place 0, where samples are consecutive."""

    count: int
    views: int = 1
    """2: mirrored twins follow the plain rows, in the same order."""

    numbers: str | None = None
    """File of the sample numbers (count), ascending, where they were chosen."""

    labels: str | None = None
    """File of the samples' classes (count), where the set has any."""

    drawn: str = ""
    """How they were chosen."""


@attrs.frozen(kw_only=True)
class Added:
    """Rows that were added: what each was made of."""

    what: tuple[str, ...]
    """Paths of pictures, or names of files of features."""

    hashes: tuple[str, ...]
    """sha256 of each."""


@attrs.frozen(kw_only=True)
class Origin:
    """Where a segment's rows come from: one of the two; neither where nobody knows (an import)."""

    samples: Samples | None = None
    added: Added | None = None


@attrs.frozen(kw_only=True)
class Segment:
    """Consecutive rows in one file."""

    file: str
    hash: str
    """sha256 of the stored rows."""

    rows: int
    origin: Origin


@attrs.frozen(kw_only=True)
class Mapped:
    """A map from other features to the bank's rows, trained after the bank was built."""

    name: str
    reads: Reads
    use: str
    """The encoder that makes the features, by its registered name."""

    settings: dict[str, Any]
    """Of the encoder, with where its weights lay."""

    state: str
    """Hash of its weights, or of what it learned."""

    encoder_file: str | None
    """What it has learned, where it learns."""

    file: str
    hash: str
    """sha256 over the map's tensors."""

    width: int
    """Of the features."""

    hidden: int
    loss: Literal["mse", "clip"]
    epochs: int
    batch: int
    lr: float
    seed: int
    pairs: int
    """Rows it was trained on."""

    texts: tuple[tuple[str, ...], ...] = ()
    """The names of every class, where it reads text."""

    held_out: dict[str, float]
    """What was found on held-out pictures; empty where there are none."""


@attrs.frozen(kw_only=True)
class Card:
    """What a bank is."""

    format: int = FORMAT
    kind: Kind
    encoder: str
    """Name of the feature its rows are made of."""

    settings: str = ""
    """What the encoder is, as the data set describes it."""

    state: str = ""
    """Hash of the encoder's weights, or of what it learned."""

    rank: int | None
    """Dimensions kept; None in a raw bank."""

    width: int
    dtype: Dtype
    energy: float | None
    """Share of the centred rows' energy that the rank keeps; None where nobody knows."""

    error: float | None
    """Root mean square of ‖row - stored row‖, of rows read back, all of norm 1; None likewise."""

    identity: str
    """Hash of encoder, settings, state, width, μ, B and S: what a model was trained with."""

    basis_file: str | None
    """None in a raw bank."""

    encoder_file: str | None = None
    """What the encoder has learned, where the data set does not keep it."""

    segments: tuple[Segment, ...]
    provenance: dict[str, Any]
    """Where the features came from: the data set's own provenance."""

    maps: tuple[Mapped, ...] = ()
    """Oldest first. They change neither identity nor rows."""

    @property
    def stored_width(self) -> int:
        """Numbers stored for a row: coefficients, or the row itself."""
        return self.width if self.rank is None else self.rank

    @property
    def starts(self) -> tuple[int, ...]:
        """The number of each segment's first row, and of rows in all at the end."""
        return tuple(accumulate((segment.rows for segment in self.segments), initial=0))

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.starts[-1]

    @property
    def added_rows(self) -> int:
        """Rows that were added after the bank was built."""
        return sum(segment.rows for segment in self.segments if segment.origin.added is not None)

    @property
    def rows_hash(self) -> str:
        """Hash over the segments' hashes."""
        return hashlib.sha256("".join(segment.hash for segment in self.segments).encode()).hexdigest()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the bank but the card itself."""
        named = [self.basis_file, self.encoder_file]
        for segment in self.segments:
            samples = segment.origin.samples
            named += [segment.file, *((samples.numbers, samples.labels) if samples else ())]
        for one in self.maps:
            named += [one.file, one.encoder_file]
        return tuple(name for name in named if name is not None)


def write_card(folder: Path, card: Card) -> None:
    """Make the bank whole: from here on `folder` holds this one."""
    replace(folder / CARD, [(json.dumps(attrs.asdict(card), indent=2) + "\n").encode()])


def read_card(folder: Path) -> Card:
    """The card of the bank in `folder`.

    Raises:
        FileNotFoundError: No bank there.
        ValueError: A card that cannot be read, or of another format.
    """
    path = folder / CARD
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: no bank here; `genmem bank build RECIPE` or `genmem train RECIPE` builds it"
        )
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, and this version reads {FORMAT}")
        card = cattrs.structure(content, Card)
        _check(card)
    except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
        raise ValueError(f"{path}: no readable card of a bank ({error}); {ANEW}") from error
    return card


def _check(card: Card) -> None:
    for name in card.files:
        # A card is read before anything else, and says which files are opened.
        if Path(name).name != name:
            raise ValueError(f"it names the file {name!r}, which is not in the bank's folder")
    for segment in card.segments:
        samples = segment.origin.samples
        if samples is not None and samples.count * samples.views != segment.rows:
            raise ValueError(
                f"{segment.file} has {segment.rows} rows for {samples.count} samples in {samples.views} views"
            )
    if not card.segments:
        raise ValueError("it names no rows")
    if (card.kind == "raw") != (card.rank is None) or (card.rank is None) != (card.basis_file is None):
        raise ValueError(f"kind {card.kind!r} with rank {card.rank} and basis {card.basis_file!r}")
