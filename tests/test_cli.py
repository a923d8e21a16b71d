"""The command line, in this process: arguments, errors, what is printed where."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from distributions import ROOT, genmem_command, install, objective

from genmem import __version__
from genmem.cli import COMMANDS, main
from genmem.cli.options import recipe_arguments
from genmem.host.kinds import OWN_COMMANDS
from genmem.recipe import RecipeError, load

QUICKSTART = str(ROOT / "recipes" / "quickstart.toml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="genmem")


def test_help_has_examples_and_every_command() -> None:
    said = run("--help").output
    assert "Examples:" in said
    for name, entry in COMMANDS.items():
        assert f"  {name} " in said
        assert entry.help in said


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_commands_say(name: str) -> None:
    command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
    assert command.name == name
    assert command.short_help == COMMANDS[name].help
    said = run(name, "--help").output
    assert said.startswith(f"Usage: genmem {name} ")
    assert "Examples:" in said or isinstance(command, click.Group)


def test_the_host_knows_the_names_of_our_commands() -> None:
    assert set(COMMANDS) == OWN_COMMANDS


def test_version() -> None:
    assert run("--version").output == f"genmem, version {__version__}\n"


def test_a_misspelt_command_is_told_the_nearest() -> None:
    done = run("chekc")
    assert done.exit_code == 2
    assert "no command is called 'chekc', did you mean 'check'?" in done.stderr


def test_check_tells_all_problems_of_all_recipes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text('extends = "quickstart"\n[train]\nbacth = 1\nseeed = 2\n')
    one, two = str(tmp_path / "one.toml"), str(tmp_path / "two.toml")
    done = run("check", one, QUICKSTART, two)
    assert done.exit_code == 1
    assert done.stdout == f"{QUICKSTART}: ok\n"
    assert done.stderr.splitlines() == [
        f"{file}:{line}: unknown key {key!r}, did you mean {near!r}? @ train.{key}"
        for file in (one, two)
        for line, key, near in ((3, "bacth", "batch"), (4, "seeed", "seed"))
    ]


def test_a_bad_recipe_is_plain_red_lines_without_traceback(tmp_path: Path) -> None:
    arguments = ["recipe", "show", QUICKSTART, "--train.bacth=1", "--train.seeed=2"]
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert [line.split(" @ ")[1] for line in done.stderr.splitlines()] == ["train.bacth", "train.seeed"]
    coloured = CliRunner().invoke(main, arguments, color=True).stderr
    assert coloured.startswith("\x1b[31m")


def test_show_prints_a_recipe_that_shows_the_same(tmp_path: Path) -> None:
    shown = run("recipe", "show", "quickstart", "--backbone.depth=3")
    assert shown.exit_code == 0
    assert "depth = 3\n" in shown.output
    again = tmp_path / "again.toml"
    again.write_text(shown.output)
    assert run("recipe", "show", str(again)).output == shown.output


def test_list_and_copy(tmp_path: Path) -> None:
    described = json.loads(run("recipe", "list", "--json").output)
    assert described["quickstart"]["description"] and described["quickstart"]["parameters"] > 300_000
    names = [line.split()[0] for line in run("recipe", "list").output.splitlines()]
    assert names == ["recipe", *described]
    some = run("recipe", "list", "cifar10/").output.splitlines()[1:]
    assert some and all(line.startswith("cifar10/") for line in some)
    nothing = run("recipe", "list", "nowhere/")
    assert nothing.exit_code == 2 and "no shipped recipe begins with 'nowhere/'" in nothing.output
    target = tmp_path / "mine.toml"
    assert run("recipe", "copy", "quickstart", str(target)).output == f"{target}\n"
    assert target.read_bytes() == Path(QUICKSTART).read_bytes()
    done = run("recipe", "copy", "quickstart", str(target))
    assert done.exit_code == 2
    assert "nothing is overwritten" in done.stderr


@click.command()
@recipe_arguments
@click.option("--steps", type=int)
@click.option("--fast", "-f", is_flag=True)
def probe(recipe: str, overrides: tuple[str, ...], plugins: tuple[Path, ...], steps: int, fast: bool) -> None:
    """A command on a recipe."""
    click.echo(json.dumps([recipe, overrides, [path.name for path in plugins], steps, fast]))


def probed(*arguments: str) -> Result:
    return CliRunner().invoke(probe, arguments)


def test_overrides_stand_anywhere_and_options_keep_their_meaning(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("")
    done = probed(
        "--a.b=1", "x.toml", "--steps", "3", "--c.d=e=f g", "--plugin", str(file), "-f", "--guidance=none"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == [
        "x.toml",
        ["--a.b=1", "--c.d=e=f g", "--guidance=none"],
        ["mine.py"],
        3,
        True,
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.toml", "--stepz", "3"], "there is no option --stepz, did you mean '--steps'?"),
        (["x.toml", "--stepz=3"], "there is no option --stepz, did you mean '--steps'?"),
        (["x.toml", "--zzz"], "there is no option --zzz"),
        (["x.toml", "-q"], "there is no option -q"),
        (["x.toml", "--train.images", "3"], "an override is written --train.images=VALUE, in one word"),
        (["x.toml", "--train..images=3"], "an override is written --train..images=VALUE"),
        (["x.toml", "y.toml"], "one recipe is wanted, got 2: x.toml y.toml"),
        (["--train.images=3"], "a recipe is wanted: a file, or the name of a shipped one"),
        (["x.toml", "--plugin", "not-there.py"], "File 'not-there.py' does not exist."),
        (["x.toml", "--steps", "x"], "'x' is not a valid integer."),
    ],
)
def test_misspelt_options_are_errors(arguments: list[str], said: str) -> None:
    done = probed(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_help_of_a_recipe_command_names_overrides() -> None:
    assert "RECIPE [--TABLE.KEY=VALUE]..." in probed("--help").output


COMMAND = """
import click
from genmem import hookimpl

@click.command()
@click.argument("word")
def shout(word):
    "Say it louder."
    click.echo(word.upper())

@hookimpl
def genmem_commands():
    return {"shout": shout}
"""


def test_a_plugin_adds_a_command(tmp_path: Path) -> None:
    install(tmp_path, "megaphone", COMMAND)
    assert "shout  Say it louder." in genmem_command("--help", path=tmp_path).stdout
    assert genmem_command("shout", "hey", path=tmp_path).stdout == "HEY\n"


def test_a_command_that_two_plugins_offer_is_refused(tmp_path: Path) -> None:
    for name in ("megaphone", "siren"):
        install(tmp_path, name, COMMAND)
    said = genmem_command("--help", path=tmp_path)
    assert said.returncode == 0
    assert "shout" not in said.stdout
    done = genmem_command("shout", "hey", path=tmp_path)
    assert done.returncode == 2
    assert "by plugin 'megaphone' (megaphone 1.0) and by plugin 'siren' (siren 1.0)" in done.stderr
    rows = json.loads(genmem_command("plugins", "--json", path=tmp_path).stdout)["components"]
    assert [row["status"] for row in rows if row["name"] == "shout"] == ["clash", "clash"]


def test_the_table_is_one_line_a_row_where_it_is_no_terminal() -> None:
    lines = run("plugins").output.splitlines()
    data = json.loads(run("plugins", "--json").output)
    assert len(lines) == 1 + len(data["components"])
    assert lines[0].split() == ["kind", "name", "description", "provided", "by", "status"]


MINE = objective("mine", "Mine.")


def test_a_single_file_from_the_command_line_or_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    recipe = tmp_path / "recipe.toml"
    body = 'extends = "quickstart"\n[objective.mine]\nuse = "mine"\nweight = 1.0\n'
    recipe.write_text(body)
    assert "no objective is called 'mine'" in run("check", str(recipe)).stderr
    assert run("check", str(recipe), "--plugin", str(tmp_path / "mine.py")).exit_code == 0
    recipe.write_text('plugins = ["mine.py"]\n' + body)
    assert run("check", str(recipe)).output == f"{recipe}: ok\n"
    assert f'"{tmp_path / "mine.py"}"' in run("recipe", "show", str(recipe)).output
    assert "file mine.py" in run("plugins", "--plugin", str(tmp_path / "mine.py")).output
    (tmp_path / "mine.py").write_text("import not_there")
    said = run("check", str(recipe)).stderr
    assert "plugin 'mine' (file mine.py) is broken: ModuleNotFoundError: No module named 'not_there'" in said


def test_plugins_a_recipe_names_are_not_run_unasked(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE + f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'extends = "quickstart"\nplugins = ["mine.py"]\n[objective.mine]\nuse = "mine"\nweight = 1.0\n'
    )
    with pytest.raises(RecipeError) as caught:
        load(recipe, run_plugins=False)
    needs = f"needs the plugin mine.py, which is not run unasked; pass --plugin {tmp_path / 'mine.py'}"
    assert f"{recipe}:2: {needs}" in str(caught.value).splitlines()
    assert not (tmp_path / "ran").exists()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mine.py").write_text(MINE)
    with pytest.raises(RecipeError, match=f"pass --plugin {tmp_path / 'plugins' / 'mine.py'}"):
        load(recipe, run_plugins=False)
    loaded = load(recipe, plugins=[tmp_path / "mine.py"], run_plugins=False)
    assert loaded.plugins == (str(tmp_path / "mine.py"),)
    assert loaded == load(recipe)
