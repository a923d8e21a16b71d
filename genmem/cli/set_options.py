"""Options of `genmem evaluate` that go with a reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OWNERS = {"kid_subset": ("kid",), "is_splits": ("is",), "neighbours": ("precision", "recall")}
_FIELDS = {"kid_subset": "subset", "is_splits": "splits", "neighbours": "neighbours"}


def set_options(function: F) -> F:
    """Give a command `--reference` and what goes with it, as one parameter `given: dict`."""

    def command(**parameters: Any) -> Any:
        names = [option.name for option in _OPTIONS]
        given = {name: parameters.pop(name) for name in names if name}
        return function(given={k: v for k, v in given.items() if v is not None}, **parameters)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__click_params__ = [*_OPTIONS, *getattr(function, "__click_params__", [])]  # type: ignore[attr-defined]
    return command  # type: ignore[return-value]


def check_options(given: dict[str, Any]) -> dict[str, Any]:
    """The options that go with `--reference`, or with `--save-reference` alone; {} where neither is there.

    `--nproc` goes with a run of its own too.

    Raises:
        click.UsageError: One without the option that gives it a meaning.
    """
    if "reference" not in given and "save" not in given:
        if alone := [name for name in given if name != "nproc"]:
            raise click.UsageError(f"{_flag(alone[0])} goes with --reference or --save-reference")
        return {}
    if "encoder" not in given:
        raise click.UsageError("--encoder is missing; `genmem plugins` lists encoders")
    for name, scores in _OWNERS.items():
        words = [word.strip() for word in str(given.get("metrics", "fd,sfid,is")).split(",")]
        if name in given and not {*scores, *(("inception-score",) if name == "is_splits" else ())} & {*words}:
            raise click.UsageError(f"{_flag(name)} goes with --metrics {' or '.join(scores)}")
    return given


def settings_of(given: dict[str, Any]) -> dict[str, int]:
    """Settings of scores among the options."""
    return {field: given[name] for name, field in _FIELDS.items() if name in given}


def _flag(name: str) -> str:
    return next(option.opts[0] for option in _OPTIONS if option.name == name)


_OPTIONS = [
    click.Option(
        ["--reference"],
        type=click.Path(path_type=Path),
        metavar="REF",
        help="Real pictures: a folder, .npz, shards, a split of a prepared set; or statistics in .npz.",
    ),
    click.Option(["--encoder"], metavar="NAME", help="Feature space; its settings by --encoder.KEY=VALUE."),
    click.Option(
        ["--metrics"],
        metavar="NAME,NAME...",
        help="fd (or fid), sfid, kid, is, precision, recall, energy; those of statistics if absent.",
    ),
    click.Option(
        ["--save-reference", "save"],
        type=click.Path(path_type=Path),
        metavar="FILE.npz",
        help="Keep what was learned of the reference; of TARGET, where there is none.",
    ),
    click.Option(["--samples"], type=click.IntRange(min=2), help="Of a run; the recipe's if absent."),
    click.Option(["--kid-subset"], type=click.IntRange(min=2), help="Pictures in a subset of KID: 1000."),
    click.Option(["--is-splits"], type=click.IntRange(min=1), help="Splits of the Inception Score: 10."),
    click.Option(["--neighbours"], type=click.IntRange(min=1), help="Of precision and recall: 3."),
    click.Option(["--device"], help="Where the encoder computes: auto, cpu, cuda, mps."),
    click.Option(["--nproc"], type=click.IntRange(min=1), help="Processes on this machine: 1."),
]
