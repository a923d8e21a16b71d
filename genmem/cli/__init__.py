"""The command line. Commands are imported when they run; nothing here imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from genmem import __version__
from genmem.host import Catalog, PluginError, did_you_mean, is_strict, load_catalog


class Entry(NamedTuple):
    """A command of the core, before it is imported."""

    module: str
    help: str
    """What the list of commands says; the same as the command's `short_help`."""


COMMANDS: Mapping[str, Entry] = {
    "train": Entry("genmem.cli.train", "Train a recipe, or go on with its run."),
    "sweep": Entry("genmem.cli.sweep", "Run a grid of recipes; one table and one plot."),
    "sample": Entry("genmem.cli.sample", "Make pictures from a run."),
    "evaluate": Entry("genmem.cli.evaluate", "Score a run, or any set of pictures."),
    "compare": Entry(
        "genmem.cli.compare", "Put runs side by side: scores, spread, cost; a table and a page."
    ),
    "profile": Entry("genmem.cli.profile", "Parameters, MACs, FLOPs and memory of a recipe."),
    "data": Entry("genmem.cli.data", "Prepare data sets, look at them, check them."),
    "checkpoint": Entry("genmem.cli.checkpoint", "Import and export weights."),
    "check": Entry("genmem.cli.check", "Find everything wrong with recipes, without running them."),
    "recipe": Entry("genmem.cli.recipe", "Show, list and copy recipes; print their schema."),
    "plugins": Entry("genmem.cli.plugins", "List plugins and what they offer; start a new one."),
}


CATALOG = "genmem.catalog"


class Refusal(click.ClickException):
    """An error that is the user's to mend: plain red lines, no traceback."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print it on stderr."""
        for line in self.format_message().splitlines():
            click.secho(line, fg="red", err=True)


def catalog_of(ctx: click.Context) -> Catalog:
    """The plugins, loaded once for a command line."""
    meta = ctx.find_root().meta
    if CATALOG not in meta:
        meta[CATALOG] = load_catalog()
    catalog: Catalog = meta[CATALOG]
    return catalog


class Commands(click.Group):
    """The core's commands and those of plugins, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The core's commands, then those of plugins."""
        return [*COMMANDS, *catalog_of(ctx).commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command.

        Raises:
            click.UsageError: There is none, or several plugins offer it.
        """
        if cmd_name in COMMANDS:
            command = importlib.import_module(COMMANDS[cmd_name].module).command
            assert isinstance(command, click.Command)
            return command
        offered = catalog_of(ctx).commands()
        if cmd_name in offered:
            return offered[cmd_name]
        clash = catalog_of(ctx).command_clash(cmd_name)
        near = did_you_mean(cmd_name, self.list_commands(ctx))
        raise click.UsageError(clash or f"no command is called {cmd_name!r}{near}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lists; the core's needs no import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])
        offered = catalog_of(ctx).commands().items()
        if offered:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, command.get_short_help_str()) for name, command in offered])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what is the user's to mend is shown without a traceback.

        `GENMEM_STRICT=1` lets the traceback through.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `| head` is no error; click ends quietly
            raise
        except (PluginError, ValueError, OSError, ArithmeticError) as error:
            if is_strict():
                raise
            raise Refusal(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genmem")
def main() -> None:
    """Train, sample, score and profile denoising generative models from recipes.

    \b
    Examples:
      genmem train recipes/quickstart.toml           train, score, show pictures
      genmem train quickstart --train.images=25K     the same, a tenth as long
      genmem sample runs/quickstart --num 16         more pictures from a run
      genmem check my.toml                           everything wrong with a recipe
      genmem plugins                                 what a recipe can name
    """
