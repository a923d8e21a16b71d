"""Bad recipes, and exactly what each is told; see bad_recipes.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
from fakes import RECIPE, WalkConfig, fake_catalog, loaded, plugin

from genmem.host import Catalog, Loaded
from genmem.recipe import RecipeError, load, loads

BAD = tomli.loads((Path(__file__).parent / "bad_recipes.toml").read_text(encoding="utf-8"))["bad"]


def told(text: str, *overrides: str, catalog: Catalog | None = None) -> list[str]:
    """The problems of a recipe, a line each."""
    with pytest.raises(RecipeError) as caught:
        loads(text, "bad", overrides, catalog=catalog or fake_catalog())
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return str(caught.value).splitlines()


def name_of(row: dict[str, Any]) -> str:
    return " ".join(row.get("overrides", [row.get("new") or "without " + row.get("old", "")])).replace(
        "\n", " "
    )


def test_the_good_recipe_is_good() -> None:
    assert loads(RECIPE, "good", catalog=fake_catalog()).name == "good"


def test_there_are_enough_bad_recipes() -> None:
    assert len(BAD) >= 30


@pytest.mark.parametrize("row", BAD, ids=name_of)
def test_bad_recipe(row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert row.get("old", "") in RECIPE
    text = RECIPE.replace(row["old"], row["new"], 1) if "old" in row else RECIPE
    expected = [line.replace("{here}", str(tmp_path.resolve())) for line in row["says"]]
    assert told(text, *row.get("overrides", ())) == expected


def test_each_problem_names_the_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "parent.toml").write_text(RECIPE.replace("depth = 4", "depth = 4\nwidht = 9"))
    child = tmp_path / "child.toml"
    child.write_text('extends = "parent.toml"\n[train]\nbatsh = 32\n')
    with pytest.raises(RecipeError) as caught:
        load(child, ["--sampler.stepps=3"], catalog=fake_catalog())
    assert sorted(str(caught.value).splitlines()) == [
        f"{child} --sampler.stepps=3: unknown key 'stepps', did you mean 'steps'? @ sampler.stepps",
        f"{child}:3: unknown key 'batsh', did you mean 'batch'? @ train.batsh",
        f"{tmp_path / 'parent.toml'}:13: unknown key 'widht', did you mean 'width'? @ backbone.widht",
    ]


def test_a_cycle_of_extends_is_shown(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.toml").write_text(f'extends = "{other}.toml"\n')
    with pytest.raises(RecipeError) as caught:
        load(tmp_path / "a.toml", catalog=fake_catalog())
    assert str(caught.value) == (
        f"{tmp_path / 'c.toml'}:1: extends itself: a.toml -> b.toml -> c.toml -> a.toml @ extends"
    )


def test_a_missing_file_is_told_with_the_nearest_shipped_recipe() -> None:
    with pytest.raises(RecipeError) as caught:
        load("quickstrat", catalog=fake_catalog())
    assert str(caught.value) == (
        "quickstrat: no such file, and no shipped recipe of that name, did you mean 'quickstart'?"
    )


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(RecipeError, match=r"x\.toml: cannot be read: .*utf-8"):
        load(tmp_path / "x.toml", catalog=fake_catalog())


def test_an_unknown_component_names_the_broken_plugins_that_might_have_it() -> None:
    broken = attrs.evolve(plugin("swirl", "genmem-swirl", "2.1"), status="broken", error="OSError: no")
    catalog = Catalog.of([*fake_catalog().loaded, Loaded(plugin=broken)])
    assert told(RECIPE.replace('use = "walk"', 'use = "swirl"'), catalog=catalog) == [
        "bad:37: no sampler is called 'swirl' (there are: walk); plugin 'swirl' (genmem-swirl 2.1) might "
        "offer it, but is broken: OSError: no @ sampler.use"
    ]


def test_a_component_two_plugins_offer_cannot_be_named() -> None:
    rival = loaded({"genmem_samplers": {"walk": WalkConfig}}, plugin("rival", "genmem-rival", "0.3"))
    catalog = Catalog.of([*fake_catalog().loaded, rival])
    assert told(RECIPE, catalog=catalog) == [
        "bad:37: sampler 'walk' is offered by plugin 'fake' (genmem-fake 1.0) and by plugin 'rival' "
        "(genmem-rival 0.3); block all but one with GENMEM_BLOCK=rival @ sampler.use"
    ]
