"""What `genmem evaluate` does with a set of pictures and a reference."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import attrs

from genmem import collectives
from genmem.console import Terminal
from genmem.contracts import Encoder, EncoderConfig, OnDevice
from genmem.data.files import write_text
from genmem.data.states import hash_state
from genmem.devices import resolve
from genmem.recipe import Seat, load_encoder
from genmem.scoring.choosing import SCORES, Settings, check_counts, choose, compute, wanted_of
from genmem.scoring.measuring import Measured, Wanted, measure, outputs_of
from genmem.scoring.protocol import Protocol
from genmem.scoring.references import (
    Reference,
    check_new,
    has_statistics,
    load_reference,
    measured,
    save_reference,
)
from genmem.scoring.set_checks import check_reference, check_size, match_colours
from genmem.scoring.set_protocol import protocol_of_set
from genmem.scoring.set_report import show
from genmem.scoring.sets.archives import PICTURES, Archive, ArchivePictures
from genmem.scoring.sets.opening import is_run, open_pictures
from genmem.scoring.sets.pictures import PictureSet, spread
from genmem.scoring.sets.running import open_run
from genmem.scoring.spaces import describe
from genmem.training.folder import RunFolder
from genmem.training.launch import process_group
from genmem.training.progress import preparation_progress


@attrs.frozen(kw_only=True)
class Job:
    """What to score, with what, against what."""

    target: Path
    reference: Path | None
    encoder: str
    metrics: str | None = None
    settings: Settings = attrs.field(factory=Settings)
    overrides: tuple[str, ...] = ()
    """Of the encoder, and of a run's sampler and guidance."""

    plugins: tuple[Path, ...] = ()
    samples: int | None = None
    """Of a run; the recipe's if absent."""

    seed: int | None = None
    weights: str | None = None
    checkpoint: int | None = None
    device: str = "auto"
    save: Path | None = None
    """Where to keep the reference; the target's statistics, where there is no reference."""

    as_json: bool = False
    out: Path | None = None


def evaluate_set(job: Job) -> None:
    """Encode, score, print; every process of the group takes its share of the pictures.

    Raises:
        FileNotFoundError, FileExistsError: No such pictures; a reference that is there already.
        ValueError: Pictures, statistics, an encoder or scores that do not go together; by name.
    """
    if job.save is not None:
        check_new(job.save)
    device, console = resolve(job.device), Terminal(stderr=job.as_json)
    with process_group(device):
        lead = collectives.rank() == 0
        with preparation_progress(console, shown=lead and not job.as_json) as bar:
            record = _Scoring(job, device, bar).run()
        if lead and "images" in record:
            _keep(job.target, record)
        if lead and job.out is not None:
            write_text(job.out, json.dumps(record, indent=1))
    if lead and job.as_json:
        print(json.dumps(record, indent=1))
    elif lead:
        show(record, console)


def _keep(run: Path, record: dict[str, Any]) -> None:
    """Write a run's record apart from its full tables, which are of another form."""
    name = "-".join((f"{record['images']:012d}", *record["protocols"])) + ".json"
    write_text(RunFolder(run).evaluations / "sets" / name, json.dumps(record, indent=1))


class _Scoring:
    """The steps of one scoring, in order: open, check, fit, look, compare."""

    def __init__(self, job: Job, device: Any, bar: Any) -> None:
        self._job, self._device, self._bar = job, device, bar
        words = [word for word in job.overrides if word.startswith("--encoder.")]
        self._rest = tuple(word for word in job.overrides if word not in words)
        self._seat: Seat[EncoderConfig] = load_encoder({"use": job.encoder}, words, job.plugins)
        if self._seat.config.reads != "pictures":
            raise ValueError(
                f"--encoder {job.encoder} reads {self._seat.config.reads}; scores want one of pictures"
            )

    def run(self) -> dict[str, Any]:
        job = self._job
        made: Protocol | None = None
        images: int | None = None
        target: PictureSet
        if is_run(job.target):
            target, made, images = open_run(job.target, self._rest, job.plugins, **self._of_run())
        else:
            self._refuse_run_options()
            target = open_pictures(job.target, job.plugins)
        archive = self._archive()
        real = None if job.reference is None else self._real(job.reference, archive)
        target, real = match_colours(target, real)
        encoder = self._fitted(real or target)
        names = choose(job.metrics, outputs_of(encoder))
        if job.reference is None:
            return self._keep_target(encoder, names, target)
        self._check(names, target, real)
        reference = self._reference(encoder, names, archive, real)
        check_reference(names, reference, target)
        found = self._look(encoder, target, wanted_of(names, job.settings, samples=True), "samples")
        record = self._record(encoder, names, target, found, reference, made)
        return record if images is None else {"images": images, "time": time.time()} | record

    # opening ----------------------------------------------------------------------------------

    def _of_run(self) -> dict[str, Any]:
        return {name: getattr(self._job, name) for name in ("samples", "seed", "weights", "checkpoint")}

    def _refuse_run_options(self) -> None:
        given = [f"--{name}" for name, value in self._of_run().items() if value is not None]
        if named := [*given, *self._rest]:
            raise ValueError(f"{named[0]} is for runs; {self._job.target} is a set of pictures")

    def _archive(self) -> Archive | None:
        path = self._job.reference
        archive = Archive(path) if path is not None and path.suffix == ".npz" else None
        return archive if archive is not None and has_statistics(archive) else None

    def _real(self, path: Path, archive: Archive | None) -> PictureSet | None:
        if archive is None:
            if is_run(path):
                raise ValueError(f"{path}: a run is no reference; name real pictures or statistics")
            return open_pictures(path, self._job.plugins)
        return ArchivePictures(archive) if PICTURES in archive.headers else None

    def _fitted(self, pictures: PictureSet) -> Encoder:
        encoder = self._seat.config.build()
        if isinstance(encoder, OnDevice):
            encoder.to(self._device)
        if self._seat.config.learns:
            encoder.fit(spread(pictures))
        return encoder

    def _features(self, encoder: Encoder) -> dict[str, Any]:
        return {**describe(self._seat), "weights": hash_state(encoder.state())}

    # checking ---------------------------------------------------------------------------------

    def _check(self, names: tuple[str, ...], target: PictureSet, real: PictureSet | None) -> None:
        settings = self._job.settings
        check_counts(names, settings, len(target), target.name)
        if real is not None:
            check_counts([n for n in names if not SCORES[n].alone], settings, len(real), real.name)
            check_size(target, real.name, real.shape)

    # looking ----------------------------------------------------------------------------------

    def _look(self, encoder: Encoder, pictures: PictureSet, wanted: Wanted, label: str) -> Measured:
        start, stop = collectives.share(len(pictures))
        self._bar(label, 0, stop - start)
        tick = lambda seen: self._bar(label, seen, stop - start)  # noqa: E731
        return measure(pictures, {"": (encoder, wanted)}, tick)[""]

    def _reference(
        self, encoder: Encoder, names: tuple[str, ...], archive: Archive | None, real: PictureSet | None
    ) -> Reference:
        wanted = wanted_of(names, self._job.settings, samples=False)
        kept = None
        if archive is not None:
            kept = load_reference(archive, self._features(encoder), outputs_of(encoder))
            wanted = attrs.evolve(wanted, moments=frozenset())
        if real is not None and wanted.outputs:
            found = measured(real.name, real.shape, self._look(encoder, real, wanted, "reference"))
            kept = found if kept is None else attrs.evolve(kept, rows=found.rows)
        assert kept is not None
        if self._job.save is not None:
            self._save(kept, encoder)
        return kept

    def _save(self, reference: Reference, encoder: Encoder) -> None:
        assert self._job.save is not None
        if reference.origin == "custom":
            raise ValueError(f"{reference.name} does not say what it is of, so it cannot be saved as known")
        if collectives.rank() == 0:
            save_reference(self._job.save, reference, self._features(encoder))

    def _keep_target(self, encoder: Encoder, names: tuple[str, ...], target: PictureSet) -> dict[str, Any]:
        check_counts([n for n in names if not SCORES[n].alone], self._job.settings, len(target), target.name)
        wanted = wanted_of(names, self._job.settings, samples=False)
        found = measured(target.name, target.shape, self._look(encoder, target, wanted, "reference"))
        self._save(found, encoder)
        return {"saved": str(self._job.save), "reference": found.to_json() | {"name": target.name}}

    # comparing --------------------------------------------------------------------------------

    def _record(
        self,
        encoder: Encoder,
        names: tuple[str, ...],
        target: PictureSet,
        found: Measured,
        reference: Reference,
        made: Protocol | None,
    ) -> dict[str, Any]:
        if collectives.rank() != 0:
            return {}
        features, settings = self._features(encoder), self._job.settings
        values = compute(names, settings, found, reference)
        protocols = {
            name: protocol_of_set(
                made, found.count, {**features, "score": name, **settings.of([name])[name]}, reference
            )
            for name in names
        }
        return {
            "pictures": {"name": target.name, "count": found.count, "hash": found.sha256},
            "reference": {"name": reference.name, "origin": reference.origin, "count": reference.count},
            "encoder": features | {"widths": dict(outputs_of(encoder))},
            "saved": None if self._job.save is None else str(self._job.save),
            "scores": {
                name: {"value": value, "deviation": deviation, "protocol": protocols[name].digest}
                for name, (value, deviation) in values.items()
            },
            "protocols": {protocol.digest: protocol.to_json() for protocol in protocols.values()},
        }
