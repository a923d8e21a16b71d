"""`genmem sample`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import plugin_option


@click.command("sample", short_help="Make pictures from a run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--num", default=64, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, help="Picture i of a seed is always the same one.")
@click.option("--weights", help='An EMA\'s name, or "online"; what the recipe scores if absent.')
@click.option("--out", type=click.Path(path_type=Path), help="Folder; RUN/samples/seed-S if absent.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["png", "npz", "tar"]),
    default="png",
    show_default=True,
    help="One file a picture, one ADM-style archive, or WebDataset shards.",
)
@click.option(
    "--labels",
    type=click.Choice(["uniform", "balanced"]),
    default="uniform",
    show_default=True,
    help="Drawn one by one, or equally many of each class.",
)
@click.option("--nproc", default=1, show_default=True, help="Processes on this machine.")
@plugin_option
def command(
    run: Path,
    num: int,
    seed: int,
    weights: str | None,
    out: Path | None,
    form: str,
    labels: str,
    nproc: int,
    plugins: tuple[Path, ...],
) -> None:
    """Make pictures from the newest checkpoint of a run, and a grid of the first.

    Pictures that are there already are left alone: after a kill, the same command goes on. Under
    torchrun, leave --nproc out; the -- keeps torchrun from taking --num for an option of its own.

    \b
    Examples:
      genmem sample runs/quickstart
      genmem sample runs/quickstart --num 50000 --seed 7 --format npz --out pictures
      torchrun --nproc_per_node 8 -m -- genmem sample runs/mine --num 50000 --labels balanced
    """
    from genmem.sampling.session import Job, sample
    from genmem.training.launch import spawn

    job = Job(
        run=run, num=num, seed=seed, weights=weights, out=out, form=form, labels=labels, plugins=plugins
    )
    if nproc == 1:
        sample(job)
    else:
        spawn(sample, (job,), nproc)
