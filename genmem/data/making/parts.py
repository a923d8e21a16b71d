"""What is known of a finished shard, kept beside it until its split is whole.

Any number of processes finish shards; one of them joins the parts. A process that was killed left its
finished shards with their parts, so nothing is encoded, hashed or measured twice.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import attrs

from genmem.contracts import LatentSpec
from genmem.data.errors import DataError
from genmem.data.files import replace_file
from genmem.data.format.index import Index, load_index, save_index
from genmem.data.format.manifest import Shard
from genmem.data.format.scanning import describe_shard
from genmem.data.making.statistics import Moments, measure_shard

_FOLDER = "parts"


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """One finished shard."""

    shard: Shard
    index: Index
    moments: Moments
    skipped: tuple[str, ...]
    """What was wrong with pictures left out of it."""


def note_skipped(tar: Path, skipped: list[str]) -> None:
    """Keep what is about to be left out of a tar, before the tar takes its name."""
    with replace_file(_folder(tar) / "skipped.json") as file:
        file.write(json.dumps(skipped).encode())


def finish_part(tar: Path, spec: LatentSpec, first: int, views: int) -> None:
    """Describe and measure a tar that has just taken its name, unless that is done."""
    if (_folder(tar) / "part.json").is_file():
        return
    shard, index = describe_shard(tar)
    moments = measure_shard(tar, index, spec, first, views)
    save_index(index, _folder(tar))
    found = {"shard": attrs.asdict(shard), "moments": moments.to_json()}
    with replace_file(_folder(tar) / "part.json") as file:
        file.write(json.dumps(found).encode())


def load_part(tar: Path) -> Part:
    """What `finish_part` found.

    Raises:
        DataError: It was never finished, or is damaged.
    """
    folder = _folder(tar)
    try:
        found = json.loads((folder / "part.json").read_bytes())
        noted = folder / "skipped.json"
        return Part(
            shard=Shard(**{**found["shard"], "fields": tuple(found["shard"]["fields"])}),
            index=load_index(folder),
            moments=Moments.of_json(found["moments"]),
            skipped=tuple(json.loads(noted.read_bytes())) if noted.is_file() else (),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: damaged: {error}; delete it, and prepare again") from error


def remove_parts(split: Path) -> None:
    """Forget the parts of a split that is whole."""
    shutil.rmtree(split / _FOLDER, ignore_errors=True)


def _folder(tar: Path) -> Path:
    return tar.parent / _FOLDER / tar.stem
