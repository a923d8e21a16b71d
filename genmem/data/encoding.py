"""From a source's pictures to what shards store: samples, features, mirrored twins.

Shapes: B pictures at once, n samples of a shard, H W C picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genmem.contracts import Encoder, Source, Split
from genmem.data.errors import DataError
from genmem.data.fields import MIRRORED, SAMPLE, TOKENS
from genmem.data.manifest import Feature
from genmem.data.states import load_state, save_state, state_path
from genmem.recipe.tables import DataTable

_AT_ONCE = 256
_FIT_BYTES = 1 << 29


class Encoding:
    """The tokenizer and the fitted encoders of one preparation."""

    def __init__(self, data: DataTable, source: Source, views: int) -> None:
        """Build them; nothing is fitted yet.

        Raises:
            DataError: A first picture that is none.
        """
        self.source, self.views = source, views
        self.picture_shape = _shape_of(source.picture("train", 0)[0])
        self.tokenizer = data.tokenizer.config.build()
        self.spec = self.tokenizer.spec(self.picture_shape)
        self.encoders = {name: seat.config.build() for name, seat in data.encoder.items()}
        total = source.count("train")
        self.fit_numbers = np.arange(total)
        at_most = max(2, _FIT_BYTES // int(np.prod(self.picture_shape)))
        if total > at_most:
            # Evenly spaced, so that a source sorted by class still shows every class.
            self.fit_numbers = np.linspace(0, total - 1, at_most).round().astype(np.int64)

    def fit(self, name: str, folder: Path) -> None:
        """Fit an encoder on training pictures and save its state, or load the one saved before."""
        encoder, path = self.encoders[name], state_path(folder, name)
        if path.is_file():
            encoder.load_state(load_state(path))
        else:
            encoder.fit(np.stack([self.picture("train", number)[0] for number in self.fit_numbers.tolist()]))
            save_state(path, encoder.state())

    def picture(self, split: Split, number: int) -> tuple[np.ndarray, int]:
        """A picture and its label.

        Raises:
            DataError: One of another shape than the first.
        """
        picture, label = self.source.picture(split, number)
        if _shape_of(picture) != self.picture_shape:
            raise DataError(
                f"picture {number} of {split} is {picture.shape}, the first is {self.picture_shape}; "
                "a set has pictures of one size"
            )
        return picture, label

    def encode(self, split: Split, numbers: range) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """{field: (n, …)} and labels (n,) of consecutive pictures."""
        parts: dict[str, list[np.ndarray]] = {}
        labels: list[int] = []
        for start in range(0, len(numbers), _AT_ONCE):
            pairs = [self.picture(split, number) for number in numbers[start : start + _AT_ONCE]]
            labels += [label for _, label in pairs]
            for field, values in self._encode_views(np.stack([picture for picture, _ in pairs])):
                parts.setdefault(field, []).append(values)
        return {field: np.concatenate(values) for field, values in parts.items()}, np.array(labels, np.int64)

    def features(self) -> dict[str, Feature]:
        """Form of every feature, from one picture."""
        picture = self.picture("train", 0)[0][None]
        return {
            f"{name}{suffix}": Feature(dtype=values.dtype.name, shape=values.shape[1:], encoder=name)
            for name, encoder in self.encoders.items()
            for suffix, values in _encode_features(encoder, picture)
        }

    def _encode_views(self, pictures_BHWC: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        mirrored_BHWC = np.ascontiguousarray(pictures_BHWC[:, :, ::-1])
        for view, pictures in (("", pictures_BHWC), (MIRRORED, mirrored_BHWC))[: self.views]:
            stored = self.tokenizer.encode(pictures)
            yield f"{SAMPLE}{view}", stored.astype(self.spec.dtype, casting="same_kind")
            for name, encoder in self.encoders.items():
                for suffix, values in _encode_features(encoder, pictures):
                    yield f"{name}{suffix}{view}", values


def _encode_features(encoder: Encoder, pictures_BHWC: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    encoded = encoder.encode(pictures_BHWC)
    yield "", encoded.pooled_BD
    if encoded.tokens_BLD is not None:
        yield TOKENS, encoded.tokens_BLD


def _shape_of(picture: np.ndarray) -> tuple[int, int, int]:
    if picture.dtype != np.uint8 or picture.ndim != 3:
        raise DataError(f"a picture is {picture.dtype} {picture.shape}, expected uint8 (H, W, C)")
    height, width, channels = picture.shape
    return height, width, channels
