"""Training steps as one writes them by hand: what `genmem bench step` compares the trainer with.

The model and the losses are the recipe's. Batches lie ready in memory, draws come from torch's
generator, and nothing is watched, reduced over processes or made repeatable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from genmem.building import Builder
from genmem.contracts import Batch
from genmem.devices import autocast
from genmem.draws import Draws
from genmem.recipe import Recipe
from genmem.training.assembly import Assembly, Losses
from genmem.training.optimization import divide


class PlainDraws(Draws):
    """torch's own random numbers, a batch at a time."""

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) in [0, 1)."""
        return torch.rand(len(self), *shape, device=self.index_B.device)

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape), standard normal."""
        return torch.randn(len(self), *shape, device=self.index_B.device)


class Weights:
    """A model by hand: everything trainable and one average, which several loops may share."""

    def __init__(self, builder: Builder, device: torch.device) -> None:
        """Build the recipe anew."""
        self.builder, self.recipe, self.device = builder, builder.recipe, device
        self.memories = builder.memories(device)
        self.assembly = builder.assembly(self.memories, device)
        self.averages = {
            name: builder.backbone(self.memories, device).requires_grad_(False) for name in self.recipe.ema
        }

    def twin(self) -> Assembly:
        """A second assembly of the very same parameters, to be compiled apart."""
        twin = self.builder.assembly(self.memories, self.device)
        twin.load_state_dict(self.assembly.state_dict(keep_vars=True), assign=True)
        return twin


class BareLoop:
    """One optimizer step after another over batches that lie ready."""

    def __init__(
        self,
        weights: Weights,
        batches: Sequence[Batch],
        assembly: Assembly,
        *,
        fused: bool,
        foreach: bool,
        draws: type[Draws] = PlainDraws,
    ) -> None:
        """Take up weights that may be shared with other loops.

        Args:
            weights: Model and averages.
            batches: Used in turn, one a step.
            assembly: The model to run: of these weights, compiled or not.
            fused: AdamW in one kernel; else parameter by parameter.
            foreach: All of an average at once; else parameter by parameter.
            draws: Where random numbers come from.
        """
        self.weights, self.batches, self.assembly = weights, batches, assembly
        self.recipe: Recipe = weights.recipe
        table = self.recipe.optimizer
        self.names = {name: p for name, p in assembly.named_parameters() if p.requires_grad}
        self.adamw = torch.optim.AdamW(
            divide(table, self.names),
            lr=table.lr,
            betas=table.betas,
            eps=table.eps,
            fused=fused,
            foreach=False,
        )
        self.foreach, self.draws = foreach, draws
        self.steps = 0
        self._kept = torch.tensor(True, device=weights.device)

    def step(self) -> None:
        """Forward, backward, clipping where the recipe clips, AdamW, averages, memories."""
        batch = self.batches[self.steps % len(self.batches)]
        self.adamw.zero_grad(set_to_none=True)
        with autocast(self.weights.device, self.recipe.train.precision):
            draws = self.draws(self.recipe.train.seed, batch.index_B, batch.round_B)
            losses = cast(Losses, self.assembly(batch, draws, 0, self.weights.averages))
        torch.autograd.backward(losses.total)
        if self.recipe.optimizer.clip:
            nn.utils.clip_grad_norm_(self.names.values(), self.recipe.optimizer.clip)
        self.adamw.step()
        self._average()
        for store in self.weights.memories.values():
            store.commit(self._kept)
        self.steps += 1

    @torch.no_grad()
    def _average(self) -> None:
        online: list[Tensor] = list(self.assembly.backbone.parameters())
        for name, module in self.weights.averages.items():
            held: list[Tensor] = list(module.parameters())
            share = 1.0 - self.recipe.ema[name].decay
            if self.foreach:
                torch._foreach_lerp_(held, online, share)
                continue
            for one, new in zip(held, online, strict=True):
                one.mul_(1.0 - share).add_(new, alpha=share)
