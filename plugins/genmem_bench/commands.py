"""`genmem bench NAME`. Nothing heavy is imported before a benchmark runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from genmem.cli.options import recipe_arguments, recipes_arguments


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0, separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers of a text like "4096,65536"."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"{value!r} is no list of numbers above 0, like 4096,65536", param, ctx)
        return numbers


@click.group()
def bench() -> None:
    """Time genmem beside what one would write without it."""


@bench.command()
@click.option("--rows", type=Numbers(), default="65536", show_default=True, help="Sizes of the memory.")
@click.option("--width", type=click.IntRange(1), default=128, show_default=True, help="Width of a row.")
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Queries.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Rounds that count.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: seconds and bytes.")
def negatives(rows: tuple[int, ...], width: int, batch: int, rounds: int, device: str, as_json: bool) -> None:
    """Log-sum-exp over a memory of negatives, and its gradient."""
    from genmem.devices import resolve
    from genmem_bench.negatives import run

    result = run(rows, width, batch, rounds, resolve(device))
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"negatives: {result['batch']} queries of width {result['width']} on {result['device']}",
        caption=f"least of {result['rounds']} rounds run in turn, + how far the median lies above it; "
        "plain: logsumexp of all logits by autograd; results equal; memory in MiB, at the peak",
    )
    for heading in ("rows", "one pass", "plain", "ratio", "rows", "one pass", "plain"):
        table.add_column(heading, justify="right")
    for size in result["sizes"]:
        table.add_row(
            f"{size['rows']:,}",
            f"{size['seconds'] * 1e3:.1f} ms +{size['spread']:.0%}",
            f"{size['compared_seconds'] * 1e3:.1f} ms +{size['compared_spread']:.0%}",
            f"{size['ratio']:.2f}×",
            *(f"{size[key] / 2**20:.1f}" for key in ("bank_bytes", "extra_bytes", "compared_extra_bytes")),
        )
    Console().print(table)


@bench.command()
@click.option("--steps", type=click.IntRange(2), default=50, show_default=True, help="Sampling steps.")
@click.option("--depth", type=click.IntRange(1), default=6, show_default=True, help="Blocks of the network.")
@click.option("--width", type=click.IntRange(64), default=192, show_default=True, help="A multiple of 64.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Samples.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that count.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: seconds and counts.")
def sampler(steps: int, depth: int, width: int, batch: int, rounds: int, as_json: bool) -> None:
    """SDE Heun and guidance in an interval, beside the forms one writes first."""
    from genmem_bench.sampler import run

    result = run(steps, depth, width, batch, rounds)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, what in (("sde_heun", "SDE Heun"), ("guidance", "guidance on a tenth of the times")):
        ratio = result.get(f"{name}_wall_ratio", result.get(f"{name}_ratio"))
        click.echo(
            f"{what}: {result[f'{name}_evaluations']} evaluations in {result[f'{name}_seconds']:.2f} s"
            f" +{result[f'{name}_spread']:.0%}, plain {result[f'{name}_plain_evaluations']} in"
            f" {result[f'{name}_plain_seconds']:.2f} s +{result[f'{name}_plain_spread']:.0%}: {ratio:.2f}×"
        )
    click.echo(f"least of {rounds} rounds run in turn, + how far the median lies above it; results equal")


@bench.command()
@recipe_arguments
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Steps that count.")
@click.option("--synthetic", is_flag=True, help="Random numbers shaped like [data.expect], not the data.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: seconds, ratios, FLOP/s.")
def step(
    recipe: str,
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    rounds: int,
    synthetic: bool,
    as_json: bool,
) -> None:
    """Where the time of a recipe's training step goes, and what one by hand would take.

    \b
    Examples:
      genmem bench step quickstart
      genmem bench step imagenet256/sit-b2 --synthetic --backbone.size=S --train.batch=16
      genmem bench step imagenet256/sit-b2 --synthetic --train.batch=16 --train.precision=bf16 \\
          --train.compile=true
    """
    from genmem_bench.step import run

    result = run(recipe, overrides, plugins, rounds, synthetic)
    click.echo(json.dumps(result) if as_json else _describe_step(result))


def _describe_step(result: dict[str, Any]) -> str:
    parts = ("loader", "forward", "backward", "optimizer", "ema", "memory")
    lines = [f"{part:>10} {result[f'{part}_s'] * 1e3:9.2f} ms" for part in parts]
    alone = ", ".join(
        f"{name} {result[f'{key}_alone_ratio']:.3f}×"
        for name, key in (
            ("fused AdamW", "fused_optimizer"),
            ("foreach EMA", "foreach_ema"),
            ("compiled", "compile"),
        )
        if result[f"{key}_alone_ratio"] is not None
    )
    share = result["flops_per_s"] / result["ceiling_flops_per_s"]
    lines += [
        f"{result['images_per_s']:,.0f} images/s at batch {result['batch']} in {result['precision']}, "
        f"{result['flops_per_s'] / 1e9:,.1f} GFLOP/s, {share:.0%} of a matrix product's "
        f"{result['ceiling_flops_per_s'] / 1e9:,.1f}",
        f"trainer {result['trainer_s'] * 1e3:.2f} ms, {result['trainer_overhead']:+.1%} to the same by hand",
        f"plain form {result['plain_s'] * 1e3:.2f} ms, {result['reference_ratio']:.3f}× the trainer's; "
        f"by one measure alone: {alone}",
        f"a save holds the training for {result['save_stall']:.0%} of a step",
        f"the least of {result['rounds']} rounds run in turn; the median lies up to "
        f"{result['spread']:.0%} above",
    ]
    return "\n".join(lines)


@bench.command()
@click.option("--samples", type=click.IntRange(64), default=20_000, show_default=True, help="In the set.")
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Samples in a batch.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Epochs that count.")
@click.option("--shards", type=click.IntRange(1), default=1000, show_default=True, help="Of a set to open.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: rates, seconds, bytes.")
def data(samples: int, batch: int, rounds: int, shards: int, as_json: bool) -> None:
    """The trainer's batches beside webdataset's, and beside arrays in mapped memory."""
    from genmem_bench.data import run

    result = run(samples, batch, rounds, shards)
    if as_json:
        click.echo(json.dumps(result))
        return
    for name, key in (("trainer's", ""), ("webdataset", "webdataset_"), ("mapped arrays", "memmap_")):
        click.echo(f"{name:>14} {result[f'{key}samples_per_s']:12,.0f} samples/s")
    growth = (result["anon_bytes_growth"] or 0) / 2**20
    click.echo(
        f"{result['webdataset_ratio']:.1f}× webdataset, {result['memmap_share']:.1%} of mapped arrays; an "
        f"epoch leaves {growth:.1f} MiB behind; {shards:,} shards open in {result['startup_s']:.2f} s; "
        f"the least of {rounds} rounds run in turn"
    )


@bench.command()
@recipes_arguments
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that count.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Steps in a round.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: seconds and ratios.")
def overhead(
    recipes: tuple[str, ...],
    overrides: tuple[str, ...],
    plugins: tuple[Path, ...],
    rounds: int,
    steps: int,
    as_json: bool,
) -> None:
    """What training steps of recipes cost beside those of the first one.

    \b
    Examples:
      genmem bench overhead digits/label digits/dispersive digits/repulsor
    """
    from genmem_bench.overhead import run

    result = run(recipes, overrides, plugins, rounds, steps)
    if as_json:
        click.echo(json.dumps(result))
        return
    for row in result["recipes"]:
        click.echo(
            f"{row['recipe']:<24}{row['seconds'] * 1e3:9.2f} ms +{row['spread']:.0%}"
            f"{row['ratio']:7.3f} × {row['images_per_s']:10,.0f} images/s"
        )
    click.echo(f"least of {rounds} rounds of {steps} steps run in turn, + how far the median lies above it")


@bench.command()
@click.option("--rows", type=click.IntRange(64), default=100_000, show_default=True, help="In the bank.")
@click.option("--width", type=click.IntRange(2), default=768, show_default=True, help="Width of a row.")
@click.option("--rank", type=click.IntRange(1), default=384, show_default=True, help="Dimensions kept.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of reading.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: seconds, bytes, errors.")
def bank(rows: int, width: int, rank: int, rounds: int, as_json: bool) -> None:
    """Building a low-rank memory bank, beside torch's singular value decomposition."""
    from genmem_bench.bank import run

    result = run(rows, width, rank, rounds)
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{rows:,} rows of width {width} at rank {rank}: built in {result['build_s']:.1f} s, torch's SVD of "
        f"{result['svd_rows']:,} of them in {result['svd_s']:.1f} s: {result['build_ratio']:.1f}× for as many"
    )
    click.echo(
        f"error read back {result['error']:.4f}, {result['error_ratio']:.6f} of the SVD's, "
        f"{result['optimum_ratio']:.6f} of the least possible; "
        f"{(result['anon_bytes'] or 0) / 2**20:,.0f} MiB of memory at the peak"
    )
    share = result["rows_per_s"] / result["ceiling_rows_per_s"]
    click.echo(f"reads {result['rows_per_s']:,.0f} rows/s, {share:.0%} of a matrix product's")
