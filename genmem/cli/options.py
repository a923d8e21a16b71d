"""What every command on a recipe takes: RECIPE, overrides, `--plugin FILE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def recipe_arguments(function: F) -> F:
    """Give a click command the parameters `recipe: str`, `overrides: tuple[str, ...]` and
    `plugins: tuple[Path, ...]`.

    `--table.key=value` anywhere on the line is an override; every other option the command does
    not have is refused, with the nearest one it has.

    Example:
        @click.command("show")
        @recipe_arguments
        def command(recipe, overrides, plugins): ...
    """
    return plugin_option(_with_argument(function, RecipeArgument(["recipe"])))


def recipes_arguments(function: F) -> F:
    """The same for several recipes: `recipes: tuple[str, ...]` in place of `recipe`."""
    return plugin_option(_with_argument(function, RecipeArgument(["recipes"])))


def run_arguments(function: F) -> F:
    """The same for a run folder, whose recipe the overrides change: `run: str` in place of `recipe`."""
    argument = RecipeArgument(["run"], wanted="a run folder is wanted")
    return plugin_option(_with_argument(function, argument))


def plugin_option(function: F) -> F:
    """Give a click command `--plugin FILE`, repeatable, as `plugins: tuple[Path, ...]`."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Load this un-packaged plugin too. May be repeated.",
    )(function)


def checkpoint_option(function: F) -> F:
    """Give a click command `--checkpoint IMAGES`, as `checkpoint: int | None`."""
    return click.option(
        "--checkpoint",
        metavar="IMAGES",
        type=click.IntRange(min=0),
        help="Take the checkpoint of so many images; the newest if absent.",
    )(function)


def _with_argument(function: F, argument: click.Argument) -> F:
    parameters = getattr(function, "__click_params__", [])
    function.__click_params__ = [*parameters, argument]  # type: ignore[attr-defined]
    return function


class RecipeArgument(click.Argument):
    """RECIPE, RECIPE... or RUN, which also takes the overrides out of the line."""

    def __init__(
        self,
        declarations: list[str],
        wanted: str = "a recipe is wanted: a file, or the name of a shipped one",
    ) -> None:
        """Named "recipe" or "run" for one, "recipes" for several; `wanted` is said where there is none."""
        self.several = declarations == ["recipes"]
        self.wanted = wanted
        name = declarations[0].removesuffix("s").upper()
        metavar = f"{name}{'...' if self.several else ''} [--TABLE.KEY=VALUE]..."
        super().__init__(declarations, nargs=-1, type=click.UNPROCESSED, metavar=metavar)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser hand over options it does not know, which `process_value` sorts."""
        super().add_to_parser(parser, ctx)
        parser.ignore_unknown_options = True

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The recipe or recipes; the overrides go beside them.

        Raises:
            click.UsageError: Another option, no recipe, or too many.
        """
        # Where nothing was given, click says so in its own way, which differs by version.
        words = [str(word) for word in value] if isinstance(value, tuple | list) else []
        options = [word for word in words if word.startswith("-") and word != "-"]
        recipes = tuple(word for word in words if word not in options)
        for option in options:
            _require_override(option, ctx)
        ctx.params["overrides"] = tuple(options)
        if ctx.resilient_parsing:
            return recipes if self.several else ""
        if not recipes:
            raise click.UsageError(self.wanted, ctx)
        if len(recipes) > 1 and not self.several:
            raise click.UsageError(f"one {self.name} is wanted, got {len(recipes)}: {' '.join(recipes)}", ctx)
        return recipes if self.several else recipes[0]


def _require_override(option: str, ctx: click.Context) -> None:
    from genmem.host import did_you_mean
    from genmem.recipe.overrides import is_override

    name = option.partition("=")[0]
    if is_override(option):
        return
    if "." in name:
        raise click.UsageError(f"an override is written {name}=VALUE, in one word", ctx)
    known = [text for parameter in ctx.command.get_params(ctx) for text in parameter.opts]
    raise click.UsageError(f"there is no option {name}{did_you_mean(name, known)}", ctx)
