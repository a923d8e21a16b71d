"""A small transformer whose costs are worked out by hand.

Shapes: B batch, C H W picture, L tokens, D width, N heads. Unit: MAC; 1 MAC = 2 FLOPs.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from genmem.profiling.costs import OWN

B, C, H, W, PATCH, D, HEADS, DEPTH, CLASSES = 3, 2, 8, 12, 2, 24, 4, 3, 10
L = H // PATCH * (W // PATCH)


class Told(NamedTuple):
    """What the network is told, parts of which are absent."""

    label_B: Tensor | None = None
    memory_BKE: Tensor | None = None


class Answer(NamedTuple):
    """What it returns."""

    output: Tensor
    hidden: dict[int, Tensor]


class Block(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, z_BLD: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(z_BLD)).view(len(z_BLD), -1, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(z_BLD.shape)
        z_BLD = z_BLD + self.out(mixed)
        return z_BLD + self.mlp(z_BLD)


class Network(nn.Module):
    """Patches, a label, blocks, a head tied to nothing; a product of its own at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(L, D))
        self.register_buffer("turn", torch.eye(D))
        self.patches = nn.Conv2d(C, D, PATCH, PATCH)
        self.label = nn.Embedding(CLASSES, D)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(D, PATCH * PATCH * C)

    def forward(self, x: Tensor, t_B: Tensor, told: Told) -> Answer:
        assert told.memory_BKE is None and told.label_B is not None
        z_BLD = self.patches(x).flatten(2).transpose(1, 2) + self.place
        z_BLD = z_BLD + (self.label(told.label_B) + t_B[:, None])[:, None]
        hidden = {}
        for number, block in enumerate(self.blocks, 1):
            hidden[number] = z_BLD = block(z_BLD)
        return Answer(self.head(z_BLD @ self.turn), hidden)


def inputs(batch: int = B) -> tuple[Tensor, Tensor, Told]:
    return torch.randn(batch, C, H, W), torch.rand(batch), Told(torch.arange(batch) % CLASSES)


MACS = {
    "patches": B * L * D * C * PATCH**2,
    "label": 0,
    "blocks": B * DEPTH * (L * 12 * D * D + 2 * L * L * D),
    "head": B * L * D * PATCH**2 * C,
    OWN: B * L * D * D,
}
PARAMETERS = {
    OWN: L * D,
    "patches": D * C * PATCH**2 + D,
    "label": CLASSES * D,
    "blocks": DEPTH * (12 * D * D + 9 * D + 4 * D),
    "head": (D + 1) * PATCH**2 * C,
}
