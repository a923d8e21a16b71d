"""Tiny networks of the published classes, with random weights, saved as the published ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from genmem.extras import import_extra
from genmem.weights import EXTRA

KL_FILE = "diffusion_pytorch_model.safetensors"
DC_BLOCKS = ("ResBlock", "EfficientViTBlock")


def save_kl(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """An AutoencoderKL of 2 pixels to a latent's side; the network, to compare with."""
    settings = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 16,
    }
    return _save("diffusers", "AutoencoderKL", folder, seed, settings | changes)


def save_dc(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """An AutoencoderDC of 2 pixels to a latent's side."""
    settings: dict[str, Any] = {"latent_channels": 8, "attention_head_dim": 8, "scaling_factor": 0.4}
    for half in ("encoder", "decoder"):
        settings |= {
            f"{half}_block_types": DC_BLOCKS,
            f"{half}_block_out_channels": (8, 16),
            f"{half}_layers_per_block": (1, 1),
            f"{half}_qkv_multiscales": ((), (5,)),
        }
    return _save("diffusers", "AutoencoderDC", folder, seed, settings | changes)


def save_clip(folder: Path, seed: int = 0) -> Any:
    """A CLIP that sees pictures of 32 x 32 in patches of 8, and reads: both halves in one file."""
    transformers = import_extra("transformers", EXTRA)
    torch.manual_seed(seed)
    half = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        vision_config={**half, "image_size": 32, "patch_size": 8},
        text_config={**half, "vocab_size": 20, "max_position_embeddings": 7},
        projection_dim=12,
    )
    network = _spread(transformers.CLIPModel(config))
    network.save_pretrained(folder)
    return network


def save_timm(file: Path, name: str, size: int, seed: int = 0) -> Any:
    """One of timm's small networks for tests, with its classifier, as the hub keeps them."""
    torch.manual_seed(seed)
    network = _spread(import_extra("timm", EXTRA).create_model(name, img_size=size))
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    return network


def change_bit(file: Path, name: str) -> None:
    """Make one weight of a file another, by the least there is."""
    tensors = load_file(file)
    tensors[name].view(torch.int32).view(-1)[0] ^= 1
    save_file(tensors, file)


def pictures(count: int, size: int, colours: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 (count, size, size, colours); smooth, and black and white in places."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(128, 90, (count, size // 4, size // 4, colours)).repeat(4, 1).repeat(4, 2)
    noisy = coarse + rng.normal(0, 10, (count, size, size, colours))
    return noisy.clip(0, 255).round().astype(np.uint8)


def _save(library: str, name: str, folder: Path, seed: int, settings: dict[str, Any]) -> Any:
    torch.manual_seed(seed)
    network = _spread(getattr(import_extra(library, EXTRA), name)(**settings))
    network.save_pretrained(folder)
    return network


def _spread(network: Any) -> Any:
    """Biases and norms start at 0 and 1, where a missing or a swapped one would not be seen."""
    with torch.no_grad():
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.05)
    return network.eval()
