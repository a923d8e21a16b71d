"""REPA (arXiv 2410.06940), with iREPA's projector and target (2512.10794) and SARA's structure (2503.08253).

Shapes: B micro-batch, L tokens, D width of a hidden state, E width of an encoder's token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from genmem.contracts import Facts, Objective, Step
from genmem_alignment import RepaConfig, tokens_of
from genmem_alignment.projectors import ConvProjector, make_mlp

_EPS = 1e-6


class Repa(nn.Module):
    """-mean_n cos(y_n, P(h^k_n)), mean over encoders."""

    def __init__(self, config: RepaConfig, tap: int, facts: Facts) -> None:
        """Projectors from the state after block `tap` to every encoder's tokens."""
        super().__init__()
        self.tap = tap
        self.config = config
        widths = [facts.feature_widths[tokens_of(name)] for name in config.encoders]
        self.projectors = nn.ModuleList(self._projector(facts, tap, width) for width in widths)

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch, in fp32.

        Raises:
            ValueError: Another number of tokens in the hidden state than an encoder gives.
        """
        hidden_BLD = step.prediction.hidden[self.tap]
        wide = torch.promote_types(hidden_BLD.dtype, torch.float32)
        values: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            for name, projector in zip(self.config.encoders, self.projectors, strict=True):
                target_BLE = step.batch.features[tokens_of(name)]
                _refuse_other_length(name, hidden_BLD.shape[1], target_BLE.shape[1])
                found_BLE = projector(hidden_BLD.to(wide))
                value, parts = self._align(found_BLE, target_BLE.to(wide))
                values.append(value)
                metrics |= {f"{part}/{name}": number for part, number in parts.items()}
        return Objective(torch.stack(values).mean(), metrics)

    def _align(self, found_BLE: Tensor, target_BLE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.normalise is not None:
            target_BLE = standardise(target_BLE, self.config.normalise)
        found_BLE, target_BLE = (functional.normalize(part, dim=-1) for part in (found_BLE, target_BLE))
        cos = (found_BLE * target_BLE).sum(-1).mean()
        if not self.config.structure:
            return -cos, {"cos": cos.detach()}
        gap = compare_structure(found_BLE, target_BLE)
        return self.config.structure * gap - cos, {"cos": cos.detach(), "structure": gap.detach()}

    def _projector(self, facts: Facts, tap: int, width: int) -> nn.Module:
        if self.config.projector == "mlp":
            return make_mlp(facts.tap_widths[tap], self.config.projector_width, width)
        _, rows, columns = facts.sample_shape
        return ConvProjector(facts.tap_widths[tap], width, rows / columns)


def standardise(target_BLE: Tensor, gamma: float) -> Tensor:
    """(y - γ · mean_n y) / (std_n y + 1e-6), channel by channel over the tokens of a picture."""
    mean_B1E = target_BLE.mean(1, keepdim=True)
    std_B1E = target_BLE.std(1, correction=0, keepdim=True)
    return (target_BLE - gamma * mean_B1E) / (std_B1E + _EPS)


def compare_structure(found_BLE: Tensor, target_BLE: Tensor) -> Tensor:
    """mean (G(found) - G(target))² over all pairs of tokens; G the cosines, of unit vectors."""
    gram_BLL, wanted_BLL = (part @ part.transpose(1, 2) for part in (found_BLE, target_BLE))
    return (gram_BLL - wanted_BLL).square().mean()


def _refuse_other_length(name: str, hidden: int, given: int) -> None:
    if hidden != given:
        raise ValueError(
            f"the hidden state has {hidden} tokens, encoder {name!r} gives {given}, and they are aligned "
            f"one to one: have the encoder give {hidden} (its patch, or the size of its pictures), "
            f"or the backbone {given} (its patch)"
        )
