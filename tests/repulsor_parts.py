"""For tests: a small repulsor, steps for it, a memory by brute force, and queues that hold something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from genmem.contracts import Ability, Attended, Facts, Hide, MemoryStore, Metric, Step, Tags
from genmem.draws import Draws
from genmem.testing.objective import example_step
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import Repulsor

BATCH, WIDTH, DEPTH = 32, 8, 4
YES, NO = torch.tensor(True), torch.tensor(False)
ALL: frozenset[Ability] = frozenset({"attend", "write", "labels", "times"})


class Brute(MemoryStore):
    """Rows in one tensor, everything by the dense formula in float64."""

    abilities: ClassVar[frozenset[Ability]] = ALL

    def __init__(self, rows_NE: Tensor, ids_N: Tensor | None = None, **known: Tensor) -> None:
        """Hold these rows; ids are far from any query's if absent."""
        self.rows_NE = rows_NE
        self.ids_N = torch.arange(len(rows_NE)) + 10**6 if ids_N is None else ids_N
        self.known: Mapping[str, Tensor] = known
        self.staged: list[tuple[Tensor, Tags]] = []

    @property
    def width(self) -> int:
        """E."""
        return self.rows_NE.shape[1]

    @property
    def num_rows(self) -> int:
        """Rows."""
        return len(self.rows_NE)

    def to(self, device: torch.device) -> None:
        """Stay."""

    def attend(
        self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
    ) -> Attended:
        """Differentiable through the dense form."""
        q, k = q_BE.double(), self.rows_NE.double()
        logits = scale * (q @ k.T if metric == "dot" else -(q[:, None] - k).square().sum(-1))
        hidden = torch.zeros_like(logits, dtype=torch.bool)
        if hide is not None and hide.ids_B is not None:
            hidden |= hide.ids_B[:, None] == self.ids_N
        if hide is not None and hide.label_B is not None:
            hidden |= (hide.label_B[:, None] == self.known["label"]) & (hide.label_B[:, None] >= 0)
        if hide is not None and hide.t_B is not None:
            hidden |= (hide.t_B[:, None] - self.known["t"]).abs() >= hide.window
        lse = logits.masked_fill(hidden, -torch.inf).logsumexp(1)
        return Attended(lse.float(), (~hidden).sum(1).float())

    def stage(self, rows_BE: Tensor, tags: Tags) -> None:
        """Remember."""
        self.staged.append((rows_BE.clone(), tags))


def config(**changes: Any) -> RepulsorConfig:
    """Small settings."""
    settings: dict[str, Any] = {"memory": "negatives", "tap": 2, "group": 8}
    return RepulsorConfig(**settings | changes)


def build(settings: RepulsorConfig, batch: int = BATCH, rows: int = 512) -> Repulsor:
    """The objective, its head the same every time."""
    torch.manual_seed(0)
    module = settings.build(
        Facts(
            sample_shape=(2, 4, 4),
            output_channels=2,
            batch=batch,
            memory_widths={"negatives": WIDTH},
            memory_rows={"negatives": rows},
            tap_widths=dict.fromkeys(range(1, DEPTH + 1), 16),
        )
    )
    assert isinstance(module, Repulsor)
    return module


def step_with(memory: Any, settings: RepulsorConfig, batch: int = BATCH, seed: int = 0) -> Step:
    """Made-up hidden states and this memory."""
    bare = attrs.evolve(settings, memory="negatives")
    return attrs.evolve(
        example_step(bare, batch=batch, seed=seed), memories={"negatives": memory}, images_seen=0
    )


def part_of(step: Step, start: int, stop: int) -> Step:
    """One micro-batch of a step."""
    part = slice(start, stop)
    hidden = {tap: h.detach()[part].requires_grad_() for tap, h in step.prediction.hidden.items()}
    batch = step.batch._replace(index_B=step.batch.index_B[part], label_B=step.batch.label_B[part])
    return attrs.evolve(
        step,
        batch=batch,
        times=step.times._replace(t=step.times.t[part]),
        prediction=step.prediction._replace(hidden=hidden),
    )


def directions(count: int, seed: int = 5, width: int = WIDTH) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    return F.normalize(Draws(seed, torch.arange(count)).normal("row", (width,)), dim=1)


def poison(queue: Queue) -> Queue:
    """Fill what was never written with NaN, to show that it is never read."""
    queue.ring["rows"].fill_(torch.nan)
    return queue


def filled(count: int = 300, first_id: int = 0, **settings: Any) -> Queue:
    """A queue that holds this many rows, the first BATCH of them of the batch's own samples."""
    queue = poison(Queue(512, WIDTH, "fp32", **settings))
    ids = torch.arange(first_id, first_id + count)
    queue.stage(directions(count), Tags(ids, ids % 3, Draws(0, ids).uniform("time")))
    queue.commit(YES)
    return queue


def fresh(rows: int, width: int = 3, max_age: int | None = None) -> Queue:
    """An empty queue in fp32 whose memory is poisoned."""
    return poison(Queue(rows, width, "fp32", max_age=max_age))


def numbered(ids: Iterable[int], width: int = 3) -> tuple[Tensor, Tags]:
    """Rows, classes and times that follow from their sample's number."""
    ids_B = torch.tensor(list(ids), dtype=torch.int64)
    draws = Draws(0, ids_B)
    return draws.normal("row", (width,)), Tags(ids_B, ids_B % 3, draws.uniform("time"))


def write(queue: Queue, ids: Iterable[int], keep: Tensor = YES) -> None:
    """One optimizer step that brings these samples."""
    queue.stage(*numbered(ids, queue.width))
    queue.commit(keep)


def holds(queue: Queue, ids: Iterable[int]) -> bool:
    """Whether the state is exactly these samples' rows with all that is known, in this order."""
    rows, tags = numbered(ids, queue.width)
    state = queue.state()
    assert tags.label_B is not None and tags.t_B is not None
    same = torch.equal(state["ids"], tags.ids_B) and torch.equal(state["rows"], rows)
    return same and torch.equal(state["label"], tags.label_B.int()) and torch.equal(state["t"], tags.t_B)
