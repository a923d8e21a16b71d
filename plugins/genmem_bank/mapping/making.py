"""`genmem bank map`: from what was asked for to a map beside the bank."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import attrs
from rich.console import Console

from genmem.devices import resolve
from genmem.training.progress import preparation_progress
from genmem_bank.changing.pictures import NamedSet
from genmem_bank.mapping.keeping import keep_map, require_new
from genmem_bank.mapping.makers import Maker, find_maker
from genmem_bank.mapping.names import Names, check_names, read_names
from genmem_bank.mapping.network import RowMap
from genmem_bank.mapping.pairs import Epochs
from genmem_bank.mapping.sides import PictureSide, TextSide
from genmem_bank.mapping.subject import Subject
from genmem_bank.mapping.training import Course, train_map
from genmem_bank.storage.card import Mapped, read_card

KEPT = ".mapping"
"""Features that an encoder made for a map, in the bank's folder; a killed map goes on with them."""

PAPER: dict[str, tuple[Literal["mse", "clip"], int]] = {"pictures": ("mse", 1), "text": ("clip", 60)}
"""Loss and epochs of either kind."""


@attrs.frozen(kw_only=True)
class Order:
    """A map that is asked for. What is absent is the paper's."""

    bank: Path
    data: str
    encoder: str
    name: str | None = None
    names: Path | None = None
    loss: Literal["mse", "clip"] | None = None
    epochs: int | None = None
    hidden: int | None = None
    batch: int = 256
    lr: float = 1e-4
    seed: int = 0
    device: str = "auto"

    def course(self, reads: str) -> Course:
        """How it is trained."""
        loss, epochs = PAPER[reads]
        return Course(
            loss=self.loss or loss,
            epochs=self.epochs or epochs,
            batch=self.batch,
            lr=self.lr,
            seed=self.seed,
            hidden=self.hidden,
        )


def make_map(order: Order, overrides: Sequence[str], plugins: Sequence[Path]) -> Mapped:
    """Train it and keep it.

    Raises:
        FileNotFoundError: No bank, or no such set.
        RecipeError: No such encoder.
        ValueError: A bank of another set, or of pictures that nobody knows; a name that is taken; features,
            names or settings that do not fit. Nothing is written.
    """
    name = order.name or order.encoder
    require_new(order.bank, read_card(order.bank), name)
    subject = Subject(order.bank, NamedSet.open(order.data, tuple(plugins)))
    maker = find_maker(order.encoder, subject.data, overrides, plugins)
    device, course = resolve(order.device), order.course(maker.config.reads)
    with preparation_progress(Console(stderr=True), shown=True) as report:
        side = _side(order, subject, maker)
        epochs = Epochs(subject.read, subject.built, side.partner, course.batch, course.seed)
        network = train_map(epochs, subject.card.width, course, device, report)
    mapped = _describe(name, maker, course, side, network)
    kept = keep_map(order.bank, subject.card.identity, network.arrays(), side.learned, mapped)
    shutil.rmtree(order.bank / KEPT, ignore_errors=True)
    return kept


def _side(order: Order, subject: Subject, maker: Maker) -> PictureSide | TextSide:
    device = resolve(order.device)
    if maker.config.reads == "text":
        return TextSide(subject, maker, device, _names(order, subject))
    if order.names is not None:
        raise ValueError(f"--names is for an encoder of text; {maker.name!r} reads {maker.config.reads}")
    return PictureSide(subject, maker, device, order.bank / KEPT)


def _names(order: Order, subject: Subject) -> Names:
    dataset = subject.data.dataset
    known = dataset.class_names
    if order.names is not None:
        return read_names(order.names, len(known))
    return check_names(f"the class names of {dataset.path}", [[name] for name in known], len(known))


def _describe(
    name: str, maker: Maker, course: Course, side: PictureSide | TextSide, network: RowMap
) -> Mapped:
    return Mapped(
        name=name,
        reads=maker.config.reads,
        use=maker.seat.use,
        settings=maker.settings,
        state=side.state,
        encoder_file=None,
        file="",
        hash="",
        width=len(network.origin),
        hidden=network.first.out_features,
        loss=course.loss,
        epochs=course.epochs,
        batch=course.batch,
        lr=course.lr,
        seed=course.seed,
        pairs=side.pairs,
        texts=side.texts,
        held_out=side.score(network),
    )
