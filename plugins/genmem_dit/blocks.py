"""The parts a DiT is made of: attention, MLP, the adaLN block, the last layer.

Shapes: B batch, L tokens, D width, J conditions a sample (1, or L for token times),
N attention heads, A width of a head. Module names are those of the published weights.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AttentionForm = Literal["fused", "math"]


def modulate(h_BLD: Tensor, shift_BJD: Tensor, scale_BJD: Tensor) -> Tensor:
    """adaLN: h · (1 + scale) + shift."""
    return h_BLD * (1 + scale_BJD) + shift_BJD


def attend(q_BNLA: Tensor, k_BNLA: Tensor, v_BNLA: Tensor) -> Tensor:
    """softmax(q kᵀ / √A) v in plain operations, which have forward-mode derivatives."""
    logits_BNLL = (q_BNLA * q_BNLA.shape[-1] ** -0.5) @ k_BNLA.transpose(-2, -1)
    mixed_BNLA: Tensor = logits_BNLL.softmax(-1).to(v_BNLA.dtype) @ v_BNLA
    return mixed_BNLA


def normalise(width: int) -> nn.LayerNorm:
    """A LayerNorm without parameters, which adaLN's replace."""
    return nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


def condition(width: int, parts: int) -> nn.Sequential:
    """From the condition to so many shifts, scales and gates."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection."""

    def __init__(self, width: int, heads: int, form: AttentionForm) -> None:
        super().__init__()
        self.heads = heads
        self.form = form
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, h_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        B, L, D = h_BLD.shape
        qkv = self.qkv(h_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed_BNLA = F.scaled_dot_product_attention(q, k, v) if self.form == "fused" else attend(q, k, v)
        out_BLD: Tensor = self.proj(mixed_BNLA.transpose(1, 2).reshape(B, L, D))
        return out_BLD


class Mlp(nn.Module):
    """Two linear layers with GELU (its tanh form) between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, h_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        out_BLD: Tensor = self.fc2(F.gelu(self.fc1(h_BLD), approximate="tanh"))
        return out_BLD


class Block(nn.Module):
    """A transformer block whose norms are shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int, attention: AttentionForm) -> None:
        super().__init__()
        self.norm1 = normalise(width)
        self.attn = Attention(width, heads, attention)
        self.norm2 = normalise(width)
        self.mlp = Mlp(width, 4 * width)
        self.adaLN_modulation = condition(width, 6)

    def forward(self, h_BLD: Tensor, c_BJD: Tensor) -> Tensor:
        """The hidden state after this block, (B, L, D)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c_BJD).chunk(6, -1)
        h_BLD = h_BLD + gate_a * self.attn(modulate(self.norm1(h_BLD), shift_a, scale_a))
        out_BLD: Tensor = h_BLD + gate_m * self.mlp(modulate(self.norm2(h_BLD), shift_m, scale_m))
        return out_BLD


class FinalLayer(nn.Module):
    """Tokens to patches: p · p · C numbers a token, channel fastest."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = normalise(width)
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = condition(width, 2)

    def forward(self, h_BLD: Tensor, c_BJD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, p · p · C)."""
        shift, scale = self.adaLN_modulation(c_BJD).chunk(2, -1)
        out: Tensor = self.linear(modulate(self.norm_final(h_BLD), shift, scale))
        return out


def join_patches(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Tokens (B, L, p · p · C), row-major, to a sample (B, C, H, W)."""
    rows, columns = grid
    cells = tokens.view(len(tokens), rows, columns, patch, patch, -1)
    return torch.einsum("brcpqx->bxrpcq", cells).reshape(len(tokens), -1, rows * patch, columns * patch)
