"""Names of AutoencoderKL's tensors, from those of the latent diffusion code and of older diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_RULES = tuple(
    (re.compile(old), new)
    for old, new in (
        (r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
        (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
        (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
        (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
        (r"\.(down|up)\.(\d+)\.block\.", r".\1_blocks.\2.resnets."),
        (r"\.(down|up)\.(\d+)\.attn\.", r".\1_blocks.\2.attentions."),
        (r"\.(down|up)\.(\d+)\.\1sample\.", r".\1_blocks.\2.\1samplers.0."),
        (r"\.nin_shortcut\.", ".conv_shortcut."),
        (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
        (r"(\.attentions\.\d+)\.(q|query)\.", r"\1.to_q."),
        (r"(\.attentions\.\d+)\.(k|key)\.", r"\1.to_k."),
        (r"(\.attentions\.\d+)\.(v|value)\.", r"\1.to_v."),
        (r"(\.attentions\.\d+)\.(proj_out|proj_attn)\.", r"\1.to_out.0."),
    )
)
_LATENT_DIFFUSION = re.compile(r"^decoder\.up\.(\d+)\.")


def rename_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under the names that diffusers' AutoencoderKL uses today.

    The latent diffusion code counts the decoder's levels from the finest, diffusers from the
    coarsest. Both it and older diffusers are known; tensors of today's names pass unchanged.
    """
    levels = [int(found[1]) for name in tensors if (found := _LATENT_DIFFUSION.match(name))]
    finest = max(levels, default=0)
    renamed = {}
    for name, value in tensors.items():
        new = _LATENT_DIFFUSION.sub(lambda found: f"decoder.up.{finest - int(found[1])}.", name)
        for old, to in _RULES:
            new = old.sub(to, new)
        renamed[new] = _flatten_attention(new, value)
    return renamed


def _flatten_attention(name: str, value: Tensor) -> Tensor:
    """Products of attention are matrices today, and were convolutions of 1 x 1."""
    matrix = ".attentions." in name and value.shape[2:] == (1, 1)
    return value[:, :, 0, 0] if matrix else value
