"""`genmem evaluate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from genmem.cli.options import checkpoint_option, run_arguments
from genmem.cli.set_options import check_options, set_options, settings_of


def _numbers(ctx: click.Context, option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Seeds separated by commas, none twice."""
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    wrong = next((part for part in parts if not part.isdecimal() or not part.isascii()), None)
    if wrong is not None:
        raise click.BadParameter(f"{wrong!r} is no seed: numbers from 0 are wanted, with commas between")
    seeds = tuple(map(int, parts))
    if len(set(seeds)) < len(seeds):
        raise click.BadParameter("the same seed twice would count one set of samples twice")
    return seeds


@click.command("evaluate", short_help="Score a run, or any set of pictures.")
@run_arguments
@click.option(
    "--seeds",
    "--seed",
    "seeds",
    metavar="N,N...",
    callback=_numbers,
    help="Of noise and conditions, one for each repetition; the recipe's if absent.",
)
@click.option("--weights", help="An EMA's name, or \"online\"; the recipe's if absent.")
@checkpoint_option
@click.option("--budget", type=click.IntRange(min=2), help="Samples for each setting of a search.")
@click.option("--by", metavar="SCORE", help="What a search goes by; the first column if absent.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write that object to a file.")
@set_options
def command(
    run: str,
    overrides: tuple[str, ...],
    seeds: tuple[int, ...],
    weights: str | None,
    checkpoint: int | None,
    budget: int | None,
    by: str | None,
    plugins: tuple[Path, ...],
    as_json: bool,
    out: Path | None,
    given: dict[str, Any],
) -> None:
    """Score the newest checkpoint of a run, beside noise, a Gaussian and the floor.

    With --reference, score any pictures against any others, by one encoder: in place of RUN a folder with
    its subfolders, an .npz with arr_0, tar shards, or a split of a prepared set. A run's samples are made as
    they are scored.

    Overrides may change how samples are made and scored: sampler, guidance, evaluate, and the memory
    that conditions (another bank, another way to draw); --data.path names the place the run's set was
    moved to. Scores are kept in RUN/evaluations.

    Several seeds are several sets of noise: the table has the mean, standard deviation and least. A
    comma in an override's value looks for the best value first, with few samples of other noise.

    \b
    Examples:
      genmem evaluate runs/quickstart
      genmem evaluate runs/quickstart --seeds 0,1,2
      genmem evaluate runs/quickstart --seed 1 --json
      genmem evaluate runs/quickstart --sampler.steps=50
      genmem evaluate runs/quickstart --nproc 2
      genmem evaluate runs/quickstart --checkpoint 200064
      genmem evaluate runs/quickstart --weights ema,online --sampler.steps=25,50 --budget 500 --seeds 0,1,2
      genmem evaluate pictures/ --reference data/digits/test --encoder random-conv --metrics fd,kid
      genmem evaluate samples.npz --reference adm.npz --encoder inception --encoder.weights=inception.pth
      genmem evaluate data/digits/train --save-reference digits.npz --encoder random-conv
      genmem evaluate runs/quickstart --reference data/digits/test --encoder random-conv --samples 5000
    """
    nproc = given.get("nproc", 1)
    if given := check_options(given):
        if budget is not None or by is not None or len(seeds) > 1:
            raise click.UsageError("--budget, --by and several seeds do not go with --reference")
        _evaluate_set(given, run, overrides, plugins, seeds, weights, checkpoint, as_json, out)
        return
    if not (Path(run) / "recipe.toml").is_file() and Path(run).exists():
        raise click.UsageError(f"{run} is no run folder: no recipe.toml; pictures want --reference REF")
    from genmem.scoring.session import evaluate
    from genmem.training.launch import spawn

    scoring = partial(
        evaluate,
        Path(run),
        overrides,
        seeds=seeds,
        weights=weights,
        checkpoint=checkpoint,
        plugins=plugins,
        as_json=as_json,
        out=out,
        budget=budget,
        by=by,
    )
    scoring() if nproc == 1 else spawn(scoring, (), nproc)


def _evaluate_set(
    given: dict[str, Any],
    target: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    seeds: tuple[int, ...],
    weights: str | None,
    checkpoint: int | None,
    as_json: bool,
    out: Path | None,
) -> None:
    from genmem.scoring.choosing import Settings
    from genmem.scoring.set_session import Job, evaluate_set
    from genmem.training.launch import spawn

    job = Job(
        target=Path(target),
        reference=given.get("reference"),
        encoder=given["encoder"],
        metrics=given.get("metrics"),
        settings=Settings(**settings_of(given)),
        overrides=overrides,
        plugins=plugins,
        samples=given.get("samples"),
        seed=seeds[0] if seeds else None,
        weights=weights,
        checkpoint=checkpoint,
        device=given.get("device", "auto"),
        save=given.get("save"),
        as_json=as_json,
        out=out,
    )
    if given.get("nproc", 1) == 1:
        evaluate_set(job)
    else:
        spawn(evaluate_set, (job,), given["nproc"])
