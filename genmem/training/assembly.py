"""Everything trainable in one module: what DDP, the optimizer and checkpoints see.

Shapes: B batch, C H W sample, K memories a sample, E memory width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from genmem.conditioning import Conditioner
from genmem.contracts import Batch, Conditioning, Interpolant, MemoryStore, Objective, Prediction, Step
from genmem.draws import Draws
from genmem.training.inspection import gradient_ratios, hidden_rms

if TYPE_CHECKING:
    from genmem.recipe.tables import ObjectiveTable

Teachers = Mapping[str, nn.Module]


class Losses(NamedTuple):
    """The outcome of one micro-batch."""

    total: Tensor
    """Scalar with gradient."""

    values: dict[str, Tensor]
    """Detached scalars to log."""


class Assembly(nn.Module):
    """Backbone and objectives, with the stateless parts that tie them together."""

    def __init__(
        self,
        backbone: nn.Module,
        objectives: Mapping[str, nn.Module],
        tables: Mapping[str, ObjectiveTable],
        interpolant: Interpolant,
        conditioner: Conditioner,
        memories: Mapping[str, MemoryStore],
        depth: int,
    ) -> None:
        """Put built components together; `depth` resolves taps given as fractions."""
        super().__init__()
        self.backbone = backbone
        self.objective = nn.ModuleDict(dict(objectives))
        self.tables = dict(tables)
        self.interpolant = interpolant
        self.conditioner = conditioner
        self.memories = dict(memories)
        self.depth = depth
        self.taps = {name: table.objective.config.taps(depth) for name, table in tables.items()}

    def active(self, images_seen: int) -> dict[str, float]:
        """{objective: weight} of those that act after so many images."""
        weights = {name: table.weight_at(images_seen) for name, table in self.tables.items()}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def forward(
        self, batch: Batch, draws: Draws, images_seen: int, teachers: Teachers, inspect: bool = False
    ) -> Losses:
        """Denoising loss and every active objective of one micro-batch.

        `inspect` adds the RMS of every hidden state, and each objective's pull on the network.
        """
        active = self.active(images_seen)
        step, loss_B = self._denoise(batch, draws, images_seen, teachers, self._wanted(active, inspect))
        denoise = loss_B.mean()
        terms, values = {}, {"loss/denoise": denoise.detach()}
        for name, weight in active.items():
            with torch.autocast(batch.x.device.type, enabled=False):
                result = cast(Objective, self.objective[name](step))
            terms[name] = weight * result.value
            values[f"objective/{name}"] = result.value.detach()
            values |= {f"objective/{name}/{key}": value.detach() for key, value in result.metrics.items()}
        if inspect:
            taps = {name: self.taps[name] for name in active}
            with torch.autocast(batch.x.device.type, enabled=False):
                values |= hidden_rms(step.prediction) | gradient_ratios(step.prediction, denoise, terms, taps)
        total = sum(terms.values(), start=denoise)
        values["loss/total"] = total.detach()
        return Losses(total + self._anchor(), values)

    def _denoise(
        self, batch: Batch, draws: Draws, images_seen: int, teachers: Teachers, taps: tuple[int, ...]
    ) -> tuple[Step, Tensor]:
        cond = self.conditioner.train(batch, draws)
        times = self.interpolant.times(draws)
        noise = draws.normal("noise", tuple(batch.x.shape[1:]))
        regression = self.interpolant.regress(self.predictor(taps), batch.x, noise, times, cond)
        step = Step(
            batch=batch,
            x=batch.x,
            noise=noise,
            times=times,
            x_t=regression.x_t,
            target=regression.target,
            cond=cond,
            prediction=regression.prediction,
            images_seen=images_seen,
            draws=draws,
            memories=self.memories,
            interpolant=self.interpolant,
            again=self._again(teachers),
        )
        return step, regression.loss_B

    def predictor(self, taps: tuple[int, ...] = ()) -> Callable[[Tensor, Tensor, Conditioning], Prediction]:
        """The interpolant's way to the network, with these taps taken along."""

        def predict(x_t: Tensor, t: Tensor, cond: Conditioning) -> Prediction:
            return cast(Prediction, self.backbone(x_t, t, cond, taps=taps))

        return predict

    def _again(self, teachers: Teachers) -> Callable[..., Prediction]:
        # Objectives compute in fp32; a further forward is in the precision of the first.
        kind = next(self.backbone.parameters()).device.type
        on, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def again(
            x_t: Tensor,
            t: Tensor,
            cond: Conditioning,
            *,
            taps: tuple[int, ...] = (),
            until: int | None = None,
            weights: str = "online",
        ) -> Prediction:
            online = weights == "online"
            if not online and weights not in teachers:
                raise KeyError(f'no weights {weights!r}; there are "online" and {sorted(teachers)}')
            network = self.backbone if online else teachers[weights]
            with (
                torch.set_grad_enabled(online and torch.is_grad_enabled()),
                torch.autocast(kind, dtype, enabled=on),
            ):
                return cast(Prediction, network(x_t, t, cond, taps=taps, until=until))

        return again

    def _wanted(self, active: Mapping[str, float], inspect: bool) -> tuple[int, ...]:
        if inspect:
            return tuple(range(1, self.depth + 1))
        return tuple(sorted({tap for name in active for tap in self.taps[name]}))

    def _anchor(self) -> Tensor | float:
        """A zero that touches every objective's parameters, so that DDP waits for no gradient."""
        return sum((0.0 * parameter.flatten()[0] for parameter in self.objective.parameters()), start=0.0)
