"""The map: a perceptron of two layers from features to rows of norm 1.

Shapes: B features, D their width, H hidden width, E width of a row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmem.draws import Draws

Shapes = dict[str, tuple[int, ...]]


def shapes_of(width: int, hidden: int, row: int) -> Shapes:
    """{tensor: shape} of a map from D = `width` over H = `hidden` to E = `row`."""
    return {
        "origin": (width,),
        "spread": (1,),
        "first.weight": (hidden, width),
        "first.bias": (hidden,),
        "second.weight": (row, hidden),
        "second.bias": (row,),
    }


class RowMap(nn.Module):
    """f ↦ W₂ SiLU(W₁ (f - origin) / spread + b₁) + b₂, brought to norm 1."""

    origin: Tensor
    spread: Tensor

    def __init__(self, width: int, hidden: int, row: int) -> None:
        """Of these widths, with empty weights."""
        super().__init__()
        self.register_buffer("origin", torch.zeros(width))
        self.register_buffer("spread", torch.ones(1))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, row)

    @classmethod
    def drawn(cls, seed: int, origin_D: Tensor, spread: float, hidden: int, row: int) -> RowMap:
        """One to train: weights uniform within ±1/√(numbers a layer sums), as torch's linear layers have."""
        found, draws = cls(len(origin_D), hidden, row), Draws(seed, torch.zeros(1, dtype=torch.int64))
        found.origin.copy_(origin_D)
        found.spread.fill_(spread)
        with torch.no_grad():
            for layer, module in (("first", found.first), ("second", found.second)):
                for name, parameter in module.named_parameters():
                    values = draws.uniform(f"map/{layer}.{name}", tuple(parameter.shape))[0]
                    parameter.copy_((2 * values - 1) * float(module.in_features**-0.5))
        return found

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> RowMap:
        """One that was stored."""
        hidden, width = arrays["first.weight"].shape
        found = cls(width, hidden, len(arrays["second.weight"]))
        found.load_state_dict({name: torch.tensor(values) for name, values in arrays.items()})
        return found.requires_grad_(False)

    def forward(self, feature_BD: Tensor) -> Tensor:
        """(B, E), of norm 1."""
        hidden_BH = F.silu(self.first((feature_BD - self.origin) / self.spread))
        return F.normalize(self.second(hidden_BH), dim=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its tensors, as they are stored."""
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
