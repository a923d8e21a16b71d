"""Published numbers in recipes: typed, borrowed, of one recipe alone; and the list that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from running import QUICKSTART

from genmem.host import load_catalog
from genmem.recipe import RecipeError, dump, load, loads
from genmem.recipe.overview import overview
from genmem.training.folder import RunFolder

SCORE = """
[published.fid]
metric = "fid"
value = 36.49
source = "a paper, table 1"
images = "102.4M"
sampler = "Heun, 250 steps"
"""


def recipe_of(text: str, *overrides: str):
    return loads(f'extends = "{QUICKSTART}"\n{text}', "borrowed", overrides)


def test_it_is_kept_in_the_resolved_recipe() -> None:
    recipe = recipe_of(SCORE)
    score = recipe.published["fid"]
    assert (score.value, score.images, score.samples, score.guidance) == (36.49, 102_400_000, 50_000, "none")
    assert loads(dump(recipe), "borrowed") == recipe


def test_recipes_that_extend_do_not_inherit_it(tmp_path: Path) -> None:
    base = tmp_path / "base.toml"
    base.write_text(f'extends = "{QUICKSTART}"\n{SCORE}')
    above = tmp_path / "above.toml"
    above.write_text('extends = "base.toml"\n[backbone]\ndepth = 3\n')
    assert load(base).published and not load(above).published


@pytest.mark.parametrize(
    ("override", "kept"),
    [("--train.device=cpu", True), ("--evaluate.samples=64", True), ("--sampler.steps=3", True)]
    + [(text, False) for text in ("--backbone.depth=3", "--objective.repel.weight=1", "--optimizer.lr=1e-4")],
)
def test_an_override_of_the_method_takes_it_away(override: str, kept: bool) -> None:
    assert bool(recipe_of(SCORE, override).published) == kept


def test_it_is_no_part_of_a_runs_identity(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.recipe.write_text(dump(recipe_of("")))
    folder.check(recipe_of(SCORE))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('metric = "FID"', "one of 'fid', 'sfid', 'is'"),
        ('value = "low"', "expected a number"),
        ('source = " "', "source must say something"),
        ('sampler = ""', "says nothing without `images` and `sampler`"),
        ('evidence = "hearsay"', "'second-hand'"),
        ("imagse = 3", "did you mean 'images'"),
    ],
)
def test_faults_are_named(wrong: str, said: str) -> None:
    key = wrong.partition(" ")[0]
    lines = [line for line in SCORE.strip().splitlines() if not line.startswith(f"{key} ")]
    with pytest.raises(RecipeError, match=r"published\.fid") as raised:
        recipe_of("\n".join([*lines, wrong]))
    assert said in str(raised.value)


def test_a_count_needs_no_training() -> None:
    text = '[published.size]\nmetric = "parameters"\nvalue = 7\nsource = "here"\nevidence = "code"\n'
    assert recipe_of(text).published["size"].value == 7


def test_the_list_reads_what_the_loader_reads() -> None:
    """Its short way through `extends` gives the tables and numbers that loading gives."""
    entries = overview(load_catalog())
    for name in ("imagenet256/sit-b2-repa", "imagenet256/meanflow-b2", "cifar10/gmem", "quickstart"):
        recipe = load(name)
        assert entries[name].description == recipe.description
        raw = tomli.loads(dump(recipe)).get("published", {})
        assert entries[name].published.keys() == raw.keys()
    assert all(entry.count for entry in entries.values())
