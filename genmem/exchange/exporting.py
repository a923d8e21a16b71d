"""From a run folder to one file of weights, with the recipe beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs
from safetensors.torch import save_file
from torch import Tensor

from genmem.host import load_catalog
from genmem.recipe import dump, load
from genmem.training import checkpoints
from genmem.training.folder import RunFolder
from genmem.training.integrity import choose


@attrs.frozen(kw_only=True)
class Exported:
    """What was written."""

    file: Path
    recipe: Path
    count: int
    note: str
    """What the reader of the file has to know; empty where there is nothing."""


def export_weights(
    run: Path,
    file: Path,
    *,
    layout: str | None = None,
    weights: str | None = None,
    checkpoint: int | None = None,
    plugins: Sequence[Path] = (),
) -> Exported:
    """Write the backbone of a run's newest checkpoint, and nothing else, as safetensors.

    Args:
        run: The run folder.
        file: To write; the recipe goes beside it, with the suffix .toml.
        layout: Whose names to write; the backbone's own if absent.
        weights: An EMA's name, or "online"; the recipe's `evaluate.weights` if absent.
        checkpoint: Images seen by the weights to take; those of the newest if absent.
        plugins: Un-packaged plugin files.

    Raises:
        FileNotFoundError: No run, no checkpoint in it, or not this one.
        FileExistsError: The file or the recipe is there already.
        ValueError: The layout has no place for a tensor; a damaged checkpoint.
    """
    folder = RunFolder(run)
    found = choose(folder.checkpoints, checkpoint)
    if not folder.recipe.exists() or found is None:
        raise FileNotFoundError(f"{run} is no run folder with a checkpoint in it")
    beside = file.with_suffix(".toml")
    for path in (file, beside):
        if path.exists():
            raise FileExistsError(f"{path} is there already, and nothing is overwritten")
    catalog = load_catalog(tuple(plugins))
    recipe = load(folder.recipe, (), plugins, catalog, run_plugins=False)
    time = getattr(recipe.backbone.config, "weights_time", "data0")
    tensors, note = checkpoints.weights(found, weights or recipe.evaluate.weights), ""
    if layout is not None:
        config = catalog.find("format", layout).config()
        tensors, note = config.build().write(tensors), _note(layout, config.weights_time, time)
    _save(tensors, file, {"layout": layout or recipe.backbone.use, "weights_time": time})
    beside.write_text(dump(recipe), encoding="utf-8")
    return Exported(file=file, recipe=beside, count=len(tensors), note=note)


def _note(layout: str, theirs: str, ours: str) -> str:
    """Weights cannot be turned to the other direction of time, so the reader has to be told."""
    if theirs == ours:
        return ""
    at = {"data0": "t = 0", "data1": "t = 1"}
    return (
        f"these weights have the data at {at[ours]}, code of layout {layout!r} has it at {at[theirs]}: "
        "there, give the network 1 - t and negate the velocity (genmem reads this from the file)"
    )


def _save(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, partial, {"format": "pt", "genmem": version("genmem"), **metadata})
    partial.rename(file)
