"""Misfortune on one process at one step, once: an objective for tests of what a run does then."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Facts, ObjectiveConfig


@attrs.frozen(kw_only=True)
class MisfortuneConfig(ObjectiveConfig):
    """Kills or hangs a process once; the file `mark` says that it happened.

    `mark`-1 is there when process 1 takes steps; the first process counts FLOPs before.
    """

    kind: Literal["kill", "hang"]
    mark: str
    rank: int = 1
    at: int = 224
    """Images seen."""

    pause: float = 0.0
    """Seconds that each forward takes besides."""

    def build(self, facts: Facts):
        from torch import nn

        from genmem import collectives
        from genmem.contracts import Objective

        class Misfortune(nn.Module):
            def forward(_, step, /):
                strike(self, step.images_seen, collectives.rank())
                return Objective(0.0 * step.prediction.output.float().mean())

        return Misfortune()


def strike(config: MisfortuneConfig, images_seen: int, rank: int) -> None:
    """What the config says, where and when it says."""
    time.sleep(config.pause)
    Path(f"{config.mark}-{rank}").touch()
    mark = Path(config.mark)
    if images_seen < config.at or rank != config.rank or mark.exists():
        return
    mark.touch()
    if config.kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


@hookimpl
def genmem_objectives():
    return {"misfortune": MisfortuneConfig}
