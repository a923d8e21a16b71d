"""Networks of transformers that read, from a folder on this machine. They learn nothing here.

Shapes: B texts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genmem.contracts import Encoded
from genmem.extras import import_extra
from genmem.weights import EXTRA, PublishedModel, fill_network, hash_tensors, read_tensors
from genmem_text import PublishedConfig
from genmem_text.texts import check_texts

_STATE = "sha256"
_CONSTANTS = ("embeddings.position_ids",)
"""0, 1, 2, …; kept in files of older versions."""


class PublishedNetwork:
    """A network in a folder, with its tokenizer."""

    config_class = network_class = ""
    """Of transformers."""

    def __init__(self, path: str) -> None:
        """Nothing is read yet."""
        self._model = PublishedModel(path, "", ("model.safetensors",))
        self._path = path

    @property
    def width(self) -> int:
        """D; the weights are not read for it."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Word pieces that it takes at most."""
        return int(self.settings.max_position_embeddings)

    def read(self, text: Any) -> Tensor:
        """(B, D) of tokenized texts."""
        raise NotImplementedError

    def choose(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of this network among those of the file, under its own names."""
        raise NotImplementedError

    @cached_property
    def settings(self) -> Any:
        """As transformers reads config.json."""
        factory = getattr(import_extra("transformers", EXTRA), self.config_class)
        return factory(**self.described(self._model.settings))

    def described(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What of config.json is about this network."""
        return settings

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Its weights."""
        found = self.choose(read_tensors(self._model.file))
        return {name: value for name, value in found.items() if not name.endswith(_CONSTANTS)}

    @cached_property
    def tokenizer(self) -> Any:
        """The folder's own; nothing is fetched, and no code of the folder is run.

        Raises:
            ValueError: Files of no tokenizer.
        """
        factory = import_extra("transformers", EXTRA).AutoTokenizer
        try:
            return factory.from_pretrained(self._path, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path}: no tokenizer that can be read ({error})") from error

    @cached_property
    def network(self) -> Any:
        """The module."""
        network = getattr(import_extra("transformers", EXTRA), self.network_class)(
            self.settings, **self.options
        )
        fill_network(network, self.tensors, self._model.file)
        return network.eval().requires_grad_(False)

    options: Mapping[str, Any] = {}
    """Of the module, beside its settings."""


class BertNetwork(PublishedNetwork):
    """BERT without its heads."""

    config_class, network_class = "BertConfig", "BertModel"
    options: Mapping[str, Any] = {"add_pooling_layer": False}

    @property
    def width(self) -> int:
        """D."""
        return int(self.settings.hidden_size)

    def read(self, text: Any) -> Tensor:
        """(B, D): CLS after the last block."""
        cls_BD: Tensor = self.network(**text).last_hidden_state[:, 0]
        return cls_BD

    def choose(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """With or without the prefix "bert."; old files call a norm's weight gamma, its bias beta."""
        plain = {name.removeprefix("bert."): value for name, value in tensors.items()}
        return {
            name.replace(".gamma", ".weight").replace(".beta", ".bias"): value
            for name, value in plain.items()
            if name.startswith(("embeddings.", "encoder."))
        }


class ClipTextNetwork(PublishedNetwork):
    """The half of CLIP that reads; the half that sees is left in the file."""

    config_class, network_class = "CLIPTextConfig", "CLIPTextModelWithProjection"

    @property
    def width(self) -> int:
        """D."""
        return int(self.settings.projection_dim)

    def described(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The file of a whole CLIP has the settings of both halves, and the width they share."""
        half = settings.get("text_config", settings)
        width = settings.get("projection_dim", half.get("projection_dim"))
        if "hidden_size" not in half or width is None:
            raise ValueError(f"{self._path}: config.json has no hidden_size or projection_dim")
        return {**half, "projection_dim": width}

    def read(self, text: Any) -> Tensor:
        """(B, D): the projection of the last token."""
        projected_BD: Tensor = self.network(**text).text_embeds
        return projected_BD

    def choose(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The half's."""
        parts = ("text_model.", "text_projection.")
        return {name: value for name, value in tensors.items() if name.startswith(parts)}


class PublishedEncoder:
    """Features of a network whose weights never change."""

    def __init__(self, name: str, config: PublishedConfig, network: PublishedNetwork) -> None:
        """Nothing is read yet."""
        self._name, self._config, self._network = name, config, network
        self._device = torch.device("cpu")

    @property
    def width(self) -> int:
        """D."""
        return self._network.width

    @torch.no_grad()
    def encode(self, text_B: np.ndarray, /) -> Encoded:
        """(B, D) float32. Longer texts than the network takes are cut off at its end.

        Raises:
            ValueError: No texts, an empty one; weights or a tokenizer that cannot be read.
        """
        check_texts(self._name, text_B)
        size, texts = self._config.batch, text_B.tolist()
        parts = [self._read(texts[start : start + size]) for start in range(0, len(texts), size)]
        return Encoded(np.concatenate(parts))

    def fit(self, text_B: np.ndarray, /) -> None:
        """Nothing: the weights are published."""

    def state(self) -> dict[str, np.ndarray]:
        """The hash of the weights, 32 bytes; the weights themselves stay where they are."""
        digest = hash_tensors(self._network.tensors)
        return {_STATE: np.frombuffer(bytes.fromhex(digest), np.uint8)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See that a state is of these weights.

        Raises:
            ValueError: It is of others; both hashes are named.
        """
        found, own = (one[_STATE].tobytes().hex() for one in (state, self.state()))
        if found != own:
            raise ValueError(
                f"{self._name}: the features were made by weights of sha256 {found}, these are {own}; "
                "name the folder that was used"
            )

    def to(self, device: torch.device) -> PublishedEncoder:
        """Compute there; without this, on the CPU."""
        self._device = device
        self._network.network.to(device)
        return self

    def _read(self, texts: list[str]) -> np.ndarray:
        cut = {"truncation": True, "max_length": self._network.longest}
        pieces = self._network.tokenizer(texts, padding=True, return_tensors="pt", **cut).to(self._device)
        return np.asarray(self._network.read(pieces).float().cpu().numpy())
