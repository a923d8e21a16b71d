"""The command lines a sweep is made of: lists of words, no shell."""

from __future__ import annotations

from pathlib import Path

from genmem.sweep.folders import Trained
from genmem.sweep.plan import Run


def train_words(run: Run, plugins: tuple[Path, ...]) -> list[str]:
    """`genmem train …` of one run."""
    return [
        "genmem",
        "train",
        run.source,
        *run.overrides,
        "--out",
        str(run.folder),
        *_plugin_words(plugins),
    ]


def evaluate_words(run: Run, setting: str, plugins: tuple[Path, ...]) -> list[str]:
    """`genmem evaluate …` of one run under one setting; its scores go to a file beside the run."""
    trained = Trained(run)
    named = tuple(Path(file) for file in run.recipe.plugins)  # a run folder's are not run unasked
    return [
        "genmem",
        "evaluate",
        str(run.folder),
        *trained.overrides(setting),
        "--out",
        str(trained.file(setting)),
        *_plugin_words(tuple(dict.fromkeys((*named, *plugins)))),
    ]


def next_words(run: Run, plugins: tuple[Path, ...]) -> list[list[str]]:
    """What can be run now: the training if it is not complete, else the scorings that are missing."""
    trained = Trained(run)
    if trained.final is None:
        return [train_words(run, plugins)]
    return [evaluate_words(run, setting, plugins) for setting in trained.missing()]


def _plugin_words(plugins: tuple[Path, ...]) -> list[str]:
    return [word for file in plugins for word in ("--plugin", str(file))]
