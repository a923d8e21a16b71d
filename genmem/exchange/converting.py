"""From tensors in a pickle to the same tensors in a safetensors file."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from genmem.exchange.files import read_weights


def convert_weights(file: Path, out: Path) -> int:
    """Write the tensors of a file as safetensors, under their names; returns how many.

    Of a checkpoint with a moving average beside the weights that trained, the average is taken.
    Nothing in the file is run.

    Args:
        file: A state dict, bare or under `ema`, `model` or `state_dict`.
        out: To write.

    Raises:
        FileNotFoundError: No such file.
        FileExistsError: `out` is there already.
        ValueError: The file is damaged, holds code or objects, or no tensors.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already, and nothing is overwritten")
    # Tensors of a pickle may share memory, which safetensors cannot express: each gets its own.
    tensors = {name: value.clone().contiguous() for name, value in read_weights(file).average.items()}
    partial = out.with_name(f".{out.name}.partial")
    save_file(tensors, partial, {"format": "pt"})
    partial.rename(out)
    return len(tensors)
