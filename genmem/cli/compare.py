"""`genmem compare`."""

from __future__ import annotations

from pathlib import Path

import click

from genmem.cli.options import plugin_option


@click.command("compare", short_help="Put runs side by side: scores, spread, cost; a table and a page.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of HTML.")
@click.option("--by", metavar="SCORE", help="The score to rank by; the first column if absent.")
@click.option(
    "--reach", type=float, help="The score that images are counted to; the baseline's last if absent."
)
@click.option("--force", is_flag=True, help="Put scores of different protocols side by side.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as one JSON object.")
@plugin_option
def command(
    runs: tuple[Path, ...],
    out: Path | None,
    by: str | None,
    reach: float | None,
    force: bool,
    as_json: bool,
    plugins: tuple[Path, ...],
) -> None:
    """Compare run folders that have scores. The first is the baseline.

    Runs whose recipes differ in the seed alone are one row, mean ± standard deviation. Only scores of
    one protocol are ranked; where the runs have none in common, the keys that differ are told. Runs
    that are conditioned on a memory do another task, and are ranked among themselves.

    \b
    Examples:
      genmem compare runs/plain runs/quickstart -o page.html
      genmem compare runs/methods-sweep/*/seed=* --by fd/random-conv -o page.html
      genmem compare runs/a runs/b --reach 1.5 --json
    """
    import sys

    from genmem.comparing.session import run_comparison

    run_comparison(
        runs,
        by=by,
        reach=reach,
        force=force,
        plugins=plugins,
        as_json=as_json,
        out=out,
        words=["genmem", *sys.argv[1:]],
    )
