"""Writes checkpoints while training goes on: the training thread is held for one copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from genmem import collectives
from genmem.training import checkpoints
from genmem.training.checkpoints import Checkpoint
from genmem.training.integrity import numbered
from genmem.training.retention import prune
from genmem.training.storage import Piece, local


class NotSaved(OSError):
    """A checkpoint could not be written; the one before it is as it was."""


class Writer:
    """One thread that writes; `save` waits for the save before it. Collective: every rank has one."""

    def __init__(
        self,
        folder: Path,
        keep: int,
        keep_every: int | None = None,
        written: Callable[[int, Path], None] = lambda images_seen, path: None,
        patience: float = 1800.0,
    ) -> None:
        """Nothing is written yet; what a killed process left half-written is deleted by the next save.

        Args:
            folder: Where checkpoints go; all ranks see the same one.
            keep: Newest checkpoints to keep.
            keep_every: The first one after each multiple of so many images stays for good.
            written: Told of each checkpoint that is complete, on the training thread.
            patience: Seconds to wait for the other processes.
        """
        self.folder, self.keep, self.keep_every = folder, keep, keep_every
        # The thread has collectives of its own; they must not mix with those of the step.
        self._group = collectives.host_group(patience)
        self._copies = _Copies()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._written, self._complete = written, list[tuple[int, Path]]()

    def save(self, images_seen: int, checkpoint: Checkpoint) -> None:
        """Copy the state and begin to write it.

        Raises:
            NotSaved: The save before this one failed.
        """
        self.settle()
        pieces = self._copies.take(checkpoint)
        self._thread = threading.Thread(
            target=self._write, args=(images_seen, pieces, checkpoint.state), name="checkpoint", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Look what became of the last save, without waiting.

        Raises:
            NotSaved: One did.
        """
        while self._complete:
            self._written(*self._complete.pop())
        failure, self._failure = self._failure, None
        if failure is None:
            return
        if not isinstance(failure, OSError):
            raise failure
        last = numbered(self.folder)
        known = f"the last good one is {last[-1]}" if last else "there is none before it"
        raise NotSaved(f"a checkpoint could not be written: {failure}; {known}") from failure

    def settle(self) -> None:
        """Wait until what was begun is on the disk.

        Raises:
            NotSaved: It could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def _write(
        self, images_seen: int, pieces: Mapping[str, Mapping[str, Piece]], state: Mapping[str, Any]
    ) -> None:
        try:
            path = checkpoints.write(self.folder, images_seen, pieces, state, self._group)
            if collectives.rank() == 0:
                prune(self.folder, images_seen, self.keep, self.keep_every)
            self._complete.append((images_seen, path))
        except BaseException as error:  # it is raised again, on the training thread
            self._failure = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What has begun is finished, also where the run ends with an error; that error is the one to tell.
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self.check()


class _Copies:
    """Memory of the host that states are copied into, kept from save to save: new pages cost time."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def take(self, checkpoint: Checkpoint) -> dict[str, dict[str, Piece]]:
        """A copy of every tensor, which nothing changes until the next `take`."""
        held, sources = self._held, {}
        for group, tensors in checkpoint.tensors.items():
            for name, tensor in tensors.items():
                sources[group, name] = local(tensor).detach()
        self._held = {key: _room_for(source, held.get(key)) for key, source in sources.items()}
        for key, source in sources.items():
            self._held[key].copy_(source, non_blocking=True)
        for device in {source.device for source in sources.values() if source.is_cuda}:
            torch.cuda.current_stream(device).synchronize()
        return {
            group: {name: _piece(self._held[group, name], tensor) for name, tensor in tensors.items()}
            for group, tensors in checkpoint.tensors.items()
        }


def _room_for(source: Tensor, held: Tensor | None) -> Tensor:
    if held is not None and held.shape == source.shape and held.dtype == source.dtype:
        return held
    return torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda)


def _piece(copy: Tensor, tensor: Tensor) -> Piece:
    return Piece(copy, tensor if isinstance(tensor, DTensor) else copy)
