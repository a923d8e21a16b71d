"""Compiling a network block by block: as fast as the whole, and minutes sooner ready."""

from __future__ import annotations

import torch._functorch.config
from torch import nn


def compile_blocks(backbone: nn.Module) -> None:
    """Compile each block the backbone names, in place: names of parameters stay as they are."""
    # A look inside a step goes backward twice through the same forward, which donated buffers forbid.
    torch._functorch.config.donated_buffer = False
    for name in backbone.block_names:  # type: ignore[union-attr]
        backbone.get_submodule(name).compile()
