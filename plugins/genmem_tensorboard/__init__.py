"""A run as TensorBoard events."""

from __future__ import annotations

import attrs

from genmem import hookimpl
from genmem.contracts import Notifier, NotifierConfig


@attrs.frozen(kw_only=True)
class TensorBoardConfig(NotifierConfig):
    """Losses, scores, warnings and sample pictures as TensorBoard events (extra: tensorboard)."""

    folder: str = "tensorboard"
    """Where in the run's folder: `tensorboard --logdir runs/NAME/tensorboard`."""

    def build(self) -> Notifier:
        """What writes the events."""
        from genmem_tensorboard.events import Events

        return Events(self.folder)


@hookimpl
def genmem_notifiers() -> dict[str, type[NotifierConfig]]:
    """The notifier this plugin registers."""
    return {"tensorboard": TensorBoardConfig}
