"""CLIP's network for pictures, by transformers.

Shapes: B pictures; L patches, D width of the projection, E of a token.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from torch import Tensor

from genmem.extras import import_extra
from genmem.weights import EXTRA, PublishedModel, fill_network, hash_tensors, read_tensors
from genmem_vision import ClipConfig
from genmem_vision.pictures import Preparation

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on."""

_PARTS = ("vision_model.", "visual_projection.")
_CONSTANT = "vision_model.embeddings.position_ids"
"""0, 1, 2, …; kept in files of older versions."""


class ClipNetwork:
    """The half of CLIP that sees; the half that reads is left in the file."""

    def __init__(self, config: ClipConfig) -> None:
        """Nothing is read yet."""
        self._config = config
        self._model = PublishedModel(config.path, config.hub, ("model.safetensors",))

    @property
    def width(self) -> int:
        """D."""
        return int(self._settings.projection_dim)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tensors of this half."""
        return hash_tensors(self._tensors())

    @property
    def preparation(self) -> Preparation:
        """The one side it takes."""
        return Preparation(int(self._settings.image_size), MEAN, STD, self._config.antialias)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The projection (B, D), and the patches' tokens (B, L, E) of the last block, without a norm."""
        seen = self._network.to(x.device)(pixel_values=x)
        return seen.image_embeds, seen.last_hidden_state[:, 1:]

    @cached_property
    def _settings(self) -> Any:
        settings = self._model.settings
        # The file of a whole CLIP has the settings of both halves, and the width they share.
        half = settings.get("vision_config", settings)
        width = settings.get("projection_dim", half.get("projection_dim"))
        if "hidden_size" not in half or width is None:
            raise ValueError(
                "clip: config.json lacks hidden_size or projection_dim; it must be that of a CLIP"
            )
        factory = import_extra("transformers", EXTRA).CLIPVisionConfig
        return factory(**{**half, "projection_dim": width})

    @cached_property
    def _network(self) -> Any:
        factory = import_extra("transformers", EXTRA).CLIPVisionModelWithProjection
        network = factory(self._settings)
        fill_network(network, self._tensors(), self._model.file)
        return network.eval().requires_grad_(False)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = read_tensors(self._model.file)
        return {
            name: value for name, value in tensors.items() if name.startswith(_PARTS) and name != _CONSTANT
        }
