"""What the processes of `test_bank_resuming.py` run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from bank_data import Features, decaying

from genmem.training.launch import process_group
from genmem_bank.building import construction, features
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.team import Team
from genmem_bank.building.unfinished import Block


def cut(rows: int, width: int) -> list[Block]:
    """Blocks of 17 rows."""
    return [Block(i, start, min(start + 17, rows)) for i, start in enumerate(range(0, rows, 17))]


def build(folder: Path, rows: np.ndarray, mirrored: np.ndarray, team: Team) -> None:
    """A bank of rank 5 in `folder`."""
    dataset = Features(Path("set"), rows, mirrored=mirrored)
    made = features.Features(dataset=dataset, encoder="enc", views=2, count=len(rows))
    build_bank(folder, made, Form(rank=5), team)


def build_together(folder: Path) -> None:
    """A bank, and one that cannot be built because of a sample that one process has."""
    torch.set_num_threads(1)
    construction.blocks_of = cut  # type: ignore[attr-defined]
    with process_group(torch.device("cpu")):
        team = Team.of_group()
        build(folder / "together", decaying(), decaying(seed=3), team)
        spoiled = decaying(seed=3)
        spoiled[55] = np.nan
        try:
            build(folder / "spoiled", decaying(), spoiled, team)
        except ValueError as error:
            (folder / f"error-{team.rank}").write_text(str(error))
