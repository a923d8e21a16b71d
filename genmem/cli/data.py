"""`genmem data`: prepare a set, look at it, check it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import click

from genmem.cli.options import RecipeArgument, plugin_option, recipe_arguments


@click.group("data", short_help="Prepare data sets, look at them, check them.")
def command() -> None:
    """Prepare data sets, look at them, check them."""


class _Places(RecipeArgument):
    """SOURCE OUT, or RECIPE; and overrides."""

    def __init__(self) -> None:
        super().__init__(["recipes"], "a source and a folder to write are wanted, or a recipe")
        self.metavar = "SOURCE OUT | RECIPE [--data.KEY=VALUE]..."


def _places(function: Any) -> Any:
    function.__click_params__ = [*getattr(function, "__click_params__", []), _Places()]
    return plugin_option(function)


@command.command("prepare", short_help="Make a set of shards from pictures or latents.")
@_places
@click.option("--source", help="What SOURCE is, by the name of a source; told from its looks if absent.")
@click.option("--tokenizer", help="What makes samples of pictures; for latents, what decodes them.")
@click.option(
    "--encoder", "encoders", multiple=True, metavar="USE|NAME=USE", help="Feature to store. Repeatable."
)
@click.option("--resolution", type=int, help="Side of the centre crop.")
@click.option("--held-out", help="Pictures held out where SOURCE has no test split: 5000, or 0.1.")
@click.option("--views", type=click.Choice(["1", "2"]), help="2: store mirrored twins too.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), help="Of stored features and latents.")
@click.option("--device", default="", help="Of tokenizer and encoders: auto, cpu, cuda, mps.")
@click.option("--nproc", default=1, show_default=True, help="Processes on this machine.")
def prepare(
    recipes: tuple[str, ...],
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    device: str,
    nproc: int,
    **options: Any,
) -> None:
    """Make a set of shards in OUT from SOURCE, or the one that a RECIPE names.

    SOURCE is a folder of class folders, an archive of one, CIFAR-10's binary files, WebDataset shards
    of pictures, latents of REPA, LightningDiT or GMem, or the name of a source that needs no path.
    What it was taken for is printed; --source NAME says otherwise. `genmem plugins` lists sources,
    tokenizers and encoders; every key of theirs can be set by --data.source.KEY=VALUE and the like.

    After a kill the same command goes on. Under torchrun, leave --nproc out.

    \b
    Examples:
      genmem data prepare pictures/ data/mine --tokenizer pixels --resolution 64 --held-out 0.1
      genmem data prepare cifar.tar.xz data/cifar10 --tokenizer pixels --encoder pca --views 2
      genmem data prepare digits data/digits --tokenizer pixels --data.encoder.pca.use=pca
      genmem data prepare quickstart
      torchrun --nproc_per_node 8 -m -- genmem data prepare my.toml
    """
    from genmem.data.making.session import Request, prepare_set
    from genmem.training.launch import spawn

    if len(recipes) > 2:
        raise click.UsageError(f"SOURCE and OUT are wanted, or RECIPE; got {len(recipes)} words")
    request = Request(
        overrides=overrides, plugins=plugins, device=device, **_request(recipes, plugins, options)
    )
    if nproc == 1:
        prepare_set(request)
    else:
        request.read()
        spawn(prepare_set, (request,), nproc)


def _request(words: tuple[str, ...], plugins: tuple[Path, ...], options: dict[str, Any]) -> dict[str, Any]:
    """A recipe, or the table that the words and options say."""
    if len(words) == 1:
        given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value]
        if given:
            raise click.UsageError(
                f"{given[0]} goes with SOURCE OUT; a recipe's keys are set by --data.KEY=VALUE"
            )
        return {"recipe": words[0]}
    if not options["tokenizer"]:
        raise click.UsageError("--tokenizer is missing; genmem plugins lists tokenizers")
    return {"raw": _table(words[0], words[1], plugins, options)}


def _table(word: str, out: str, plugins: tuple[Path, ...], options: dict[str, Any]) -> dict[str, Any]:
    from genmem.data.making.naming import name_encoders, name_source
    from genmem.host import load_catalog
    from genmem.recipe.overrides import parse_value

    named = options["source"]
    source = {"use": named, "path": word} if named else name_source(word, load_catalog(plugins))
    if os.environ.get("RANK", "0") == "0":  # torchrun starts this once for each process
        click.echo(f"source: {word} as {source['use']}")
    if options["resolution"]:
        source["resolution"] = options["resolution"]
    if options["held_out"]:
        source["held_out"] = parse_value(options["held_out"])
    table: dict[str, Any] = {"path": out, "source": source, "tokenizer": {"use": options["tokenizer"]}}
    table["encoder"] = name_encoders(options["encoders"])
    if options["views"]:
        table["views"] = int(options["views"])
    if options["precision"]:
        table["precision"] = options["precision"]
    return table


@command.command("info", short_help="What a set holds.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(path: str, as_json: bool) -> None:
    """Print what the set in folder PATH, or at a URL, holds, and what it was made from.

    \b
    Examples:
      genmem data info data/digits
      genmem data info data/digits --json
    """
    from genmem.data.description import describe_set, open_set, show_set

    dataset = open_set(path)
    click.echo(json.dumps(describe_set(dataset), indent=1) if as_json else show_set(dataset))


@command.command("verify", short_help="Compare every byte of a set with its hashes.")
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Compare every byte of the set in folder PATH with its hashes; name damaged shards and samples.

    Exits with 0 if the set is sound, with 1 if it is damaged, with 2 if it cannot be read at all.

    \b
    Examples:
      genmem data verify data/digits
      genmem data verify data/digits --json
    """
    from rich.console import Console

    from genmem.data.format.verification import verify_set
    from genmem.training.progress import preparation_progress

    with preparation_progress(Console(stderr=True), shown=not as_json) as report:
        damages = verify_set(path, report)
    if as_json:
        found = [{"file": str(d.file), "sample": d.sample, "problem": d.problem} for d in damages]
        click.echo(json.dumps({"path": str(path), "sound": not damages, "damages": found}, indent=1))
    else:
        for damage in damages:
            click.secho(str(damage), fg="red", err=True)
        click.secho(
            f"{path}: damaged, {len(damages)} found" if damages else f"{path}: sound",
            fg="red" if damages else "green",
        )
    if damages:
        ctx.exit(1)


@command.command("peek", short_help="Save a grid of decoded samples.")
@recipe_arguments
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("peek.png"), show_default=True)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@click.option("--num", default=64, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the choice.")
def peek(
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    out: Path,
    split: Literal["train", "test"],
    num: int,
    seed: int,
) -> None:
    """Decode samples of a set into one PNG; mirrored twins stand at the right of their samples.

    RECIPE is the folder or URL of a set, or a recipe that names one.

    \b
    Examples:
      genmem data peek data/digits -o digits.png
      genmem data peek quickstart --split test --num 100
    """
    from genmem.data.peeking import draw_numbers, open_with_tokenizer, save_grid

    dataset, tokenizer = open_with_tokenizer(recipe, overrides, plugins)
    numbers = draw_numbers(dataset, split, num, seed)
    save_grid(dataset, tokenizer, split, numbers, out)
    twins = ", each with its mirrored twin" if dataset.views == 2 else ""
    click.echo(f"{len(numbers)} of {dataset.count(split):,} {split} samples{twins}: {out}")


@command.command("stats", short_help="Classes, shards, and how well an epoch is shuffled.")
@click.argument("path")
@click.option("--seed", default=0, show_default=True, help="Of the order.")
@click.option("--window", type=click.IntRange(min=1), help="Shards permuted together; all if absent.")
@click.option("--lanes", default=1, show_default=True, type=click.IntRange(min=1), help="As data.lanes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def stats(path: str, seed: int, window: int | None, lanes: int, as_json: bool) -> None:
    """Print classes and shards of a set, and how far apart neighbours land in a shuffled epoch.

    \b
    Examples:
      genmem data stats data/digits
      genmem data stats data/imagenet --window 16 --lanes 8
    """
    from genmem.data.description import describe_order, open_set, show_order

    found = describe_order(open_set(path), seed, window, lanes)
    click.echo(json.dumps(found, indent=1) if as_json else show_order(found))
