"""WebDataset shards of pictures: KEY.jpg (or png, webp) beside KEY.cls, or KEY.json with the class.

Shapes: N samples, H W C picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genmem.contracts import Split, UnreadablePicture
from genmem.data.format.tar import Member, read_members
from genmem_sources.configs import WebShardsConfig
from genmem_sources.holding_out import count_held, hold_out
from genmem_sources.pictures import MOST_BYTES, decode_picture
from genmem_sources.unpacking import map_file

_PICTURES = ("jpg", "jpeg", "png", "webp")
_LONGEST_TEXT = 1 << 20


@attrs.frozen
class _Sample:
    data: memoryview
    where: str
    """Shard and key; it stands for the sample when pictures are held out."""

    picture: Member
    label: str | None


class WebShards:
    """The samples of every tar in a folder, or in its train/ and test/, ordered by name."""

    def __init__(self, config: WebShardsConfig) -> None:
        """Read the headers of every tar, and the labels.

        Raises:
            ValueError: No tars, a damaged one, a sample without picture or label.
        """
        self._config, self._path = config, Path(config.path)
        samples = {split: list(self._read_split(split)) for split in ("train", "test")}
        labels = {sample.label for found in samples.values() for sample in found}
        if len(labels) > 1 and None in labels:
            raise ValueError(f"{config.path}: some samples have a class and some have none")
        names = sorted({label for label in labels if label is not None}, key=_by_number)
        if config.label == "cls":
            names = [str(number) for number in range(int(names[-1]) + 1)] if names else []
        self.class_names = tuple(names)
        self._label_of = {name: i for i, name in enumerate(names)}
        self._splits: dict[Split, list[_Sample]] = self._hold_out(samples["train"], samples["test"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Names and sizes of the tars, hashed; counts; the licence that was given."""
        tars = [tar for folder in self._folders().values() for tar in _tars(folder)]
        lines = "".join(f"{tar.name}\t{tar.stat().st_size}\n" for tar in tars)
        return {
            "name": self._path.name,
            "tars": len(tars),
            "sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "pictures": sum(map(len, self._splits.values())),
            "licence": self._config.licence or "not stated",
        }

    def count(self, split: Split) -> int:
        """Samples in this split."""
        return len(self._splits[split])

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """uint8 (H, W, C) and label."""
        found, config = self._splits[split][number], self._config
        member = found.picture
        if member.size > MOST_BYTES:
            raise UnreadablePicture(
                f"{found.where}: {member.size:,} bytes; a picture may have {MOST_BYTES:,}"
            )
        data = bytes(found.data[member.offset : member.offset + member.size])
        picture = decode_picture(data, found.where, channels=config.channels, resolution=config.resolution)
        return picture, self._label(found)

    def _label(self, sample: _Sample) -> int:
        return -1 if sample.label is None else self._label_of[sample.label]

    def _folders(self) -> dict[str, Path]:
        if (self._path / "train").is_dir():
            return {split: self._path / split for split in ("train", "test") if (self._path / split).is_dir()}
        return {"train": self._path}

    def _read_split(self, split: str) -> Iterator[_Sample]:
        folder = self._folders().get(split)
        if folder is None:
            return
        tars = _tars(folder)
        if not tars:
            raise ValueError(f"{folder}: holds no .tar files")
        for tar in tars:
            data = map_file(tar)
            for key, members in _group(data, tar).items():
                yield self._read_sample(data, f"{tar}: {key}", members)

    def _read_sample(self, data: memoryview, where: str, members: dict[str, Member]) -> _Sample:
        pictures = [members[suffix] for suffix in _PICTURES if suffix in members]
        if len(pictures) != 1:
            raise ValueError(
                f"{where}: expected one picture ({', '.join(_PICTURES)}), found {sorted(members)}"
            )
        return _Sample(data, where, pictures[0], self._read_label(data, where, members))

    def _read_label(self, data: memoryview, where: str, members: dict[str, Member]) -> str | None:
        kind, _, key = self._config.label.partition(":")
        if kind == "none":
            return None
        if kind not in members:
            # Shards without classes, img2dataset's usual ones, are fine as long as none has one.
            if kind == "cls":
                return None
            raise ValueError(f"{where}: has no json to take its class from; it has {sorted(members)}")
        text = bytes(data[members[kind].offset :][: min(members[kind].size, _LONGEST_TEXT)]).strip()
        if kind == "cls":
            if not text.isdigit() or len(text) > 9:
                raise ValueError(f"{where}: cls: expected a class number, found {text[:40]!r}")
            return str(int(text))
        return _json_value(text, key, where)

    def _hold_out(self, train: list[_Sample], test: list[_Sample]) -> dict[Split, list[_Sample]]:
        if test:
            if self._config.held_out:
                raise ValueError(f"{self._path}: has a test folder of its own; leave held_out out")
            return {"train": train, "test": test}
        label_N = np.array([self._label(sample) for sample in train])
        names = [sample.where.removeprefix(f"{self._path}") for sample in train]
        held_N = hold_out(names, label_N, count_held(self._config.held_out, len(train)))
        return {
            "train": [sample for sample, held in zip(train, held_N, strict=True) if not held],
            "test": [sample for sample, held in zip(train, held_N, strict=True) if held],
        }


def _tars(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tar"))


def _group(data: memoryview, tar: Path) -> dict[str, dict[str, Member]]:
    """{key: {suffix: member}}; a key ends at the first dot of the file's name."""
    samples: dict[str, dict[str, Member]] = {}
    for member in read_members(data, str(tar)):
        folder, slash, name = member.name.rpartition("/")
        key, dot, suffix = name.partition(".")
        if not (key and dot):
            raise ValueError(f"{tar}: member {member.name!r}: expected KEY.jpg, KEY.cls and the like")
        fields = samples.setdefault(f"{folder}{slash}{key}", {})
        if suffix.lower() in fields:
            raise ValueError(f"{tar}: member {member.name!r} is there twice")
        fields[suffix.lower()] = member
    return samples


def _json_value(text: bytes, key: str, where: str) -> str:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: json: cannot be read: {error}") from error
    found = value.get(key) if isinstance(value, dict) else None
    if found is None or type(found) not in (str, int):
        raise ValueError(f"{where}: json: expected a text or a whole number under {key!r}")
    return str(found)


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (1 << 62, name)
