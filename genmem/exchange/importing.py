"""From a file of published weights to a run folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli_w
import torch
from torch import Size, Tensor

from genmem.building import Shapes
from genmem.contracts import Facts, Fit, Format, FormatConfig, Reading
from genmem.data.dataset import is_prepared, open_dataset
from genmem.exchange.files import Weights, read_weights
from genmem.host import Catalog, load_catalog
from genmem.recipe import Recipe, load, loads
from genmem.training import checkpoints
from genmem.training.folder import RunFolder

PREFIX = "backbone."
CORE: Mapping[str, Any] = {
    "train": {"images": 1, "batch": 1},
    "ema": {"ema": {}},
    "evaluate": {"every": 1, "batch": 16},
}
"""Core's tables of a recipe that only samples."""


@attrs.frozen(kw_only=True)
class Imported:
    """What became of a file."""

    folder: Path
    kept: int
    dropped: tuple[str, ...]
    cut: Mapping[str, str]
    anew: tuple[str, ...]
    ignored: tuple[str, ...]
    weights_time: str

    @classmethod
    def of(cls, folder: Path, reading: Reading, fit: Fit, weights: Weights, weights_time: str) -> Imported:
        """Counted and listed."""
        return cls(
            folder=folder,
            kept=len(fit.tensors) - len(fit.anew),
            dropped=reading.dropped,
            cut=fit.cut,
            anew=tuple(sorted(fit.anew)),
            ignored=weights.ignored,
            weights_time=weights_time,
        )


def import_weights(
    file: Path,
    out: Path,
    layout: str,
    *,
    recipe: str | Path | None = None,
    reinit_labels: bool = False,
    weights_time: Literal["data0", "data1"] | None = None,
    shape: tuple[int, int, int] | None = None,
    plugins: Sequence[Path] = (),
    argv: Sequence[str] = (),
) -> Imported:
    """Write a run folder that samples from these weights.

    Args:
        file: A state dict, a dict with `ema` or `model`, or safetensors.
        out: The run folder; it must not exist, or be empty.
        layout: Name of the layout.
        recipe: What to run the weights in; the layout's own if absent. `backbone.weights_time` is set
            by the import.
        reinit_labels: Start the label table anew where the number of classes is another.
        weights_time: Time of the data in these weights, if it is not the layout's.
        shape: C, H, W of a sample, where the file does not show it.
        plugins: Un-packaged plugin files.
        argv: The command, for environment.json.

    Raises:
        ValueError: The file, the recipe and the network do not fit; the message names the tensors.
        FileExistsError: There is something in `out`.
    """
    _refuse_full(out)
    catalog = load_catalog(tuple(plugins))
    config: FormatConfig = catalog.find("format", layout).config()
    format_ = config.build()
    weights = read_weights(file)
    reading = _read(file, layout, format_, weights.average, shape)
    time = weights_time or weights.metadata.get("weights_time") or config.weights_time
    chosen = _recipe(recipe, reading, time, out, layout, plugins, catalog)
    facts = _facts(chosen, reading, shape)
    average = _fit(file, chosen, format_, reading, facts, reinit_labels)
    online = average.tensors
    if weights.online is not None:
        second = _read(file, layout, format_, weights.online, shape)
        online = _fit(file, chosen, format_, second, facts, reinit_labels).tensors
    imported = Imported.of(out, reading, average, weights, time)
    record = {"layout": layout, "file": file.name, "sha256": _hash(file)} | _listed(imported)
    with _complete_or_absent(out) as folder:
        RunFolder(folder).begin(chosen, catalog, argv)
        _write(chosen, folder, average.tensors, online, facts, record)
    return imported


def _read(
    file: Path,
    layout: str,
    format_: Format,
    tensors: Mapping[str, Tensor],
    shape: tuple[int, int, int] | None,
) -> Reading:
    try:
        return format_.read(tensors, shape)
    except ValueError as error:
        raise ValueError(f"{file} is not in layout {layout!r}: {error}") from None


def _recipe(
    given: str | Path | None,
    reading: Reading,
    weights_time: str,
    out: Path,
    layout: str,
    plugins: Sequence[Path],
    catalog: Catalog,
) -> Recipe:
    """The recipe given, or the one the layout means, with the direction of time in it."""
    overrides = (f"--backbone.weights_time={weights_time}",)
    if given is not None:
        return load(given, overrides, plugins, catalog)
    if not reading.tables:
        raise ValueError(f"layout {layout!r} does not say all that a recipe needs: give one with --recipe")
    tables = {**CORE, **reading.tables}
    tables["data"] = {"path": str(out / "data"), **tables["data"]}
    return loads(tomli_w.dumps(tables), out.resolve().name, overrides, plugins, catalog)


def _facts(recipe: Recipe, reading: Reading, shape: tuple[int, int, int] | None) -> Facts:
    """What the recipe's network is built for: the data set says, where it is there, else the weights."""
    found = reading.facts
    sample, classes = shape or found.sample_shape, found.num_classes
    if is_prepared(recipe.data.path):
        dataset = open_dataset(recipe.data)
        sample, classes = shape or dataset.spec.shape, len(dataset.class_names)
    interpolant = recipe.interpolant.config
    return attrs.evolve(
        found,
        sample_shape=sample,
        output_channels=interpolant.output_channels(sample[0]),
        predicts_velocity=interpolant.predicts_velocity,
        num_classes=classes if recipe.condition.label else 0,
        condition_width=found.condition_width if recipe.condition.memory else 0,
        tap_widths=recipe.backbone.config.tap_widths,
    )


def _fit(
    file: Path, recipe: Recipe, format_: Format, reading: Reading, facts: Facts, reinit_labels: bool
) -> Fit:
    """The weights in the network's shapes, whole: what has to start anew is filled in."""
    with torch.device("meta"):
        wanted = {
            name: value.shape for name, value in recipe.backbone.config.build(facts).state_dict().items()
        }
    try:
        fit = format_.fit(reading.tensors, wanted, reinit_labels)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    tensors = dict(fit.tensors)
    if fit.anew:
        torch.manual_seed(recipe.train.seed)
        fresh = recipe.backbone.config.build(facts).state_dict()
        tensors |= {name: fresh[name] for name in fit.anew}
    _refuse_misfits(file, tensors, wanted)
    return fit._replace(tensors=tensors)


def _refuse_misfits(file: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Size]) -> None:
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    other = [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(wanted[name])} in the network"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name]
    ]
    faults = [f"it lacks {_some(missing)}"] if missing else []
    faults += [f"the network has no {_some(extra)}"] if extra else []
    faults += [_some(other)] if other else []
    if faults:
        raise ValueError(
            f"{file} does not fit the recipe's network: {'; '.join(faults)}; "
            "change [backbone] and [condition] to those the weights were trained with"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _refuse_full(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"there is something in {out} already, and nothing is overwritten")


@contextmanager
def _complete_or_absent(out: Path) -> Iterator[Path]:
    """A folder that takes its name only when everything is in it."""
    partial = out.resolve().with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.replace(out)


def _write(
    recipe: Recipe,
    folder: Path,
    average: Mapping[str, Tensor],
    online: Mapping[str, Tensor],
    facts: Facts,
    record: Mapping[str, Any],
) -> None:
    groups = {f"ema.{name}": dict(average) for name in recipe.ema}
    model = online if recipe.ema else average
    groups["model"] = {PREFIX + name: value for name, value in model.items()}
    shapes = Shapes(sample_shape=facts.sample_shape, num_classes=facts.num_classes, num_samples=0)
    state = {"steps": 0, "images": 0, "fingerprints": {}, "shapes": shapes.to_json()}
    checkpoint = checkpoints.Checkpoint(groups, {**state, "imported": dict(record)})
    checkpoints.save(RunFolder(folder).checkpoints, 0, checkpoint, keep=1)


def _listed(imported: Imported) -> dict[str, Any]:
    listed = attrs.asdict(imported, filter=lambda field, _: field.name != "folder")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in listed.items()}


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
