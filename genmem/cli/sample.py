"""`genmem sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genmem.cli.figure_options import figure_options
from genmem.cli.options import checkpoint_option, run_arguments


@click.command("sample", short_help="Make pictures from a run.")
@run_arguments
@click.option("--num", default=64, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option("--seed", default=0, show_default=True, help="Picture i of a seed is always the same one.")
@click.option("--weights", help='An EMA\'s name, or "online"; what the recipe scores if absent.')
@checkpoint_option
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
@figure_options
def command(
    run: str,
    overrides: tuple[str, ...],
    num: int,
    seed: int,
    weights: str | None,
    checkpoint: int | None,
    out: Path | None,
    form: str,
    labels: str,
    nproc: int,
    figure: dict[str, Any] | None,
    plugins: tuple[Path, ...],
) -> None:
    """Make pictures from the newest checkpoint of a run, and a grid of the first.

    Pictures that are there already are left alone: after a kill, the same command goes on. Under
    torchrun or srun, leave --nproc out; the -- keeps torchrun from taking --num for an option of its own.

    With --rows, --memory, --text or --interpolate it draws one figure instead, of rows of the memory that
    conditions: what each was made of, samples from several noises, the training pictures nearest to it.

    \b
    Examples:
      genmem sample runs/quickstart
      genmem sample runs/quickstart --num 50000 --seed 7 --format npz --out pictures
      genmem sample runs/quickstart --memory.bank.draw=class-balanced
      genmem sample runs/quickstart --rows 3,17 --noises 6
      genmem sample runs/quickstart --memory novel.png
      genmem sample runs/quickstart --text three --text eight
      genmem sample runs/quickstart --interpolate 3 novel.png --steps 9
      torchrun --nproc_per_node 8 -m -- genmem sample runs/mine --num 50000 --labels balanced
    """
    common: dict[str, Any] = {"run": Path(run), "seed": seed, "weights": weights, "out": out}
    common |= {"checkpoint": checkpoint, "overrides": overrides, "plugins": plugins}
    if figure is not None:
        from genmem.sampling.figures import Figure, draw_figure
        from genmem.sampling.snippets import Wanted

        draw_figure(Figure(noises=figure.pop("noises"), wanted=Wanted(**figure), **common))
        return
    from genmem.sampling.session import Job, sample
    from genmem.training.launch import spawn

    job = Job(num=num, form=form, labels=labels, **common)
    if nproc == 1:
        sample(job)
    else:
        spawn(sample, (job,), nproc)
