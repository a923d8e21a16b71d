"""Features of pictures that are no samples: by the encoder that made a bank's rows.

Shapes: B pictures, E width, H W C picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genmem.contracts import Encoder, EncoderConfig, Tokenizer
from genmem.data.dataset import Dataset, open_dataset
from genmem.data.picture_files import read_pictures
from genmem.data.states import hash_state, load_state
from genmem.recipe import load, load_data
from genmem.recipe.data_table import DataTable
from genmem_bank.storage.card import Card


@attrs.frozen
class PictureEncoder:
    """A bank's encoder, and the shape of the pictures it was made for."""

    encoder: Encoder
    shape: tuple[int, int, int]

    def features(self, paths: Sequence[Path]) -> np.ndarray:
        """(B, E) float32 of picture files.

        Raises:
            FileNotFoundError, DataError: No such file, or no picture.
        """
        return self.encoder.encode(read_pictures(paths, self.shape)).pooled_BD


@attrs.frozen
class NamedSet:
    """A prepared set, by its folder or by a recipe, which also says where weights lie."""

    dataset: Dataset
    table: DataTable | None
    plugins: tuple[Path, ...]

    @classmethod
    def open(cls, word: str, plugins: tuple[Path, ...] = ()) -> NamedSet:
        """The set.

        Raises:
            DataError: No set there.
            RecipeError: The recipe is wrong.
        """
        if Path(word).is_dir():
            return cls(Dataset(Path(word)), None, plugins)
        table = load(word, (), plugins).data
        return cls(open_dataset(table), table, plugins)

    def tokenizer(self) -> Tokenizer:
        """The one its samples were made with."""
        return (self.table or self._recorded({})).tokenizer.config.build()

    def encoder_config(self, name: str, recorded: Mapping[str, Any]) -> EncoderConfig:
        """An encoder's settings: the recipe's, or those recorded, {"use": …} among them.

        Raises:
            ValueError: The recipe has no such encoder.
        """
        table = self.table or self._recorded({name: recorded})
        if name not in table.encoder:
            raise ValueError(f"the recipe has no [data.encoder.{name}], of which the bank's rows are")
        return table.encoder[name].config

    def _recorded(self, encoders: Mapping[str, Mapping[str, Any]]) -> DataTable:
        made_by = self.dataset.manifest("train").tokenizer
        raw = {
            "path": str(self.dataset.path),
            "tokenizer": _present({"use": made_by.use, **made_by.settings}),
            "encoder": {name: _present(settings) for name, settings in encoders.items()},
        }
        return load_data(raw, (), self.plugins)


def open_encoder(folder: Path, card: Card, data: NamedSet) -> PictureEncoder:
    """The encoder of the bank in `folder`, as it was fitted for a set.

    Raises:
        DataError: The set has another encoder of this name than the recipe.
        RecipeError: The encoder is not installed.
        ValueError: The set has no such encoder, or another one than the bank's.
    """
    name, shape = card.encoder, data.dataset.picture_shape
    computed = card.provenance.get("computed", {}).get(name)
    if computed is not None:
        config = data.encoder_config(name, {"use": computed["use"], **computed["settings"]})
        return PictureEncoder(_kept_encoder(folder, card, config), shape)
    encoders = data.dataset.manifest("train").encoders
    if name not in encoders:
        raise ValueError(
            f"{data.dataset.path}: no encoder {name!r}, of which the bank's rows are; "
            f"there are {', '.join(sorted(encoders)) or 'none'}"
        )
    fitted = encoders[name]
    if card.state and card.state != fitted.state:
        raise ValueError(
            f"{data.dataset.path}: encoder {name!r} has state {fitted.state[:16]}, the bank was made with "
            f"{card.state[:16]}; name the set that the bank was made of"
        )
    config = data.encoder_config(name, {"use": fitted.use, **fitted.settings})
    return PictureEncoder(data.dataset.encoder(name, config), shape)


def _kept_encoder(folder: Path, card: Card, config: EncoderConfig) -> Encoder:
    """An encoder that made a bank's rows from pictures; what it learned lies beside them."""
    encoder = config.build()
    if card.encoder_file is not None:
        encoder.load_state(load_state(folder / card.encoder_file, card.state))
    elif hash_state(encoder.state()) != card.state:
        raise ValueError(
            f"{folder}: encoder {card.encoder!r} had weights of hash {card.state}, here are others; "
            "give it the weights that it had"
        )
    return encoder


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}
