"""Planning a sweep: axes, names, runs, and every fault of every run at once. Nothing trains."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

from genmem.cli import main
from genmem.recipe import RecipeError, dump, load, loads
from genmem.recipe.overrides import parse_value
from genmem.sweep.axes import Axis, sort_overrides, split_values, text_of
from genmem.sweep.names import points, safe, titles_of
from genmem.sweep.plan import Plan
from genmem.sweep.planning import plan


def planned(tmp_path: Path, sweep: str, *words: str, extends: str = "quickstart", **options) -> Plan:
    file = tmp_path / "grid.toml"
    file.write_text(f'extends = "{extends}"\n{sweep}')
    return plan(str(file), words, out=tmp_path / "out", **options)


def folders(found: Plan) -> list[str]:
    return [str(run.folder.relative_to(found.out)) for run in found.runs()]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[1, 2],[3]", ["[1, 2]", "[3]"]),
        ('"a,b",c', ['"a,b"', "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("{use = 'x', n = [1, 2]},none", ["{use = 'x', n = [1, 2]}", "none"]),
        ("1,", ["1", ""]),
        ("plain", ["plain"]),
    ],
)
def test_a_comma_outside_brackets_and_quotes_makes_an_axis(text: str, values: list[str]) -> None:
    assert split_values(text) == values


VALUES = st.recursive(
    st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(VALUES)
@example("\x7f")
@example({"a\U00010000": ["1", "x,y"]})
def test_values_of_a_file_survive_the_command_line(value: object) -> None:
    text = text_of(value)
    assert split_values(text) == [text]
    assert parse_value(text) == value


def test_later_overrides_win_and_those_of_the_sweep_table_stand_apart() -> None:
    line = sort_overrides(["--a.b=1,2", "--a.c=1", "--a.b=3", "--a.c=4,5", "--sweep.score=fd/pixels"])
    assert dict(line.plain) == {"a.b": "--a.b=3"}
    assert dict(line.axes) == {"a.c": Axis("a.c", ("4", "5"))}
    assert line.table == ("--sweep.score=fd/pixels",)


@pytest.mark.parametrize(
    ("key", "trains"),
    [
        ("sampler.steps", False),
        ("sampler.use", False),
        ("guidance", False),
        ("guidance.scale", False),
        ("evaluate.samples", False),
        ("evaluate.weights", False),
        ("evaluate.every", True),
        ("samplers.steps", True),
        ("train.batch", True),
        ("objective.spread.weight", True),
    ],
)
def test_what_only_changes_scores_trains_nothing(key: str, trains: bool) -> None:
    assert Axis(key, ("1", "2")).trains is trains


def test_names_take_the_fewest_last_parts_that_tell_keys_apart() -> None:
    keys = ["memory.negatives.rows", "memory.bank.rows", "objective.a.weight", "sampler.use"]
    assert titles_of(keys) == {
        "memory.negatives.rows": "negatives.rows",
        "memory.bank.rows": "bank.rows",
        "objective.a.weight": "weight",
        "sampler.use": "sampler",
    }


def test_names_are_safe_unique_and_the_same_every_time() -> None:
    axis = Axis("a.path", ('"x/y"', "x_y", "X_Y", "../..", "[1, 2]", "v" * 300, "ema", "EMA"))
    names = [name for name, _ in points([axis])]
    assert len({name.casefold() for name in names}) == len(names)
    assert names == [name for name, _ in points([axis])]
    assert all("/" not in name and len(name) <= 60 and not name.startswith(".") for name in names)
    many = points([Axis(f"t.key{number}", ("1" * 30, "2" * 30)) for number in range(6)])
    assert len({name for name, _ in many}) == 64 and max(len(name) for name, _ in many) == 150
    assert safe("infonce-l2") == "infonce-l2" and safe('""') == "empty"


def test_a_grid_is_the_product_of_axes_and_seeds(tmp_path: Path) -> None:
    words = ("--memory.negatives.rows=4096,16384", "--objective.spread.temperature=0.1,0.5", "--train.seed=7")
    found = planned(tmp_path, "", *words, seeds=3)
    assert len(found.runs()) == 12
    assert folders(found)[:4] == [
        *(f"rows=4096,temperature=0.1/seed={seed}" for seed in (7, 8, 9)),
        "rows=4096,temperature=0.5/seed=7",
    ]
    last = found.runs()[-1]
    assert last.recipe.memory["negatives"].config.rows == 16384  # type: ignore[attr-defined]
    assert last.recipe.train.seed == 9 and last.recipe.evaluate.seed == 0
    assert found.baseline == "rows=4096,temperature=0.1" and found.score == "fd/pixels"


def test_the_command_of_a_run_gives_the_recipe_that_was_planned(tmp_path: Path) -> None:
    sweep = '[sweep]\nseeds = 2\n[sweep.axes]\n"optimizer.betas" = [[0.9, 0.95], [0.9, 0.99]]'
    for run in planned(tmp_path, sweep).runs():
        assert load(run.source, run.overrides) == run.recipe
        assert loads(dump(run.recipe), run.recipe.name) == run.recipe and run.recipe.sweep is None


def test_axes_of_the_sampler_are_settings_of_one_run(tmp_path: Path) -> None:
    words = ("--sampler.steps=50,25,10", "--evaluate.weights=ema,online", "--optimizer.lr=0.1,0.2")
    found = planned(tmp_path, "", *words)
    assert folders(found) == ["lr=0.1/seed=0", "lr=0.2/seed=0"]
    (run, _) = found.runs()
    assert list(run.settings) == [f"steps={n},weights={w}" for n in (50, 25, 10) for w in ("ema", "online")]
    assert run.recipe.sampler.config.evaluations == 25
    scored = run.settings["steps=50,weights=online"]
    assert scored.sampler.config.evaluations == 50 and scored.evaluate.weights == "online"


def test_the_command_line_lies_over_the_axes_of_the_recipe(tmp_path: Path) -> None:
    sweep = '[sweep.axes]\n"optimizer.lr" = [0.1, 0.2]\n"train.batch" = [64, 128]'
    assert len(planned(tmp_path, sweep).runs()) == 4
    found = planned(tmp_path, sweep, "--optimizer.lr=0.5", "--train.batch=32,64,96")
    assert folders(found) == ["batch=32/seed=0", "batch=64/seed=0", "batch=96/seed=0"]
    assert {run.recipe.optimizer.lr for run in found.runs()} == {0.5}


def test_what_stands_beside_comes_first_with_every_plain_override(tmp_path: Path) -> None:
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "other.toml").write_text('extends = "digits/label"')
    sweep = (
        '[sweep]\nbaseline = "grid"\n[sweep.axes]\n"optimizer.lr" = [0.1]\n'
        '[sweep.beside]\nother = "near/other.toml"\nshipped = "digits/dit"'
    )
    found = planned(tmp_path, sweep.replace('"grid"', '"lr=0.1"'), "--train.batch=64", "--sampler.steps=5,9")
    assert folders(found) == ["other/seed=0", "shipped/seed=0", "lr=0.1/seed=0"]
    assert {run.recipe.train.batch for run in found.runs()} == {64}
    assert all(set(run.settings) == {"steps=5", "steps=9"} for run in found.runs())
    assert found.configurations[0].recipe.optimizer.lr == 0.004
    gone = planned(tmp_path, sweep.replace('"grid"', '"lr=0.1"'), "--sweep.beside.shipped=none")
    assert folders(gone) == ["other/seed=0", "lr=0.1/seed=0"]


def test_with_no_axis_that_trains_only_what_stands_beside_is_run(tmp_path: Path) -> None:
    sweep = '[sweep.beside]\nlabel = "digits/label"\ndit = "digits/dit"'
    assert folders(planned(tmp_path, sweep)) == ["label/seed=0", "dit/seed=0"]
    assert folders(planned(tmp_path, "")) == ["grid/seed=0"]


FAULTS: list[tuple[str, tuple[str, ...], list[str]]] = [
    ("", ("--optimizer.lr=0.1,x",), ["lr=x: ", "--optimizer.lr=x: expected a number"]),
    ("", ("--optimizer.rate=1,2",), ["rate=1: ", "rate=2: ", "unknown key 'rate'"]),
    ("", ("--train.batch=64,64",), ["the value 64 is there twice @ train.batch"]),
    ("", ("--train.batch=64,",), ["one of the values is empty: 64, @ train.batch"]),
    ("", ("--train.seed=1,2",), ["train.seed is no axis", "--seeds N"]),
    ("", ("--sampler.steps=9,y",), ["--sampler.steps=y: expected a whole number"]),
    ('[sweep]\nbaseline = "lr"', (), ["there is no configuration 'lr'; there are: grid @ sweep.baseline"]),
    ("[sweep]\nsedes = 3", (), ["grid.toml:3: unknown key 'sedes', did you mean 'seeds'? @ sweep.sedes"]),
    ("[sweep]\nseeds = 0", (), ["seeds must be above 0, got 0 @ sweep.seeds"]),
    ('[sweep.axes]\n"train.batch" = []', (), ["'train.batch' has no values @ sweep.axes"]),
    ("[sweep.axes]\ntrain.batch = [1]", (), ["sweep.axes.train"]),
    ('[sweep]\nscore = "fd/pixel"', (), ["grid: ", "no score 'fd/pixel'", "fd/random-conv, loss/held_out"]),
    ('[sweep.beside]\na = "digits/lable"', (), ["a: digits/lable: no such file", "'digits/label'"]),
    ('[sweep.beside]\n"a b" = "digits/label"', (), ["letters, digits, - and _ @ sweep.beside.a b"]),
    (
        '[sweep.beside]\na = "digits/label"\nb = "digits/dit"',
        ("--memory.negatives.rows=64",),
        ["a: ", "b: ", "there is no [memory.negatives]"],
    ),
    (
        '[sweep.axes]\n"optimizer.lr" = [0.1, 0.2]\n[sweep.beside]\nplain = "digits/label"',
        ("--memory.negatives.rows=64",),
        ["plain: ", "there is no [memory.negatives]"],
    ),
]


@pytest.mark.parametrize(("sweep", "words", "said"), FAULTS)
def test_faults_name_the_run_the_key_and_the_way_out(
    tmp_path: Path, sweep: str, words: tuple[str, ...], said: list[str]
) -> None:
    with pytest.raises(RecipeError) as caught:
        planned(tmp_path, sweep, *words)
    for part in said:
        assert part in str(caught.value)


def test_faults_of_all_runs_are_told_together_each_once(tmp_path: Path) -> None:
    sweep = '[sweep]\nbaseline = "nobody"\n[sweep.beside]\na = "digits/label"\nb = "nowhere"'
    words = ("--optimizer.lr=0.1,x", "--train.batch=64,y", "--objective.spread.weight=0.1")
    with pytest.raises(RecipeError) as caught:
        planned(tmp_path, sweep, *words)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines)) == 5
    (about_lr,) = [line for line in lines if "lr=x: expected" in line]
    assert about_lr.startswith("lr=x,batch=64, lr=x,batch=y: ")
    for part in ("nobody", "b: nowhere", "a: ", "batch=y: expected"):
        assert any(part in line for line in lines), part


def test_no_name_beside_the_grid_can_be_one_of_the_grid(tmp_path: Path) -> None:
    sweep = '[sweep.beside]\n"x" = "digits/label"\n[sweep.axes]\n"optimizer.lr" = [0.1]'
    assert len(planned(tmp_path, sweep).runs()) == 2
    with pytest.raises(RecipeError, match="letters, digits"):
        planned(tmp_path, sweep.replace('"x"', '"lr=0.1"'))


DOCS = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_recipes_of_the_docs_are_right(tmp_path: Path) -> None:
    found = [
        textwrap.dedent(text) for text in re.findall(r"^ *```toml\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)
    ]
    for text, runs in zip(found, (15, 6), strict=True):
        (tmp_path / "docs.toml").write_text(text)
        assert len(plan(str(tmp_path / "docs.toml")).runs()) == runs


def test_commands_of_the_docs_are_right() -> None:
    lines = re.findall(r"^genmem sweep (quickstart .*?)(?:   .*)?$", DOCS, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        said = CliRunner().invoke(main, ["sweep", *shlex.split(line), "--print"])
        assert said.exit_code == 0 and said.stdout.count("genmem train quickstart ") in (12, 1)


def test_a_recipe_with_a_sweep_is_checked_with_all_its_runs(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "digits/label"\n[sweep.axes]\n"optimizer.lr" = [0.1, -1.0]')
    done = CliRunner().invoke(main, ["check", str(file)])
    assert done.exit_code == 1 and "lr=-1.0: " in done.stderr and "lr must be above 0" in done.stderr
