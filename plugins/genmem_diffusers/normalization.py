"""From a network's latents z to x = z · scale + shift, whose channels have about unit variance.

Shapes: C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmem.weights import read_json, read_tensors


class Normalization(NamedTuple):
    """x = z · scale + shift; one number each, or one a channel."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def undo(self, x: Tensor) -> Tensor:
        """z (B, C, H, W) of x."""
        scale, shift = (x.new_tensor(part).view(1, -1, 1, 1) for part in self)
        return (x - shift) / scale


def read_settings(
    settings: Mapping[str, Any], usual: float, scale: float | None, shift: float | None
) -> Normalization:
    """What config.json says, as diffusers means it, unless a recipe says otherwise.

    Per channel: x = (z - latents_mean) / latents_std · scaling_factor. Else: x = (z - shift_factor) ·
    scaling_factor.

    Args:
        settings: Of config.json.
        usual: The scaling factor where it names none.
        scale: In its place.
        shift: In its place; added after scaling.

    Raises:
        ValueError: Statistics of channels that are not one mean and one deviation each.
    """
    factor = settings.get("scaling_factor") or usual
    if settings.get("latents_mean") is not None and scale is None and shift is None:
        tables = {"mean": settings["latents_mean"], "std": settings.get("latents_std")}
        return _standardize(tables, "config.json: latents_", int(settings["latent_channels"]), factor)
    used = factor if scale is None else scale
    default = -(settings.get("shift_factor") or 0.0) * used
    return Normalization((float(used),), (float(default if shift is None else shift),))


def read_statistics(file: Path | None, channels: int, multiplier: float) -> Normalization:
    """x = (z - mean_c) / std_c · multiplier, by a file that holds `mean` and `std`.

    Args:
        file: JSON, or safetensors; None: mean 0 and std 1.
        channels: C.
        multiplier: After that.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no such file, or not of so many channels.
    """
    if file is None:
        return Normalization((multiplier,), (0.0,))
    tables = read_json(file) if file.suffix == ".json" else read_tensors(file)
    return _standardize(tables, f"{file}: ", channels, multiplier)


def _standardize(tables: Mapping[str, Any], where: str, channels: int, factor: float) -> Normalization:
    mean_C, std_C = (_numbers(tables, where, name, channels) for name in ("mean", "std"))
    if not (std_C > 0).all():
        raise ValueError(f"{where}std must be above 0 in every channel, its least is {std_C.min().item()}")
    scale_C = factor / std_C
    return Normalization(tuple(scale_C.tolist()), tuple((-mean_C * scale_C).tolist()))


def _numbers(tables: Mapping[str, Any], where: str, name: str, channels: int) -> Tensor:
    """(C,) float64."""
    try:
        found = torch.as_tensor(tables[name], dtype=torch.float64).flatten()
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise ValueError(f"{where}{name} must be {channels} numbers; it is missing, or none") from None
    if len(found) != channels or not found.isfinite().all():
        raise ValueError(f"{where}{name} must be {channels} finite numbers, found {len(found)}")
    return found
