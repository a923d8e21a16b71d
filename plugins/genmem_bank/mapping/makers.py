"""The encoder on the other side of a map: that of a feature in the set, of pictures, or of text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch

from genmem.contracts import Encoder, EncoderConfig, OnDevice
from genmem.data.states import hash_state, state_path
from genmem.recipe import Seat, load_encoder
from genmem_bank.changing.pictures import NamedSet
from genmem_bank.storage.card import Mapped


@attrs.frozen(kw_only=True)
class Maker:
    """Which encoder makes features, and what identifies it."""

    name: str
    seat: Seat[EncoderConfig]
    stored: bool
    """Its features lie in the set."""

    @property
    def config(self) -> EncoderConfig:
        """Its settings."""
        return self.seat.config

    @property
    def settings(self) -> dict[str, Any]:
        """All of them (JSON), where weights lie among them, so that it can be built again."""
        plain: dict[str, Any] = json.loads(json.dumps(attrs.asdict(self.config)))
        return {key: value for key, value in plain.items() if value is not None}


def find_maker(name: str, data: NamedSet, overrides: Sequence[str], plugins: Sequence[Path]) -> Maker:
    """The encoder of this name: the set's, the recipe's, or a registered one with settings from `overrides`.

    Raises:
        RecipeError: No such encoder, or settings that it does not have.
        ValueError: Settings for an encoder whose features are stored; an encoder whose features are only
            ever given.
    """
    stored = data.dataset.manifest("train").encoders.get(name)
    listed = data.table.encoder.get(name) if data.table is not None else None
    if overrides and (stored is not None or listed is not None):
        raise ValueError(f"{' '.join(overrides)}: encoder {name!r} is as its set or recipe says")
    if listed is None:
        raw = {"use": name} if stored is None else {"use": stored.use, **stored.settings}
        raw = {key: value for key, value in raw.items() if value is not None}
        listed = load_encoder(raw, overrides, plugins)
    if listed.config.given:
        raise ValueError(f"{name!r}: its features are given, so no picture can be turned into one later")
    return Maker(name=name, seat=listed, stored=stored is not None)


def pack_fitted(maker: Maker, data: NamedSet) -> tuple[str, bytes | None]:
    """Hash of the state of an encoder whose features are stored, and what it learned, if it learns."""
    fitted = data.dataset.manifest("train").encoders[maker.name]
    learns = maker.config.learns
    return fitted.state, state_path(data.dataset.path, maker.name).read_bytes() if learns else None


def open_encoder(folder: Path, mapped: Mapped, device: torch.device) -> Encoder:
    """The encoder of a stored map, as it was.

    Raises:
        RecipeError: It is not installed.
        ValueError: What it learned was changed; or it has other weights now.
    """
    encoder = load_encoder({"use": mapped.use, **mapped.settings}).config.build()
    if isinstance(encoder, OnDevice):
        encoder.to(device)
    if mapped.encoder_file is None:
        if hash_state(encoder.state()) != mapped.state:
            raise ValueError(
                f"{folder}: map {mapped.name!r} was made with weights of hash {mapped.state} of encoder "
                f"{mapped.use!r}, here are others; bring those back, or make another map"
            )
        return encoder
    packed = (folder / mapped.encoder_file).read_bytes()
    if hashlib.sha256(packed).hexdigest() != mapped.state:
        raise ValueError(f"{folder / mapped.encoder_file}: changed since the map was made; make another map")
    from safetensors.numpy import load

    encoder.load_state(dict(load(packed)))
    return encoder


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """(T, D) float32."""
    return np.asarray(encoder.encode(np.array(list(texts))).pooled_BD, np.float32)
