"""References: what samples are compared with, measured now or kept in an .npz file.

The file is one that ADM's tools read: `mu`, `sigma`, and `mu_s`, `sigma_s` of the spatial map. Ours
says besides what it is of: pictures, count, encoder, hash of the weights, hash of the content.
Shapes: N pictures, D width of an output.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genmem.data.files import hash_file, replace_file
from genmem.scoring.measuring import POOLED, Measured
from genmem.scoring.moments import Moments, Statistics
from genmem.scoring.sets.archives import Archive

FORMAT = 1
_NAMES = {POOLED: ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
_ROWS = "rows"
_ABOUT = "provenance"


@attrs.frozen(kw_only=True, eq=False)
class Reference:
    """What a set of real pictures looks like to one encoder."""

    name: str
    count: int | None
    """Pictures; None where a file does not say."""

    shape: tuple[int, int, int] | None
    """H, W, C of the pictures; None where a file does not say."""

    sha256: str
    """Of the pictures, or of the file where that is all there is."""

    moments: Mapping[str, Moments | Statistics]
    rows: Mapping[str, np.ndarray]
    origin: str = "measured"
    """ "measured" here; "kept" in a file of ours; "custom": a file that does not say what it is of."""

    def to_json(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {"name": self.origin, "count": self.count, "hash": self.sha256}


def measured(name: str, shape: tuple[int, int, int], found: Measured) -> Reference:
    """A reference of pictures that were just looked at."""
    return Reference(
        name=name, shape=shape, count=found.count, sha256=found.sha256, moments=found.moments, rows=found.rows
    )


def has_statistics(archive: Archive) -> bool:
    """Whether an .npz file has a mean and a covariance, with or without pictures beside."""
    return _NAMES[POOLED][0] in archive.headers


def load_reference(archive: Archive, features: Mapping[str, Any], outputs: Mapping[str, int]) -> Reference:
    """The statistics in a file.

    Args:
        archive: The file.
        features: What the encoder is, to compare with what the file says.
        outputs: {name: width} of what it gives.

    Raises:
        ValueError: Statistics of other features, of another width, that are none, or were changed.
    """
    about = _read_about(archive)
    if about is not None and about["features"] != dict(features):
        raise ValueError(
            f"{archive.path}: statistics of other features: {_say(about['features'])} there, "
            f"{_say(features)} here; name the encoder they were made with, or save a reference with this one"
        )
    moments = {}
    for output, (mean, covariance) in _NAMES.items():
        if mean in archive.headers and output in outputs:
            moments[output] = _statistics(archive, mean, covariance, outputs[output])
    rows = {POOLED: archive.array(_ROWS)} if about is not None and _ROWS in archive.headers else {}
    if about is None:
        digest = hash_file(archive.path)
        return Reference(
            name=str(archive.path),
            shape=None,
            count=None,
            sha256=digest,
            moments=moments,
            rows=rows,
            origin="custom",
        )
    source = about["source"]
    return Reference(
        name=source["name"],
        shape=tuple(source["shape"]),
        count=source["count"],
        sha256=source["sha256"],
        moments=moments,
        rows=rows,
        origin="measured",
    )


def save_reference(path: Path, reference: Reference, features: Mapping[str, Any]) -> str:
    """Write it; returns the hash of its content.

    Raises:
        FileExistsError: The file is there already.
        ValueError: A name that does not end in .npz, a reference that does not say of what it is.
    """
    check_new(path)
    arrays: dict[str, np.ndarray] = {}
    for output, moments in reference.moments.items():
        mean, covariance = _NAMES[output]
        arrays |= {mean: moments.mean_D.numpy(), covariance: moments.covariance().numpy()}
    if POOLED in reference.rows:
        arrays[_ROWS] = reference.rows[POOLED]
    source: dict[str, Any] = {"name": reference.name, "count": reference.count, "sha256": reference.sha256}
    source["shape"] = reference.shape
    content = _hash_arrays(arrays)
    about = {"format": FORMAT, "source": source, "features": dict(features), "content": content}
    with replace_file(path) as file:
        np.savez(file, **arrays, **{_ABOUT: np.array(json.dumps(about))})  # type: ignore[arg-type]
    return content


def check_new(path: Path) -> None:
    """Refuse a place for a reference before anything is worked out.

    Raises:
        FileExistsError: The file is there already.
        ValueError: A name that does not end in .npz.
    """
    if path.suffix != ".npz":
        raise ValueError(f"{path}: a reference is saved as .npz")
    if path.exists():
        raise FileExistsError(f"{path} is there already, and nothing is overwritten")


def _statistics(archive: Archive, mean: str, covariance: str, width: int) -> Statistics:
    if covariance not in archive.headers:
        raise ValueError(f"{archive.path}: has {mean!r} but no {covariance!r}")
    for name in (mean, covariance):
        dtype = archive.headers[name][1]
        if dtype.kind != "f":
            raise ValueError(f"{archive.path}: {name} is {dtype}, floating-point numbers are expected")
    values = [torch.from_numpy(archive.array(name).astype(np.float64)) for name in (mean, covariance)]
    if values[0].shape != (width,):
        raise ValueError(
            f"{archive.path}: statistics of other features: {mean} is {tuple(values[0].shape)}, the encoder "
            f"gives {width} numbers; name the encoder they were made with"
        )
    try:
        return Statistics(values[0], values[1])
    except ValueError as error:
        raise ValueError(f"{archive.path}: {mean}, {covariance}: {error}") from error


def _read_about(archive: Archive) -> dict[str, Any] | None:
    if _ABOUT not in archive.headers:
        return None
    shape, dtype, _ = archive.headers[_ABOUT]
    if shape != () or dtype.kind != "U":
        raise ValueError(f"{archive.path}: {_ABOUT} is {dtype} {shape}, expected a text")
    try:
        about: dict[str, Any] = json.loads(str(archive.array(_ABOUT)))
        version = about["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{archive.path}: {_ABOUT} does not say what the file is of") from error
    names = [name for name in archive.headers if name != _ABOUT]
    if version != FORMAT:
        raise ValueError(f"{archive.path}: a reference of format {version}, read is {FORMAT}")
    if _hash_arrays({name: archive.array(name) for name in names}) != about["content"]:
        raise ValueError(f"{archive.path}: changed since it was saved: its content has another hash")
    return about


def _hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {value.dtype} {value.shape}\n".encode())
        found.update(value.data)
    return found.hexdigest()


def _say(features: Mapping[str, Any]) -> str:
    shown = {key: value[:12] if key == "weights" else value for key, value in features.items()}
    return json.dumps(shown)
