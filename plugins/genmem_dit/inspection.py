"""What the shapes of published weights say of the network they belong to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from genmem.contracts import Facts
from genmem_dit.configs import LIGHTNING_SIZES, SIZES, Size


def describe_facts(tensors: Mapping[str, Tensor], shape: tuple[int, int, int] | None) -> Facts:
    """Shapes the weights were made for; the grid is square unless `shape` says otherwise.

    Raises:
        ValueError: Tensors are missing, or the tokens fill no square and no shape was given.
    """
    depth, width = measure(tensors)
    channels = tensors["x_embedder.proj.weight"].shape[1]
    table = tensors.get("y_embedder.embedding_table.weight")
    memory = tensors.get("condition_projection.linear.weight")
    return Facts(
        sample_shape=shape or _square(tensors, channels),
        output_channels=channels,
        num_classes=0 if table is None else len(table) - 1,
        condition_width=0 if memory is None else memory.shape[1],
        tap_widths=dict.fromkeys(range(1, depth + 1), width),
    )


def describe_backbone(tensors: Mapping[str, Tensor], use: str) -> dict[str, Any]:
    """Settings of the backbone, as a recipe has them."""
    weight = tensors["x_embedder.proj.weight"]
    rows = len(tensors["final_layer.linear.weight"])
    patch, channels = weight.shape[2], weight.shape[1]
    found = {**_size(tensors, use), "patch": patch, "learn_sigma": rows == 2 * channels * patch**2}
    if use == "dit":
        return found
    found["qk_norm"] = "blocks.0.attn.q_norm.weight" in tensors
    return found if use == "sit" else {**found, **_lightning(tensors)}


def measure(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Depth and width.

    Raises:
        ValueError: Tensors that every layout has are missing.
    """
    needed = ("x_embedder.proj.weight", "final_layer.linear.weight", "blocks.0.adaLN_modulation.1.weight")
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise ValueError(f"the file lacks {', '.join(missing)}; choose the layout the file is in")
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    return depth, len(tensors["x_embedder.proj.weight"])


def _lightning(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    modulation = tensors["blocks.0.adaLN_modulation.1.weight"]
    return {
        "norm": "rms" if "blocks.0.norm1.weight" in tensors else "layer",
        "mlp": "swiglu" if "blocks.0.mlp.w12.weight" in tensors else "gelu",
        "rope": "feat_rope.freqs_cos" in tensors,
        "shift": len(modulation) == 6 * modulation.shape[1],
    }


def _size(tensors: Mapping[str, Tensor], use: str) -> dict[str, Any]:
    """A published size, or depth and width, with heads if a tensor is as wide as one of them."""
    depth, width = measure(tensors)
    sizes: Mapping[str, Size] = LIGHTNING_SIZES if use == "lightningdit" else SIZES
    named = next((name for name, size in sizes.items() if size[:2] == (depth, width)), None)
    head = tensors.get("feat_rope.freqs_cos", tensors.get("blocks.0.attn.q_norm.weight"))
    heads = None if head is None else width // head.shape[-1]
    if named is not None and heads in (None, sizes[named].heads):
        return {"size": named}
    return {"depth": depth, "width": width} | ({"heads": heads} if heads else {})


def _square(tensors: Mapping[str, Tensor], channels: int) -> tuple[int, int, int]:
    positions = tensors.get("pos_embed", tensors.get("feat_rope.freqs_cos"))
    if positions is None:
        raise ValueError(
            "the file has no pos_embed, so it does not show its samples' shape; give --shape C,H,W"
        )
    tokens, patch = positions.shape[-2], tensors["x_embedder.proj.weight"].shape[2]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise ValueError(f"{tokens} tokens fill no square; say which shape with --shape C,H,W")
    return channels, side * patch, side * patch
