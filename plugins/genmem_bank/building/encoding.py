"""Features of a set's pictures that are not in its shards: an encoder makes them, once.

What it made is kept in pieces until the bank is done, since a bank is built in two passes.
Shapes: B pictures, D width of a feature, H W C picture.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from genmem.contracts import Encoder, OnDevice, Split, Tokenizer
from genmem.data.dataset import Dataset
from genmem.data.settings import describe_seat
from genmem.recipe import Seat
from genmem_bank.storage.tensors import map_tensors, write_tensors

PIECE = 4096
_FIT_BYTES = 1 << 29


class EncodedPictures:
    """A data set with one feature more; a `DatasetFolder`."""

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        name: str,
        seat: Seat[Any],
        device: torch.device,
        *,
        kept: Path,
        numbers: np.ndarray | None = None,
        batch: int = 64,
    ) -> None:
        """Build the encoder, and let it learn where it learns.

        Args:
            dataset: Whose pictures.
            tokenizer: Makes pictures of its samples.
            name: Of the feature.
            seat: The encoder.
            device: Where it computes.
            kept: Folder for features, until the bank is built.
            numbers: The only training samples that will be asked for; all if absent.
            batch: Pictures encoded at once.

        Raises:
            ValueError: Pictures that the encoder does not work on.
        """
        self.dataset, self.path, self.views = dataset, dataset.path, dataset.views
        self._tokenizer, self._name, self._seat, self._batch = tokenizer, name, seat, batch
        self._numbers = numbers
        self.encoder: Encoder = seat.config.build()
        for part in (self.encoder, tokenizer):
            if isinstance(part, OnDevice):
                part.to(device)
        if seat.config.learns:
            self.encoder.fit(self._examples())
        state = self.encoder.state()
        packed = safetensors.numpy.save({key: np.ascontiguousarray(state[key]) for key in sorted(state)})
        self.learned = packed if seat.config.learns else None
        """What the encoder has learned, as a safetensors file."""

        self.hash = hashlib.sha256(packed).hexdigest()
        chosen = b"" if numbers is None else numbers.tobytes()
        key = hashlib.sha256(
            f"{self._settings}{self.hash}{dataset.fingerprint()}".encode() + chosen
        ).hexdigest()
        self._kept = kept / f"encoded-{key[:16]}"

    def count(self, split: Split) -> int:
        """Samples in the split."""
        return self.dataset.count(split)

    def labels(self, split: Split) -> np.ndarray:
        """(N,) int64; -1 where there is no label."""
        return self.dataset.labels(split)

    def provenance(self) -> dict[str, Any]:
        """The set's, with the encoder."""
        found = self.dataset.provenance()
        made = {"use": self._seat.use, "settings": dict(describe_seat(self._seat).settings)}
        return found | {
            "encoders": found["encoders"] | {self._name: self._settings},
            "states": found["states"] | {self._name: self.hash},
            "computed": {self._name: made},
        }

    def feature(self, split: Split, name: str, start: int, stop: int, view: int = 0) -> np.ndarray:
        """(stop - start, D) float32: of consecutive samples.

        Raises:
            ValueError: Pictures that the encoder does not work on.
        """
        parts = []
        for first in range(start - start % PIECE, stop, PIECE):
            piece_ND = self._piece(split, first, view)
            parts.append(piece_ND[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def _piece(self, split: Split, first: int, view: int) -> np.ndarray:
        """The features of up to 4096 samples; those that nobody will ask for are 0."""
        path, count = self._kept / f"{split}-{view}-{first}", min(PIECE, self.dataset.count(split) - first)
        if not path.is_file():
            number_B = np.arange(first, first + count)
            if self._numbers is not None and split == "train":
                number_B = number_B[np.isin(number_B, self._numbers)]
            piece_ND = np.zeros((count, self.encoder.width), np.float32)
            for at in range(0, len(number_B), self._batch):
                wanted_B = number_B[at : at + self._batch]
                piece_ND[wanted_B - first] = self._encode(split, wanted_B, view)
            self._kept.mkdir(parents=True, exist_ok=True)
            write_tensors(path, {"feature": ("F32", piece_ND)})
        return map_tensors(path, {"feature": ("F32", (count, self.encoder.width))})["feature"]

    def _encode(self, split: Split, number_B: np.ndarray, view: int) -> np.ndarray:
        pictures_BHWC = self.dataset.pictures(split, number_B, self._tokenizer)
        if view:
            pictures_BHWC = np.ascontiguousarray(pictures_BHWC[:, :, ::-1])
        return self.encoder.encode(pictures_BHWC).pooled_BD

    def _examples(self) -> np.ndarray:
        """The training pictures an encoder learns from: all, or evenly spaced ones if they are many."""
        count = self.dataset.count("train")
        most = max(2, _FIT_BYTES // int(np.prod(self.dataset.picture_shape)))
        number_N = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
        parts = np.array_split(number_N, -(-len(number_N) // self._batch))
        return np.concatenate([self.dataset.pictures("train", part, self._tokenizer) for part in parts])

    @property
    def _settings(self) -> str:
        return str(describe_seat(self._seat))
