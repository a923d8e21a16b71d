"""Where a run computes, and in which precision."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from genmem import slurm

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Of a recipe's `train.precision`."""
_BACKENDS: Any = torch.backends


def resolve(name: str) -> torch.device:
    """The device a recipe's `train.device` means; "auto" is cuda, else mps, else cpu.

    Every command that computes asks here, and from then on fp32 is fp32 on every device: no TF32 in
    products and convolutions. Who wants speed asks for bf16.

    Raises:
        ValueError: A device this machine or this build of torch does not have; one by number where there
            are several processes, each of which takes its own.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name.partition(":")[0], False):
        found = ", ".join(sorted(kind for kind, usable in there.items() if usable))
        raise ValueError(f'train.device = "{name}", but this machine offers {found}; or say "auto"')
    _compute_in_ieee()
    device = torch.device(name)
    if device.index is not None and device.type == "cuda":
        if int((slurm.variables(os.environ) or os.environ).get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f'train.device = "{name}": of several processes each takes the GPU of its number; say '
                '"cuda", and CUDA_VISIBLE_DEVICES says which there are'
            )
        torch.cuda.set_device(device)
    return device


def _compute_in_ieee() -> None:
    """Turn TF32 off by torch's newer switches, every one: a part that was set does not follow the whole."""
    cuda, cudnn, mkldnn = _BACKENDS.cuda, _BACKENDS.cudnn, _BACKENDS.mkldnn
    parts = (cuda.matmul, cudnn, cudnn.conv, cudnn.rnn, mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    for part in (_BACKENDS, *parts):
        part.fp32_precision = "ieee"


def fp32_in_use() -> str:
    """How fp32 is computed in this process: "ieee" once a device was resolved."""
    return str(_BACKENDS.fp32_precision)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The forward's precision: bf16 or fp16 under autocast, or plain fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])
