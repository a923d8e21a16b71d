"""The rules of recipes: extending, overriding, taking away, writing out."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli
from fakes import RECIPE, RingConfig, ShelfConfig, SpreadConfig, fake_catalog

from genmem.recipe import Recipe, RecipeError, dump, load, loads
from genmem.recipe.overrides import parse_value
from genmem.recipe.reading import lines_of
from genmem.recipe.shipped import copy_shipped, list_shipped

RECIPES = Path(__file__).parent.parent / "recipes"


def read(text: str = RECIPE, *overrides: str) -> Recipe:
    return loads(text, "text", overrides, catalog=fake_catalog())


def read_files(folder: Path, *overrides: str, **texts: str) -> Recipe:
    """Write files and load the last of them."""
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return load(folder / f"{name}.toml", overrides, catalog=fake_catalog())


def test_components_are_resolved_and_defaults_filled_in() -> None:
    recipe = read()
    assert recipe.backbone.use == "grid"
    assert recipe.memory["negatives"].config == RingConfig(rows=64)
    assert recipe.objective["spread"].objective.config == SpreadConfig(tap=2)
    assert recipe.objective["spread"].weight == 0.5
    assert recipe.optimizer.betas == (0.9, 0.999)
    assert recipe.train.images == 50_000


def test_an_optional_seat_and_named_tables_may_be_absent() -> None:
    text = RECIPE.replace('[guidance]\nuse = "lean"\n', "").replace('[data.source]\nuse = "pens"\n', "")
    recipe = read(text, "--objective.repel=none", "--memory.negatives=none")
    assert recipe.guidance is None
    assert recipe.data.source is None
    assert set(recipe.memory) == {"bank"}


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("7", 7),
        ('"7"', 7),
        ('"50K"', 50_000),
        ('"50Ki"', 51_200),
        ('"1.5M"', 1_500_000),
        ('"0.5Ki"', 512),
        ('"2 Mi"', 2**21),
        ('"1.28G"', 1_280_000_000),
        ('"1Gi"', 2**30),
    ],
)
def test_numbers_of_images(text: str, images: int) -> None:
    assert read(RECIPE.replace('"50K"', text)).train.images == images


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("true", True),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ("adam", "adam"),
        ("50K", "50K"),
        ("", ""),
        ("a=b", "a=b"),
        ("2024-01-01", "2024-01-01"),
        ("1\nx = 2", "1\nx = 2"),
        ("1, x = 2", "1, x = 2"),
        ("1 # 2", "1 # 2"),
        ("{a = 1}", {"a": 1}),
    ],
)
def test_values_of_overrides_are_toml_or_else_text(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_precedence_is_default_parent_file_command_line(tmp_path: Path) -> None:
    recipe = read_files(
        tmp_path,
        "--train.seed=4",
        a=RECIPE.replace("batch = 64", "batch = 64\nseed = 1\nkeep = 3"),
        b='extends = "a.toml"\n[train]\nseed = 2\nlog_every = 5\n',
        c='extends = "b.toml"\n[train]\nseed = 3\n',
    )
    train = recipe.train
    assert (train.seed, train.log_every, train.keep, train.micro_batch) == (4, 5, 3, None)
    assert recipe.name == "c"


def test_another_use_replaces_the_table_and_the_same_use_joins_it(tmp_path: Path) -> None:
    parent = RECIPE.replace("rows = 64", "rows = 64")
    other = read_files(
        tmp_path,
        a=parent.replace('memory = "bank"\n', "label = true\n"),
        b='extends = "a.toml"\n[memory.bank]\nuse = "ring"\nrows = 3\n[objective.repel]\nmemory = "bank"\n'
        '[memory]\nnegatives = "none"\n',
    )
    assert other.memory == {"bank": type(other.memory["bank"])("ring", RingConfig(rows=3))}
    same = read_files(tmp_path, a=parent, b='extends = "a.toml"\n[memory.bank]\nuse = "shelf"\n')
    assert same.memory["bank"].config == ShelfConfig(encoder="raw")


def test_what_use_replaced_is_forgotten() -> None:
    with pytest.raises(RecipeError, match=r"missing key 'rows' @ memory\.bank\.rows"):
        read(RECIPE, "--memory.bank.use=ring")


def test_use_is_laid_first_whatever_the_order() -> None:
    assert read(
        RECIPE,
        "--objective.repel.tap=3",
        "--objective.repel.weight=1",
        "--objective.repel.use=spread",
        "--memory.negatives=none",
    ).objective["repel"].objective.config == SpreadConfig(tap=3)


def test_a_new_named_table_needs_its_use() -> None:
    recipe = read(
        RECIPE, "--objective.more.weight=1", "--objective.more.use=spread", "--objective.more.tap=1"
    )
    assert recipe.objective["more"].objective.config == SpreadConfig(tap=1)


def test_none_takes_away_a_value_that_has_a_default() -> None:
    text = RECIPE.replace('use = "walk"', 'use = "walk"\nstop = "none"')
    assert read(text).sampler.config.stop is None  # type: ignore[attr-defined]
    assert read(RECIPE, "--sampler.stop=none") == read(text)


def test_name_and_description_are_not_inherited(tmp_path: Path) -> None:
    named = f'name = "first"\ndescription = "One."\n{RECIPE}'
    assert read_files(tmp_path, a=named).name == "first"
    child = read_files(tmp_path, a=named, b='extends = "a.toml"\n')
    assert (child.name, child.description) == ("b", "")
    assert read(named, "--train.seed=1").name == "first"
    assert read(named, "--name=second").name == "second"


def test_extends_finds_shipped_recipes_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "quickstart"\n')
    with pytest.raises(RecipeError) as caught:  # the fakes have none of its components, and say so
        load(tmp_path / "mine.toml", catalog=fake_catalog())
    assert all(str(problem.origin).startswith(str(RECIPES)) for problem in caught.value.problems)


def test_a_dump_says_everything_and_loads_as_it_is() -> None:
    recipe = read(RECIPE, "--sampler.stop=none", "--optimizer.clip=1.5", '--description=a "quoted" one')
    text = dump(recipe)
    assert loads(text, "other", catalog=fake_catalog()) == recipe
    raw = tomli.loads(text)
    assert raw["name"] == "text"
    assert raw["optimizer"]["weight_decay"] == 0.0
    assert raw["objective"]["spread"]["form"] == "near"
    assert raw["train"]["images"] == 50_000
    assert "clip" not in tomli.loads(dump(read()))["optimizer"]
    assert "extends" not in raw


def test_lines_are_those_of_the_file() -> None:
    text = '# first\na = 1\n[b]\n"c d" = 2\n[b.e]\nf.g = """\n[fake]\nx = 1\n"""\n[[h]]\ni = 1\n'
    assert lines_of(text) == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c d"): 4,
        ("b", "e"): 5,
        ("b", "e", "f", "g"): 6,
        ("[[]]", "i"): 11,
    }


def test_a_number_by_name_can_be_taken_away() -> None:
    tables = """
[data.expect]
sample_shape = [1, 8, 8]
features = { pca = 16, other = "none" }
"""
    recipe = loads(f'extends = "{RECIPES / "quickstart.toml"}"\n{tables}', "less")
    assert recipe.data.expect is not None and recipe.data.expect.features == {"pca": 16}


def test_every_shipped_recipe_is_right() -> None:
    files = sorted(RECIPES.rglob("*.toml"))
    assert files
    assert len(list_shipped()) == len(files)
    for file in files:
        recipe = load(file)
        assert loads(dump(recipe), recipe.name) == recipe
        assert recipe.description, f"{file} has no description"


def test_copying_a_shipped_recipe_overwrites_nothing(tmp_path: Path) -> None:
    copied = copy_shipped("quickstart", tmp_path)
    assert copied == tmp_path / "quickstart.toml"
    assert copied.read_bytes() == (RECIPES / "quickstart.toml").read_bytes()
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        copy_shipped("quickstart", tmp_path)
    with pytest.raises(LookupError, match="did you mean 'quickstart'"):
        copy_shipped("quikstart", tmp_path)
