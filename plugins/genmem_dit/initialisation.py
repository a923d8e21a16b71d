"""How the weights start. Same draws in the same order as SiT, so the same seed gives the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from genmem_dit.blocks import Block, FinalLayer, RmsNorm
from genmem_dit.embeddings import TimestepEmbedder, embed_positions

if TYPE_CHECKING:
    from genmem_dit.transformer import Transformer


@torch.no_grad()
def initialise(net: Transformer, table_std: float, zero_gates: bool) -> None:
    """Set every weight of a network from torch's default generator.

    Args:
        net: The network; what its weights were does not matter.
        table_std: Deviation of the label table and of the timestep layers.
        zero_gates: adaLN-Zero: every block starts as the identity and the output at 0.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, RmsNorm | nn.LayerNorm) and module.weight is not None:
            _initialise_norm(module)
    if net.feat_rope is not None:
        net.feat_rope.fill()
    net.pos_embed.copy_(embed_positions(*net.grid, net.pos_embed.shape[-1]))
    nn.init.xavier_uniform_(net.x_embedder.proj.weight.flatten(1))
    assert net.x_embedder.proj.bias is not None
    nn.init.zeros_(net.x_embedder.proj.bias)
    if net.y_embedder is not None:
        nn.init.normal_(net.y_embedder.embedding_table.weight, std=table_std)
    for embedder in (net.t_embedder, net.span_embedder):
        if embedder is not None:
            _initialise_times(embedder, table_std)
    if zero_gates:
        _zero_gates(net)


def _initialise_norm(norm: RmsNorm | nn.LayerNorm) -> None:
    nn.init.ones_(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        nn.init.zeros_(norm.bias)


def _initialise_times(embedder: TimestepEmbedder, std: float) -> None:
    for layer in embedder.mlp:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)


def _zero_gates(net: Transformer) -> None:
    silent: list[nn.Module] = [net.final_layer.linear]
    silent += [part.adaLN_modulation for part in net.modules() if isinstance(part, Block | FinalLayer)]
    for part in silent:
        for parameter in part.parameters():
            nn.init.zeros_(parameter)
