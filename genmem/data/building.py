"""Building a set: fit encoders, write shards, and the manifests last."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import genmem
from genmem.contracts import SourceConfig, Split
from genmem.data.encoding import Encoding
from genmem.data.errors import DataError
from genmem.data.fields import LABEL, SAMPLE
from genmem.data.files import hash_file, replace_file
from genmem.data.index import INDEX, Index, join_indexes, save_index
from genmem.data.manifest import FORMAT, FittedEncoder, Manifest, Shard
from genmem.data.settings import describe_seat
from genmem.data.states import state_path
from genmem.data.writer import describe_shard, write_shard
from genmem.recipe.tables import DataTable, Seat

PLAN = "preparation.json"
_FEATURE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class SetBuilder:
    """One preparation of a folder; finished shards of an earlier, killed one are kept."""

    def __init__(self, data: DataTable, seat: Seat[SourceConfig], views: int) -> None:
        """What to build, and from which source.

        Raises:
            DataError: A feature's name that cannot stand in a shard.
        """
        for name in data.encoder:
            if not _FEATURE.fullmatch(name) or name in (SAMPLE, LABEL):
                raise DataError(
                    f"data.encoder.{name}: a feature's name has letters, digits, _ and -, "
                    f"and is not {SAMPLE!r} or {LABEL!r}"
                )
        self.data, self.seat, self.views = data, seat, views
        self.folder = Path(data.path)

    def build(self, report: Callable[[str, int, int], None]) -> None:
        """Write train/, test/ and encoders/.

        Raises:
            DataError: The folder holds something else, or pictures are not alike.
        """
        self._keep_plan()
        encoding = Encoding(self.data, self.seat.config.build(), self.views)
        for i, name in enumerate(self.data.encoder):
            report("fitting encoders", i, len(self.data.encoder))
            encoding.fit(name, self.folder)
        # The training manifest comes last of all: with it the set exists.
        for split in ("test", "train"):
            self._build_split(split, encoding, report)
        (self.folder / PLAN).unlink()

    def _keep_plan(self) -> None:
        """Write down what is being built: what another plan left unfinished is not mixed with it."""
        seats: dict[str, Seat[Any]] = {
            "data.source": self.seat,
            "data.tokenizer": self.data.tokenizer,
            **{f"data.encoder.{name}": seat for name, seat in self.data.encoder.items()},
        }
        plan = {name: str(describe_seat(seat)) for name, seat in seats.items()}
        plan |= {
            "format": str(FORMAT),
            "data.shard_size": str(self.data.shard_size),
            "views": str(self.views),
        }
        path = self.folder / PLAN
        if path.is_file():
            _refuse_other_plan(path, plan)
        elif leftover := next(self.folder.glob("*/*.tar"), None):
            raise DataError(
                f"{leftover}: lies where a set is to be prepared, but train/ and test/ have no manifests; "
                "move it away, or set data.path to another folder"
            )
        else:
            with replace_file(path) as file:
                file.write(json.dumps(plan, indent=2).encode())

    def _build_split(self, split: Split, encoding: Encoding, report: Callable[[str, int, int], None]) -> None:
        total = encoding.source.count(split)
        described: list[tuple[Shard, Index]] = []
        for i, first in enumerate(range(0, total, self.data.shard_size)):
            report(f"preparing {split}", first, total)
            path = self.folder / split / f"{i:06d}.tar"
            # A tar takes its name only when it is whole, so one that has it is finished.
            if not path.is_file():
                arrays, label_n = encoding.encode(
                    split, range(first, min(first + self.data.shard_size, total))
                )
                write_shard(path, first, arrays, label_n if encoding.source.class_names else None)
            described.append(describe_shard(path))
        save_index(join_indexes([index for _, index in described]), self.folder / split)
        self._manifest(split, encoding, tuple(shard for shard, _ in described)).save(self.folder / split)
        report(f"preparing {split}", total, total)

    def _manifest(self, split: Split, encoding: Encoding, shards: tuple[Shard, ...]) -> Manifest:
        return Manifest(
            split=split,
            views=self.views,
            picture_shape=encoding.picture_shape,
            tokenizer=describe_seat(self.data.tokenizer),
            latent=encoding.spec,
            class_names=encoding.source.class_names,
            encoders={name: self._fitted(name) for name in self.data.encoder},
            features=encoding.features(),
            shards=shards,
            index=hash_file(self.folder / split / INDEX),
            source=describe_seat(self.seat),
            provenance={
                "genmem": genmem.__version__,
                "source": encoding.source.provenance,
                "encoders_fitted_on": len(encoding.fit_numbers),
            },
        )

    def _fitted(self, name: str) -> FittedEncoder:
        component = describe_seat(self.data.encoder[name])
        state = hash_file(state_path(self.folder, name))
        return FittedEncoder(use=component.use, settings=component.settings, state=state)


def _refuse_other_plan(path: Path, plan: Mapping[str, str]) -> None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{path}: damaged; delete the folder to prepare it from the start")
    for key in sorted({*found, *plan}):
        if found.get(key) != plan.get(key):
            raise DataError(
                f"{path}: an unfinished preparation with {key} = {found.get(key)} lies here, this one has "
                f"{plan.get(key)}; delete the folder, or set data.path to another"
            )
