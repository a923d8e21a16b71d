"""The folder that REPA's preprocessing writes: pictures, and moments of the SD-VAE's posterior.

images/00000/img00000000.png, vae-sd/00000/img-mean-std-00000000.npy (mean, then deviation), and a
dataset.json in each with the labels.
Shapes: B samples, N of the folder, C H W latent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genmem.contracts import LatentSpec, Split, Stored, UnreadablePicture
from genmem.data.format.npy import split_header
from genmem_sources.configs import RepaLatentsConfig
from genmem_sources.holding_out import count_held, hold_out
from genmem_sources.pictures import MOST_BYTES, decode_picture

_LATENT = re.compile(r"(\d{5})/img-mean-std-(\d{8})\.npy")
_DOWNSAMPLE = 8


class RepaLatents:
    """Mean and deviation of every picture; the pictures too, where images/ is there."""

    def __init__(self, config: RepaLatentsConfig) -> None:
        """Read the list of latents and the form of the first.

        Raises:
            FileNotFoundError, ValueError: Files that are missing, or not as REPA writes them.
        """
        self._config, self._path = config, Path(config.path)
        self._list = self._path / "vae-sd" / "dataset.json"
        names, label_N = _read_list(self._list)
        self.class_names = tuple(str(i) for i in range(int(label_N.max()) + 1))
        self._check_pictures(names, label_N)
        held_N = hold_out(names, label_N, count_held(config.held_out, len(names)))
        self._names = np.array(names)
        self._labels = label_N
        self._splits: dict[Split, np.ndarray] = {
            "train": np.flatnonzero(~held_N),
            "test": np.flatnonzero(held_N),
        }
        first = self._latent(0)
        self.spec = LatentSpec(
            "sd-vae",
            (first.shape[0] // 2, *first.shape[1:]),
            "float32",
            scale=config.scale,
            shift=config.shift,
            moments=True,
        )
        self._shape = first.shape

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """H, W, 3: eight pixels a latent's side."""
        _, height, width = self.spec.shape
        return _DOWNSAMPLE * height, _DOWNSAMPLE * width, 3

    @property
    def provenance(self) -> dict[str, Any]:
        """Hash of the list of latents, and the licence that was given."""
        return {
            "name": self._path.name,
            "latents": len(self._names),
            "sha256": hashlib.sha256(self._list.read_bytes()).hexdigest(),
            "licence": self._config.licence or "not stated",
        }

    def count(self, split: Split) -> int:
        """Latents in this split."""
        return len(self._splits[split])

    def stored(self, split: Split, start: int, stop: int, features: Sequence[str] = ()) -> Stored:
        """Moments (B, 2C, H, W): the plain view alone, as REPA stores no flips."""
        if features:
            raise ValueError(f"{self._path}: holds no features such as {features[0]!r}; encode its pictures")
        numbers = self._splits[split][start:stop]
        x = np.stack([self._checked(number) for number in numbers.tolist()])
        return Stored(({"x": x},), self._labels[numbers])

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, 3) and label."""
        found = int(self._splits[split][number])
        path = self._picture_path(str(self._names[found]))
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise UnreadablePicture(f"{path}: missing, or larger than a picture is")
        return decode_picture(path.read_bytes(), str(path)), int(self._labels[found])

    def _picture_path(self, name: str) -> Path:
        folder, number = name.split("/")[0], name[-12:-4]
        return self._path / "images" / folder / f"img{number}.png"

    def _checked(self, number: int) -> np.ndarray:
        latent = self._latent(number)
        if latent.shape != self._shape:
            raise ValueError(f"{self._names[number]}: shape {latent.shape}, the first has {self._shape}")
        return latent

    def _latent(self, number: int) -> np.ndarray:
        path = self._path / "vae-sd" / str(self._names[number])
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing, though {self._list} lists it")
        record = memoryview(path.read_bytes())
        header, form = split_header(record, str(path))
        if len(form.shape) != 3 or form.shape[0] % 2 or form.dtype != "<f4":
            raise ValueError(
                f"{path}: expected float32 (2C, H, W), mean and deviation; got {form.dtype} {form.shape}"
            )
        return np.frombuffer(record, np.float32, offset=len(header)).reshape(form.shape)

    def _check_pictures(self, names: list[str], label_N: np.ndarray) -> None:
        """The labels of images/ are those of vae-sd/: else pictures and latents would be mispaired."""
        listed = self._path / "images" / "dataset.json"
        if not listed.is_file():
            return
        labels = [label for _, label in _read_json(listed)]
        if labels != label_N.tolist():
            raise ValueError(
                f"{listed}: its labels are not those of {self._list}: they do not belong together"
            )


def _read_list(path: Path) -> tuple[list[str], np.ndarray]:
    """Names, sorted as REPA pairs them, and labels (N,) int64."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; it lists the latents and their labels")
    entries = _read_json(path)
    for name, _ in entries:
        match = _LATENT.fullmatch(name)
        if match is None or match[2][:5] != match[1]:
            raise ValueError(f"{path}: {name!r}: expected a name such as 00000/img-mean-std-00000000.npy")
    if not entries or len({name for name, _ in entries}) < len(entries):
        raise ValueError(f"{path}: lists no latents, or one of them twice")
    return [name for name, _ in entries], np.array([label for _, label in entries], np.int64)


def _read_json(path: Path) -> list[tuple[str, int]]:
    try:
        entries = json.loads(path.read_bytes())["labels"]
        pairs = sorted((name, label) for name, label in entries)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{path}: expected {{"labels": [[name, class], …]}}: {error}') from error
    for name, label in pairs:
        if not isinstance(name, str) or type(label) is not int or not 0 <= label < 1 << 20:
            raise ValueError(f"{path}: expected [name, class], found [{name!r}, {label!r}]")
    return pairs
