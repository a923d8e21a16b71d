"""The JSON Schema of recipes: fresh, right for every recipe, and as strict as the reader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tomli
from distributions import ROOT
from fakes import RECIPE, fake_catalog
from jsonschema import Draft202012Validator

from genmem.host import KINDS, load_catalog
from genmem.recipe import RecipeError, loads
from genmem.recipe.docstrings import attribute_docstrings
from genmem.recipe.schema import schema_of, seated_kinds
from genmem.recipe.tables import Recipe, TrainTable

COMMITTED = ROOT / "docs" / "recipe.schema.json"
FAKE = Draft202012Validator(schema_of(fake_catalog()))


def test_the_committed_schema_is_fresh() -> None:
    ours = [one for one in load_catalog().loaded if one.plugin.distribution == "genmem"]
    fresh = schema_of(type(load_catalog()).of(ours))
    assert json.loads(COMMITTED.read_text()) == json.loads(json.dumps(fresh)), (
        "docs/recipe.schema.json is old: genmem recipe schema > docs/recipe.schema.json"
    )


def test_every_shipped_recipe_is_valid_and_names_the_schema() -> None:
    files = sorted((ROOT / "recipes").rglob("*.toml"))
    assert files
    schema = json.loads(COMMITTED.read_text())
    Draft202012Validator.check_schema(schema)
    for file in files:
        text = file.read_text()
        Draft202012Validator(schema).validate(tomli.loads(text))
        first = text.splitlines()[0]
        assert first.startswith("#:schema "), file
        assert (file.parent / first.removeprefix("#:schema ")).resolve() == COMMITTED


def test_every_option_has_a_description() -> None:
    schema = schema_of(load_catalog())
    lacking = [path for path, field in _fields(schema, ()) if "description" not in field]
    assert not lacking


def _fields(node: dict[str, Any], path: tuple[str, ...]) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every property with its path; the components' under their names."""
    found = []
    for key, field in node.get("properties", {}).items():
        if isinstance(field, dict):
            found += [((*path, key), field), *_fields(field, (*path, key))]
    for name, definition in node.get("$defs", {}).items():
        found += _fields(definition, (name,))
    return found


def good() -> dict[str, Any]:
    return tomli.loads(RECIPE)


def test_the_good_recipe_is_valid() -> None:
    assert FAKE.is_valid(good())


WRONG: list[tuple[tuple[str, ...], Any]] = [
    (("backbone", "dept"), 3),
    (("backbone", "depth"), "4"),
    (("backbone", "depth"), 4.5),
    (("backbone", "use"), "gird"),
    (("data", "encoder", "raw", "widht"), 3),
    (("data", "path"), 3),
    (("objective", "spread", "weigth"), 1.0),
    (("objective", "spread", "form"), "nearr"),
    (("objective", "spread", "group"), "globl"),
    (("objective", "spread", "group"), 1.5),
    (("objective", "spread", "range"), [0.5]),
    (("objective", "spread", "layers"), [1, "2"]),
    (("objective", "a b"), {"use": "spread", "weight": 1.0, "tap": 1}),
    (("train", "images"), "50k"),
    (("train", "precision"), "fp8"),
    (("condition", "label"), "yes"),
    (("optimizer", "betas"), 0.9),
    (("sampler",), "walk"),
    (("memory", "use"), "ring"),
    (("colour",), 3),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda part: str(part))
def test_what_the_reader_refuses_the_schema_refuses(path: tuple[str, ...], value: Any) -> None:
    raw = good()
    table = raw
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = value
    assert not FAKE.is_valid(raw)
    with pytest.raises(RecipeError):
        loads(_toml(raw), "wrong", catalog=fake_catalog())


@pytest.mark.parametrize(
    "path",
    [
        ("backbone",),
        ("train",),
        ("backbone", "use"),
        ("data", "tokenizer", "use"),
        ("memory", "negatives", "rows"),
        ("memory", "negatives", "use"),
        ("objective", "spread", "weight"),
        ("objective", "repel", "memory"),
        ("train", "batch"),
        ("evaluate", "every"),
    ],
    ids=".".join,
)
def test_what_is_missing_is_missed_unless_the_recipe_extends(path: tuple[str, ...]) -> None:
    raw = good()
    table = raw
    for key in path[:-1]:
        table = table[key]
    del table[path[-1]]
    assert not FAKE.is_valid(raw)
    assert FAKE.is_valid({"extends": "good", **raw})
    with pytest.raises(RecipeError, match="missing"):
        loads(_toml(raw), "wrong", catalog=fake_catalog())


@pytest.mark.parametrize(
    "path", [("guidance",), ("memory", "bank"), ("objective", "repel"), ("train", "micro_batch")]
)
def test_none_may_stand_for_what_is_optional(path: tuple[str, ...]) -> None:
    raw = copy.deepcopy(good())
    table = raw
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = "none"
    assert FAKE.is_valid(raw)


def test_names_defaults_and_docs_are_in_it() -> None:
    depth = schema_of(fake_catalog())["$defs"]["backbone.grid"]["properties"]["depth"]
    assert depth == {"description": "Blocks.", "type": "integer", "default": 4}


def test_components_without_a_seat_in_recipes_are_left_out() -> None:
    assert set(seated_kinds(Recipe)) == set(KINDS) - {"format"}
    kinds = {name.partition(".")[0] for name in schema_of(load_catalog())["$defs"]}
    assert kinds <= set(seated_kinds(Recipe))


def test_docstrings_of_attributes_are_found() -> None:
    found = attribute_docstrings(TrainTable)
    assert found["keep"] == "Checkpoints to keep."
    assert attribute_docstrings(int) == {}


def _toml(raw: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(raw)


def test_paths_of_this_machine_are_not_in_it() -> None:
    assert str(Path.home()) not in COMMITTED.read_text()
    assert str(ROOT) not in COMMITTED.read_text()
