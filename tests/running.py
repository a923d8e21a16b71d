"""Small runs for tests: the quickstart on prepared digits, cut to a few steps."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from genmem.building import prepare_files
from genmem.data.dataset import Dataset
from genmem.recipe import loads
from genmem.recipe.tables import Recipe
from genmem.training.guard import Guard
from genmem.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
QUICKSTART = ROOT / "recipes" / "quickstart.toml"
STRESS = ROOT / "tests" / "stress" / "stress.py"

SMALL = (
    "--backbone.depth=2",
    "--backbone.width=32",
    "--train.batch=32",
    "--train.images=320",
    "--memory.negatives.rows=96",
    "--objective.repel.min_fill=1",
    "--evaluate.samples=256",
    "--evaluate.every=320",
    "--train.log_every=64",
)


def small_recipe(
    data: Path, *overrides: str, tables: str = "", plugins: Sequence[Path] = (), small: Sequence[str] = SMALL
) -> Recipe:
    """The quickstart, small, on the digits prepared in `data`, with further TOML tables."""
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    return loads(f'extends = "{QUICKSTART}"\n{tables}', "small", (*paths, *small, *overrides), plugins)


def ready(recipe: Recipe) -> Dataset:
    """Its data and memories, made if missing."""
    return prepare_files(recipe)


def trainer_of(recipe: Recipe, messages: list[str] | None = None) -> Trainer:
    """A trainer on the CPU."""
    said = [] if messages is None else messages
    guard = Guard(lambda line, images: said.append(line), recipe.guard)
    return Trainer(recipe, ready(recipe), torch.device("cpu"), guard)


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every tensor of its checkpoint, by group and name."""
    groups = trainer.checkpoint().tensors
    return {
        f"{group}/{name}": value.clone()
        for group, tensors in groups.items()
        for name, value in tensors.items()
    }


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], atol: float = 0.0) -> None:
    """The same names, and the same numbers bit for bit (or within `atol`)."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        if atol:
            torch.testing.assert_close(value, second[name], atol=atol, rtol=1e-4, msg=name, equal_nan=True)
        else:
            assert torch.equal(value.nan_to_num(), second[name].nan_to_num()), name


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Until the condition holds; the process must still run."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
