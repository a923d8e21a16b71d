"""Building a set: fit encoders, write shards, and the manifests last. One process, or several."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import genmem
from genmem.contracts import SourceConfig, Split
from genmem.data.errors import DataError
from genmem.data.files import hash_file
from genmem.data.format.fields import LABEL, SAMPLE
from genmem.data.format.index import INDEX, join_indexes, save_index
from genmem.data.format.manifest import Feature, FittedEncoder, Form, Manifest
from genmem.data.format.writer import write_shard
from genmem.data.making.encoding import Encoding
from genmem.data.making.estimate import describe_size
from genmem.data.making.parts import Part, finish_part, load_part, note_skipped, remove_parts
from genmem.data.making.plan import PLAN, keep_plan
from genmem.data.making.statistics import describe_moments, merge_moments
from genmem.data.settings import describe_seat
from genmem.data.states import hash_state, state_path
from genmem.recipe.data_table import DataTable
from genmem.recipe.seats import Seat

_FEATURE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# The training manifest comes last of all: with it the set exists.
_SPLITS: tuple[Split, ...] = ("test", "train")

Report = Callable[[str, int, int], None]
"""(what is being done, done, total), called now and then."""


class Team(NamedTuple):
    """The processes that build a set together."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None
    """Until all of them have come so far."""


class SetBuilder:
    """One preparation of a folder; finished shards of an earlier, killed one are kept."""

    def __init__(
        self,
        data: DataTable,
        seat: Seat[SourceConfig],
        team: Team,
        device: torch.device | str,
        report: Report,
        tell: Callable[[str], None],
    ) -> None:
        """What to build, from which source, with whom, and whom to tell.

        Raises:
            DataError: A feature's name that cannot stand in a shard.
        """
        for name in data.encoder:
            if not _FEATURE.fullmatch(name) or name in (SAMPLE, LABEL):
                raise DataError(
                    f"data.encoder.{name}: a feature's name has letters, digits, _ and -, "
                    f"and is not {SAMPLE!r} or {LABEL!r}"
                )
        self.data, self.seat, self.team, self.device = data, seat, team, device
        self.report, self.tell = report, tell
        self.folder = Path(data.path)

    def build(self) -> None:
        """Write train/, test/ and encoders/; every process of the team calls this.

        Raises:
            DataError: The folder holds something else, or pictures are not alike.
        """
        encoding = Encoding(self.data, self.seat.config.build(), self.device)
        if self.team.rank == 0:
            keep_plan(self.folder, self.data, self.seat, self._weights(encoding))
        self._fit(encoding)
        forms = encoding.forms()
        if self.team.rank == 0:
            self._tell_size(encoding, forms)
        for split in _SPLITS:
            self._write_shards(split, encoding)
        self.team.wait()
        if self.team.rank == 0:
            for split in _SPLITS:
                self._join(split, encoding, forms)
            (self.folder / PLAN).unlink()
        self.team.wait()

    def _weights(self, encoding: Encoding) -> dict[str, str]:
        """Hashes of the weights that settings do not tell: files of one name may hold others."""
        fixed = [name for name in encoding.encoders if not self.data.encoder[name].config.learns]
        hashes = {
            f"data.encoder.{name}.weights": hash_state(encoding.encoders[name].state()) for name in fixed
        }
        return {"data.tokenizer.weights": encoding.spec.weights, **hashes}

    def _fit(self, encoding: Encoding) -> None:
        """The first process fits, the others take up what it learned."""
        learning = [name for name in encoding.encoders if self.data.encoder[name].config.learns]
        if self.team.rank != 0:
            self.team.wait()
        for i, name in enumerate(learning):
            self.report("fitting encoders", i, len(learning))
            encoding.fit(name, self.folder)
            self.report("fitting encoders", i + 1, len(learning))
        if self.team.rank == 0:
            self.team.wait()

    def _tell_size(self, encoding: Encoding, forms: dict[str, Form]) -> None:
        samples = sum(encoding.source.count(split) for split in _SPLITS)
        label = bool(encoding.source.class_names)
        self.tell(f"{self.folder}: a sample holds")
        self.tell(describe_size(forms, encoding.views, samples, label=label))

    def _write_shards(self, split: Split, encoding: Encoding) -> None:
        """Every world-th shard, from this process's own number on."""
        total = encoding.source.count(split)
        self.report(f"preparing {split}", 0, total)
        for i in range(self.team.rank, len(self._starts(total)), self.team.world):
            first = self._starts(total)[i]
            path = self._tar(split, i)
            # A tar takes its name only when it is whole, so one that has it is finished.
            if not path.is_file():
                self._write_shard(
                    path, split, range(first, min(first + self.data.shard_size, total)), encoding
                )
            finish_part(path, encoding.spec, first, encoding.views)
        self.report(f"preparing {split}", total, total)

    def _write_shard(self, path: Path, split: Split, numbers: range, encoding: Encoding) -> None:
        total = encoding.source.count(split)
        shard = encoding.encode(
            split, numbers, lambda done: self.report(f"preparing {split}", numbers.start + done, total)
        )
        if not len(shard.label_n):
            raise DataError(f"{path}: none of its pictures can be read: {shard.skipped[0]}")
        if shard.skipped:
            self._check_skipped(shard.skipped)
            note_skipped(path, shard.skipped)
        write_shard(path, numbers.start, shard.fields, shard.label_n if encoding.source.class_names else None)

    def _check_skipped(self, skipped: list[str]) -> None:
        """Refuse more than are allowed: in a shard at once, in a split when it is joined."""
        if len(skipped) > self.data.max_skipped:
            raise DataError(
                f"{len(skipped)} pictures cannot be read, data.max_skipped allows {self.data.max_skipped}; "
                f"the last: {skipped[-1]}"
            )

    def _join(self, split: Split, encoding: Encoding, forms: dict[str, Form]) -> None:
        """Index and manifest of a split, from the parts of its shards."""
        self.report(f"joining {split}", 0, 1)
        count = len(self._starts(encoding.source.count(split)))
        parts = [load_part(self._tar(split, i)) for i in range(count)]
        self._check_skipped([problem for part in parts for problem in part.skipped])
        save_index(join_indexes([part.index for part in parts]), self.folder / split)
        remove_parts(self.folder / split)
        self._manifest(split, encoding, forms, parts).save(self.folder / split)
        self.report(f"joining {split}", 1, 1)

    def _manifest(
        self, split: Split, encoding: Encoding, forms: dict[str, Form], parts: list[Part]
    ) -> Manifest:
        features = {
            name: Feature(dtype=form.dtype, shape=form.shape, encoder=name.partition(".")[0])
            for name, form in forms.items()
            if name != SAMPLE
        }
        return Manifest(
            split=split,
            views=encoding.views,
            picture_shape=encoding.picture_shape,
            tokenizer=describe_seat(self.data.tokenizer),
            latent=encoding.spec,
            class_names=encoding.source.class_names,
            encoders={name: self._fitted(name, encoding) for name in self.data.encoder},
            features=features,
            shards=tuple(part.shard for part in parts),
            index=hash_file(self.folder / split / INDEX),
            source=describe_seat(self.seat),
            provenance=self._provenance(encoding, parts),
        )

    def _provenance(self, encoding: Encoding, parts: list[Part]) -> dict[str, Any]:
        skipped = [problem for part in parts for problem in part.skipped]
        measured = describe_moments(merge_moments(part.moments for part in parts)) if parts else {}
        return {
            "genmem": genmem.__version__,
            "source": encoding.source.provenance,
            "encoders_fitted_on": len(encoding.fit_numbers()) if self._learns() else 0,
            "statistics": measured,
            **({"skipped": skipped} if skipped else {}),
        }

    def _learns(self) -> bool:
        return any(seat.config.learns for seat in self.data.encoder.values())

    def _fitted(self, name: str, encoding: Encoding) -> FittedEncoder:
        component, config = describe_seat(self.data.encoder[name]), self.data.encoder[name].config
        if config.learns:
            state = hash_file(state_path(self.folder, name))
        else:
            state = hash_state(encoding.encoders[name].state()) if name in encoding.encoders else ""
        return FittedEncoder(use=component.use, settings=component.settings, state=state)

    def _starts(self, total: int) -> range:
        return range(0, total, self.data.shard_size)

    def _tar(self, split: Split, number: int) -> Path:
        return self.folder / split / f"{number:06d}.tar"
