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
    """Kills or stops a process once; the file `mark` says that it happened."""

    kind: Literal["kill", "hang", "slow"]
    mark: str
    rank: int = 1
    at: int = 224
    """Images seen."""

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
    if config.kind == "slow":
        time.sleep(0.3)
        return
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
