"""The parts a DiT is made of: norms, attention, MLPs, the adaLN block, the last layer.

Shapes: B batch, L tokens, D width, J conditions a sample (1, or L for token times),
N attention heads, A width of a head. Module names are those of the published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from genmem_dit.configs import BlockForm
    from genmem_dit.rotary import Rotation

_EPS = 1e-6
_HEAD_EPS = 1e-5


class RmsNorm(nn.Module):
    """x / √(mean x² + 10⁻⁶) · weight; the root in full precision, whatever x is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(*, D) to (*, D)."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        unit = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + _EPS)
        return unit.to(x.dtype) * self.weight


def normalise(width: int, form: BlockForm) -> nn.Module:
    """RMSNorm, or a LayerNorm without parameters, which adaLN's replace."""
    return RmsNorm(width) if form.norm == "rms" else nn.LayerNorm(width, eps=_EPS, elementwise_affine=False)


def normalise_head(width: int, form: BlockForm) -> nn.Module:
    """The norm of queries and keys; it has weights in either form."""
    if not form.qk_norm:
        return nn.Identity()
    return RmsNorm(width) if form.norm == "rms" else nn.LayerNorm(width, eps=_HEAD_EPS)


def modulate(h_BLD: Tensor, shift_BJD: Tensor | None, scale_BJD: Tensor) -> Tensor:
    """adaLN: h · (1 + scale) + shift."""
    scaled_BLD = h_BLD * (1 + scale_BJD)
    return scaled_BLD if shift_BJD is None else scaled_BLD + shift_BJD


def attend(q_BNLA: Tensor, k_BNLA: Tensor, v_BNLA: Tensor) -> Tensor:
    """softmax(q kᵀ / √A) v in plain operations, which have forward-mode derivatives."""
    logits_BNLL = (q_BNLA * q_BNLA.shape[-1] ** -0.5) @ k_BNLA.transpose(-2, -1)
    mixed_BNLA: Tensor = logits_BNLL.softmax(-1).to(v_BNLA.dtype) @ v_BNLA
    return mixed_BNLA


def condition(width: int, parts: int) -> nn.Sequential:
    """From the condition to so many shifts, scales and gates."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection."""

    def __init__(self, width: int, heads: int, form: BlockForm) -> None:
        super().__init__()
        self.heads = heads
        self.attend = attend if form.attention == "math" else F.scaled_dot_product_attention
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = normalise_head(width // heads, form)
        self.k_norm = normalise_head(width // heads, form)
        self.proj = nn.Linear(width, width)

    def forward(self, h_BLD: Tensor, rotation: Rotation | None) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        B, L, D = h_BLD.shape
        qkv = self.qkv(h_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotation.turn(q), rotation.turn(k)
        mixed_BNLA = self.attend(q.to(v.dtype), k.to(v.dtype), v)
        out_BLD: Tensor = self.proj(mixed_BNLA.transpose(1, 2).reshape(B, L, D))
        return out_BLD


class Mlp(nn.Module):
    """Two linear layers with GELU (its tanh form) between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, h_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        out_BLD: Tensor = self.fc2(F.gelu(self.fc1(h_BLD), approximate="tanh"))
        return out_BLD


class SwiGlu(nn.Module):
    """w₃(silu(a) · b) with a, b = w₁₂(h): two thirds of the hidden width, about as many weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * width // 3
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, h_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        gate, value = self.w12(h_BLD).chunk(2, -1)
        out_BLD: Tensor = self.w3(F.silu(gate) * value)
        return out_BLD


class Block(nn.Module):
    """A transformer block whose norms are shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int, form: BlockForm) -> None:
        super().__init__()
        self.shift = form.shift
        self.norm1 = normalise(width, form)
        self.attn = Attention(width, heads, form)
        self.norm2 = normalise(width, form)
        self.mlp = SwiGlu(width) if form.mlp == "swiglu" else Mlp(width)
        self.adaLN_modulation = condition(width, 6 if form.shift else 4)

    def forward(self, h_BLD: Tensor, c_BJD: Tensor, rotation: Rotation | None = None) -> Tensor:
        """The hidden state after this block, (B, L, D)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self._modulation(c_BJD)
        h_BLD = h_BLD + gate_a * self.attn(modulate(self.norm1(h_BLD), shift_a, scale_a), rotation)
        out_BLD: Tensor = h_BLD + gate_m * self.mlp(modulate(self.norm2(h_BLD), shift_m, scale_m))
        return out_BLD

    def _modulation(
        self, c_BJD: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        parts = self.adaLN_modulation(c_BJD)
        if self.shift:
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts.chunk(6, -1)
            return shift_a, scale_a, gate_a, shift_m, scale_m, gate_m
        scale_a, gate_a, scale_m, gate_m = parts.chunk(4, -1)
        return None, scale_a, gate_a, None, scale_m, gate_m


class FinalLayer(nn.Module):
    """Tokens to patches: p · p · C numbers a token, channel fastest. It is always shifted."""

    def __init__(self, width: int, outputs: int, form: BlockForm) -> None:
        super().__init__()
        self.norm_final = normalise(width, form)
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
