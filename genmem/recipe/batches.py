"""Checks of batch sizes: do micro-batches and groups fit, and which sizes would?"""

from __future__ import annotations

from collections.abc import Iterator

from genmem.recipe.draft import Draft
from genmem.recipe.errors import Fault


def check_batches(draft: Draft) -> Iterator[Fault]:
    """Micro-batches divide the batch; a loss that couples samples finds its groups whole in both."""
    batch, micro = draft.at("train", "batch"), draft.at("train", "micro_batch")
    if batch is None:
        return
    if micro is not None and batch % micro:
        message = f"micro-batches of {micro} do not fill a batch of {batch}; {sizes(batch, 1, micro)}"
        yield Fault(("train", "micro_batch"), message)
    lanes = draft.at("data", "lanes")
    if lanes is not None and batch % lanes:
        near = [size for size in (batch // lanes * lanes, batch // lanes * lanes + lanes) if size]
        message = f"{lanes} lanes do not share a batch of {batch} equally"
        yield Fault(("data", "lanes"), f"{message}; {' or '.join(map(str, near))} would do")
    for name in draft.names("objective"):
        yield from _check_coupling(draft, name, batch, micro)


def _check_coupling(draft: Draft, name: str, batch: int, micro: int | None) -> Iterator[Fault]:
    group = draft.objective(name)("coupling")
    if group == "global":
        if micro not in (None, batch):
            message = f"objective {name!r} couples the whole batch, which micro-batches of {micro} tear apart"
            yield Fault(
                ("train", "micro_batch"), f"{message}; leave micro_batch out, or give {name!r} a group"
            )
        return
    if group is None:
        return
    if batch % group:
        near = [size for size in (batch // group * group, batch // group * group + group) if size]
        would = " or ".join(str(size) for size in near)
        message = f"objective {name!r} couples groups of {group}, which do not fill a batch of {batch}"
        yield Fault(("train", "batch"), f"{message}; {would} would do")
    elif micro is not None and micro % group:
        message = f"objective {name!r} couples groups of {group}, which do not fill micro-batches of {micro}"
        yield Fault(("train", "micro_batch"), f"{message}; {sizes(batch, group, micro)}")


def sizes(batch: int, group: int, near: int) -> str:
    """The micro-batches that would do, nearest first: they divide the batch and hold whole groups."""
    fitting = [size for size in range(group, batch + 1, group) if batch % size == 0]
    nearest = sorted(sorted(fitting, key=lambda size: abs(size - near))[:4])
    return f"{', '.join(str(size) for size in nearest)} would do"
