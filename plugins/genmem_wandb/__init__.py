"""A run in Weights & Biases, without an account unless one asks for it."""

from __future__ import annotations

from typing import Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Notifier, NotifierConfig


@attrs.frozen(kw_only=True)
class WandbConfig(NotifierConfig):
    """Losses, scores, warnings and sample pictures in Weights & Biases (extra: wandb)."""

    project: str = "genmem"
    """The project there."""

    mode: Literal["offline", "online"] = "offline"
    """Offline writes into the run's folder and asks for no account; `wandb sync` uploads it later."""

    entity: str | None = None
    """The user or team there; your default one if absent."""

    group: str | None = None
    """Runs of one name are shown together."""

    tags: tuple[str, ...] = ()
    """Words to find the run by."""

    def build(self) -> Notifier:
        """What writes the run."""
        from genmem_wandb.record import Record

        return Record(self)


@hookimpl
def genmem_notifiers() -> dict[str, type[NotifierConfig]]:
    """The notifier this plugin registers."""
    return {"wandb": WandbConfig}
