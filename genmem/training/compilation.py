"""Compiling a network block by block: as fast as the whole, and minutes sooner ready."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch._functorch.config
from torch import nn


class NotCompiled(OSError):
    """torch's compiler failed on a block."""


def compile_blocks(backbone: nn.Module) -> None:
    """Compile each block the backbone names, in place: names of parameters stay as they are."""
    # A look inside a step goes backward twice through the same forward, which donated buffers forbid.
    torch._functorch.config.donated_buffer = False
    for name in backbone.block_names:  # type: ignore[union-attr]
        backbone.get_submodule(name).compile()


@contextmanager
def compiling() -> Iterator[None]:
    """Say what to do where the compiler fails: blocks are compiled when they first run.

    Raises:
        NotCompiled: With the compiler's own words, and the ways out.
    """
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed

        if not isinstance(error, BackendCompilerFailed):
            raise
        cause = error.inner_exception
        raise NotCompiled(
            f"train.compile: torch's compiler ({error.backend_name}) failed on a block of the network with "
            f"{type(cause).__name__}: {cause}\n"
            f"A process killed while it compiled may leave a torn file behind: delete {_cache()} and "
            "run the same command again. Without the compiler: --train.compile=false. "
            "GENMEM_STRICT=1 shows where it failed"
        ) from error


def _cache() -> str:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()
