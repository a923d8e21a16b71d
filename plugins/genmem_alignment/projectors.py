"""From hidden states to an encoder's tokens.

Shapes: B micro-batch, L tokens, D width of a hidden state, E width of an encoder's token.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


def make_mlp(width: int, inner: int, out: int) -> nn.Sequential:
    """Linear, SiLU, Linear, SiLU, Linear, token by token; Xavier's weights, biases 0, as REPA's."""
    layers = [nn.Linear(width, inner), nn.Linear(inner, inner), nn.Linear(inner, out)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])


class ConvProjector(nn.Module):
    """One 3 × 3 convolution over the grid of tokens, zeros around it (iREPA)."""

    def __init__(self, width: int, out: int, aspect: float) -> None:
        """From D = `width` to E = `out`; the grid has rows : columns = `aspect`, as the sample."""
        super().__init__()
        self.aspect = aspect
        self.convolution = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """(B, L, E).

        Raises:
            ValueError: Tokens that are no such grid.
        """
        grid = grid_of(hidden_BLD.shape[1], self.aspect)
        hidden_BDHW = hidden_BLD.transpose(1, 2).reshape(len(hidden_BLD), -1, *grid)
        projected_BLE: Tensor = self.convolution(hidden_BDHW).flatten(2).transpose(1, 2)
        return projected_BLE


def grid_of(tokens: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of so many tokens, rows : columns = `aspect`.

    Raises:
        ValueError: There is no such grid.
    """
    rows = max(1, round(math.sqrt(tokens * aspect)))
    columns = tokens // rows
    if rows * columns != tokens or not math.isclose(rows, columns * aspect):
        raise ValueError(
            f"{tokens} tokens are no grid of the sample's shape (rows : columns = {aspect:g}), which "
            'projector = "conv" needs; take projector = "mlp"'
        )
    return rows, columns
