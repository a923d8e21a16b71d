"""A recipe built of shapes alone: no numbers are held or computed, so the largest network fits anywhere.

Its tensors say they lie on the CPU, so every operator takes the way it takes there; torch's own
meta device takes another one for attention, and keeps tensors that no real device keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import attrs
import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from genmem.building import Builder, Shapes
from genmem.contracts import Batch, Conditioning, MemoryStore
from genmem.draws import Draws
from genmem.profiling.reserved import Reserved, reserve
from genmem.recipe.tables import Recipe
from genmem.training.assembly import Assembly
from genmem.training.averages import Averages
from genmem.training.batching import Batching, plan, smallest
from genmem.training.trainer import wanted_features

TOKENS = ".tokens"
"""End of the name of a feature that has a row for every token."""


@attrs.frozen(kw_only=True)
class Blueprint:
    """Everything one process builds, and the shape of its steps."""

    recipe: Recipe
    shapes: Shapes
    batching: Batching
    memories: Mapping[str, Reserved]
    assembly: Assembly
    averages: Mapping[str, nn.Module]

    def modules(self) -> tuple[nn.Module, ...]:
        """All that hold parameters."""
        return (self.assembly, *self.averages.values())

    def batch(self, count: int) -> Batch:
        """`count` samples of zeros, with every feature a step looks at."""
        features = self._features(count)
        index_B, zero_B = torch.arange(count), torch.zeros(count, dtype=torch.int64)
        x = torch.zeros(count, *self.shapes.sample_shape)
        return Batch(x, zero_B, index_B, zero_B, zero_B, features, {})

    def draws(self, batch: Batch) -> Draws:
        """Random numbers of those samples."""
        return Draws(self.recipe.train.seed, batch.index_B, batch.round_B)

    def busiest(self) -> int:
        """Images seen when the most objectives act."""
        tables = self.recipe.objective.values()
        moments = {0, *(table.start + table.ramp for table in tables)}
        moments |= {table.stop - 1 for table in tables if table.stop is not None}
        return max(sorted(moments), key=lambda images: len(self.assembly.active(images)))

    def _features(self, count: int) -> dict[str, Tensor]:
        names, widths = wanted_features(self.recipe), self.shapes.feature_widths
        tokens = self._tokens() if any(name.endswith(TOKENS) for name in names) else 0
        return {
            name: torch.zeros(count, *([tokens] if name.endswith(TOKENS) else []), widths[name])
            for name in sorted(names)
        }

    @torch.no_grad()
    def _tokens(self) -> int:
        """Tokens of a hidden state, which features by token have too."""
        zero_B = torch.zeros(1, dtype=torch.int64)
        batch = Batch(torch.zeros(1, *self.shapes.sample_shape), zero_B, zero_B, zero_B, zero_B, {}, {})
        draws = self.draws(batch)
        times = self.assembly.interpolant.times(draws)
        cond = self.assembly.conditioner.train(batch, draws)._replace(span_B=times.span_B)
        hidden = self.assembly.backbone(batch.x, times.t, cond, taps=(1,), until=1).hidden
        return int(hidden[1].shape[1])


@contextmanager
def drawn(
    recipe: Recipe, shapes: Shapes, *, world: int = 1, real: bool = False, batching: Batching | None = None
) -> Iterator[Blueprint]:
    """A blueprint of one of `world` processes; what computes on it stays inside the context.

    Args:
        recipe: What to build.
        shapes: What the data set fixes.
        world: Processes that share a step.
        real: Hold zeros after all, and take the smallest micro-batch there is: for components that
            look at values.
        batching: How a step is split, where that is not to follow from the recipe.

    Raises:
        ValueError: Batch, processes and objectives that do not fit together.
    """
    builder = Builder(recipe, shapes)
    memories = reserve(builder, world)
    assembly, averages = _build_on_meta(builder, memories)
    with nullcontext() if real else FakeTensorMode(allow_non_fake_inputs=True):
        fill((assembly, *averages.values()), real=real)
        yield Blueprint(
            recipe=recipe,
            shapes=shapes,
            batching=batching or (smallest(recipe, world) if real else plan(recipe, world)),
            memories=memories,
            assembly=assembly,
            averages=averages,
        )


def _build_on_meta(
    builder: Builder, memories: Mapping[str, MemoryStore]
) -> tuple[Assembly, dict[str, nn.Module]]:
    meta = torch.device("meta")
    with meta:
        assembly = builder.assembly(memories, meta)
        averages = Averages(builder.recipe.ema, assembly.backbone, lambda: builder.backbone(memories, meta))
    return assembly, averages.modules


def network(recipe: Recipe, shapes: Shapes) -> nn.Module:
    """The backbone with real weights that are all 0: pages nobody writes take no memory."""
    builder = Builder(recipe, shapes)
    with torch.device("meta"):
        backbone = builder.backbone(reserve(builder), torch.device("meta"))
    fill((backbone,), real=True)
    return backbone


def example(
    recipe: Recipe, shapes: Shapes, memory_width: int, count: int
) -> tuple[Tensor, Tensor, Conditioning]:
    """What the network gets when `count` samples are generated: x_t, t and the condition, of zeros."""
    label_B = torch.zeros(count, dtype=torch.int64) if recipe.condition.label else None
    memory = torch.zeros(count, 1, memory_width) if memory_width else None
    span_B = torch.zeros(count) if "span" in recipe.interpolant.config.consumes else None
    x = torch.zeros(count, *shapes.sample_shape)
    return x, torch.full((count,), 0.5), Conditioning(label_B, memory, None, span_B)


def fill(modules: Iterable[nn.Module], *, real: bool) -> None:
    """In place of every parameter and buffer on meta, one on the CPU; shared ones stay shared."""
    made: dict[int, Tensor] = {}
    for module in [part for root in modules for part in root.modules()]:
        for table in (module._parameters, module._buffers):
            for name, old in list(table.items()):
                if old is not None:
                    new = made.setdefault(id(old), _like(old, real=real))
                    table[name] = new  # type: ignore[assignment]


def _like(old: Tensor, *, real: bool) -> Tensor:
    if real and old.dtype == torch.float32:
        new = torch.from_numpy(np.zeros(old.shape, np.float32))
    else:
        new = torch.zeros(old.shape, dtype=old.dtype)
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
