"""`genmem bank build -o`: from what was asked for to a bank, on one process or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from rich.console import Console

from genmem.devices import resolve
from genmem.training.launch import process_group
from genmem.training.progress import preparation_progress
from genmem_bank.building.choosing import choose_per_class, choose_samples
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.encoding import EncodedPictures
from genmem_bank.building.features import Features
from genmem_bank.building.targets import Target, open_target
from genmem_bank.building.team import Team
from genmem_bank.building.unfinished import UNFINISHED
from genmem_bank.storage.card import CARD, Card
from genmem_bank.storage.tensors import Dtype


@attrs.frozen(kw_only=True)
class Order:
    """A bank that is asked for."""

    target: str
    """A recipe, or a folder."""

    out: Path
    rank: int | None = None
    energy: float | None = None
    encoder: str | None = None
    rows: int | None = None
    per_class: int | None = None
    seed: int = 0
    views: int | None = None
    dtype: Dtype = "fp32"
    device: str = "auto"
    replace: bool = False


def build_ordered(order: Order, overrides: Sequence[str], plugins: Sequence[Path]) -> Card | None:
    """Build it; its card, on the first process.

    Raises:
        FileExistsError: A bank is there, and is not to be replaced.
        ValueError: The set, the encoder or the features are not what was asked for.
    """
    if (order.out / CARD).exists() and not order.replace:
        raise FileExistsError(f"{order.out}: there is a bank already; name another folder, or say --replace")
    with process_group(torch.device("cpu")):
        team = Team.of_group()
        with preparation_progress(Console(stderr=True), shown=team.first) as report:
            target = open_target(
                order.target, overrides, plugins, order.encoder, report=report, together=team.world > 1
            )
            features = _features(order, target)
            form = Form(rank=order.rank, energy=order.energy, dtype=order.dtype)
            card = build_bank(order.out, features, form, team, report)
    return card if team.first else None


def _features(order: Order, target: Target) -> Features:
    dataset, name = target.dataset, target.name_feature(order.encoder)
    views = order.views or dataset.views
    numbers, drawn = _choose(order, target)
    made = target.features(name, resolve(order.device), order.out / UNFINISHED, numbers)
    computed = made if isinstance(made, EncodedPictures) else None
    if views > dataset.views and computed is None:
        raise ValueError(f"--views {views}, but {dataset.path} has plain views alone; leave --views out")
    return Features(
        dataset=made,
        encoder=name,
        views=views,
        count=dataset.count("train") if numbers is None else len(numbers),
        numbers=numbers,
        drawn=drawn,
        learned=None if computed is None else computed.learned,
    )


def _choose(order: Order, target: Target) -> tuple[np.ndarray | None, str]:
    """Which samples become rows (None: all), and how that was decided."""
    dataset = target.dataset
    if order.rows is not None:
        numbers = choose_samples(dataset.count("train"), order.seed, order.rows)
        return numbers, f"{order.rows} samples drawn with seed {order.seed}"
    if order.per_class is not None:
        numbers = choose_per_class(dataset.labels("train"), order.seed, order.per_class)
        return numbers, f"{order.per_class} samples of each class drawn with seed {order.seed}"
    return None, ""
