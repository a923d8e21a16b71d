"""docs/papers.md says what the recipes say."""

from __future__ import annotations

import re

from running import ROOT

from genmem.host import load_catalog
from genmem.recipe import load
from genmem.recipe.shipped import list_shipped

ROW = re.compile(r"^\| `([\w/.-]+)` \| ([\d.]+|-) \| ([\d.]+)M \|", re.MULTILINE)
CATALOG = load_catalog()
PAPERS = ("imagenet64/", "imagenet256/", "imagenet512/", "cifar10/paper/")


def scores_in_recipes() -> set[tuple[str, str, float]]:
    found = set()
    for name, file in list_shipped().items():
        if not name.startswith(PAPERS):
            continue
        recipe = load(file, catalog=CATALOG)
        fids = [one for one in recipe.published.values() if one.metric == "fid"]
        found |= {(name, f"{one.value:g}", one.images / 1e6) for one in fids}
        if not fids and recipe.sweep is None:
            found.add((name, "-", recipe.train.images / 1e6))
    return found


def test_every_row_of_the_page_is_a_recipes_and_the_other_way_round() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = {(name, value, float(images)) for name, value, images in ROW.findall(text)}
    assert len(rows) > 120
    assert rows == scores_in_recipes()


def test_every_recipe_the_page_names_is_there() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`((?:imagenet\d+|cifar10)/[\w/.-]+)`", text)}
    assert named <= set(list_shipped())
