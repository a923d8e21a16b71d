"""From a source to what shards store: samples, features, mirrored twins.

Shapes: B pictures at once, n samples of a shard, H W C picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from genmem.contracts import Encoder, OnDevice, Source, Split, StoredSource
from genmem.data.errors import DataError
from genmem.data.format.fields import MIRRORED, SAMPLE, TOKENS
from genmem.data.format.manifest import Form
from genmem.data.making.specs import settle_spec, stored_dtype
from genmem.data.making.supply import Chunk, Supply
from genmem.data.states import load_state, save_state, state_path
from genmem.recipe.data_table import DataTable

_FIT_BYTES = 1 << 29


class EncodedShard(NamedTuple):
    """What one shard is to hold."""

    fields: dict[str, np.ndarray]
    """{field: (n, …)}, mirrored twins included."""

    label_n: np.ndarray
    skipped: list[str]
    """What was wrong with pictures that are left out."""


class Encoding:
    """The source, the tokenizer and the encoders of one preparation."""

    def __init__(
        self, data: DataTable, source: Source | StoredSource, device: torch.device | str = "cpu"
    ) -> None:
        """Build them on the device; nothing is fitted yet.

        Raises:
            DataError: A first picture that is none; latents that the tokenizer does not decode; a
                source that does not have what encoders ask for.
        """
        self.data, self.source = data, source
        self._supply = Supply(data, source)
        self.views, self.picture_shape = self._supply.views, self._supply.picture_shape
        self._given = {name: seat.config.given for name, seat in data.encoder.items() if seat.config.given}
        self.encoders: dict[str, Encoder] = {
            name: _put(seat.config.build(), device)
            for name, seat in data.encoder.items()
            if not seat.config.given
        }
        config = data.tokenizer.config
        self.tokenizer = _put(config.build(), device)
        decoder = self.tokenizer.spec(self.picture_shape)
        self.spec = settle_spec(config, decoder, self._supply.spec, data.precision)

    def fit(self, name: str, folder: Path) -> None:
        """Fit an encoder on training pictures and save its state, or load the one saved before.

        Raises:
            DataError: There are no pictures to fit on.
        """
        encoder, path = self.encoders[name], state_path(folder, name)
        if path.is_file():
            encoder.load_state(load_state(path))
        else:
            encoder.fit(self._supply.pictures(self.fit_numbers()))
            save_state(path, encoder.state())

    def fit_numbers(self) -> list[int]:
        """The training pictures that encoders are fitted on: all, or evenly spaced ones if they are many."""
        total = self.source.count("train")
        at_most = max(2, _FIT_BYTES // int(np.prod(self.picture_shape)))
        # Evenly spaced, so that a source sorted by class still shows every class.
        numbers: list[int] = np.linspace(0, total - 1, min(total, at_most)).round().astype(np.int64).tolist()
        return numbers

    def forms(self) -> dict[str, Form]:
        """What one sample has in each field of one view, from the first training sample."""
        for number in range(self.source.count("train")):
            shard = self.encode("train", range(number, number + 1))
            if len(shard.label_n):
                plain = {f: v for f, v in shard.fields.items() if not f.endswith(MIRRORED)}
                return {field: Form(v.dtype.name, v.shape[1:]) for field, v in plain.items()}
        raise DataError("the source has no readable training picture")

    def encode(
        self, split: Split, numbers: range, tick: Callable[[int], None] = lambda done: None
    ) -> EncodedShard:
        """Consecutive samples; `tick` is told how many are done.

        Raises:
            DataError: Pictures that are not alike, or values beyond what the precision holds.
        """
        parts: dict[str, list[np.ndarray]] = {}
        labels: list[np.ndarray] = []
        skipped: list[str] = []
        done = 0
        for chunk in self._supply.chunks(split, numbers):
            for field, values in self._encode_views(chunk) if len(chunk.label_B) else ():
                parts.setdefault(field, []).append(self._cast(field, values))
            labels.append(chunk.label_B)
            skipped += chunk.skipped
            done += len(chunk.label_B) + len(chunk.skipped)
            tick(done)
        fields = {field: np.concatenate(values) for field, values in parts.items()}
        return EncodedShard(fields, np.concatenate(labels).astype(np.int64), skipped)

    def _encode_views(self, chunk: Chunk) -> Iterator[tuple[str, np.ndarray]]:
        for view, suffix in enumerate(("", MIRRORED)[: self.views]):
            if chunk.stored:
                yield f"{SAMPLE}{suffix}", chunk.stored[view][SAMPLE]
                for name, given in self._given.items():
                    for part, of_source in given.items():
                        yield f"{name}{part}{suffix}", chunk.stored[view][of_source]
            if chunk.pictures_BHWC is not None:
                pictures_BHWC = chunk.pictures_BHWC[:, :, :: -1 if view else 1]
                for field, values in self._encode_pictures(np.ascontiguousarray(pictures_BHWC)):
                    yield f"{field}{suffix}", values

    def _encode_pictures(self, pictures_BHWC: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        if self._supply.spec is None:
            yield SAMPLE, self.tokenizer.encode(pictures_BHWC)
        for name, encoder in self.encoders.items():
            encoded = encoder.encode(pictures_BHWC)
            yield name, encoded.pooled_BD
            if encoded.tokens_BLD is not None:
                yield f"{name}{TOKENS}", encoded.tokens_BLD

    def _cast(self, field: str, values: np.ndarray) -> np.ndarray:
        of = self.spec.dtype if field in (SAMPLE, SAMPLE + MIRRORED) else values.dtype.name
        # What does not fit becomes infinite, and is told below instead of by a warning.
        with np.errstate(over="ignore"):
            cast = values.astype(stored_dtype(of, self.data.precision), casting="same_kind")
        if cast.dtype.kind == "f" and not np.isfinite(cast).all():
            raise DataError(f"field {field!r}: values that are not finite as {cast.dtype} (data.precision)")
        return cast


def _put(component: Any, device: torch.device | str) -> Any:
    if isinstance(component, OnDevice):
        component.to(torch.device(device))
    return component
