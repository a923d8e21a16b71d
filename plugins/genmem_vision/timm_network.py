"""Vision transformers of timm.

Shapes: B pictures; L patches, D width.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from genmem.extras import import_extra
from genmem.host import did_you_mean
from genmem.weights import EXTRA, PublishedModel, fill_network, hash_tensors, read_tensors
from genmem_vision import TimmConfig
from genmem_vision.pictures import Preparation

_OWN_RULES = ("flexivit", "radio")
"""Families whose position embeddings are resampled by rules of their own."""


class TimmNetwork:
    """A vision transformer without its classifier."""

    def __init__(self, config: TimmConfig) -> None:
        """Nothing is read yet."""
        self._config = config

    @property
    def width(self) -> int:
        """D."""
        return int(self._network.num_features)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tensors in the file."""
        return hash_tensors(read_tensors(self._file))

    @cached_property
    def preparation(self) -> Preparation:
        """The side asked for, with the mean and deviation that timm has on record."""
        data = import_extra("timm.data", EXTRA).resolve_model_data_config(self._network)
        return Preparation(self._config.size, data["mean"], data["std"], self._config.antialias)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class token or mean (B, D), and the patches' tokens (B, L, D), both after the last norm.

        Class and register tokens are not among the patches'.
        """
        network = self._network.to(x.device)
        tokens = network.forward_features(x)
        patches_BLD = tokens[:, network.num_prefix_tokens :]
        pooled_BD = tokens[:, 0] if self._config.pooled == "cls" else patches_BLD.mean(1)
        # Networks made for the mean over tokens have their last norm behind it.
        return network.fc_norm(pooled_BD), patches_BLD

    @cached_property
    def _file(self) -> Path:
        repository = "" if self._config.weights else _repository(self._config.name)
        return PublishedModel(self._config.weights, repository, ("model.safetensors",)).file

    @cached_property
    def _network(self) -> Any:
        network = _build(self._config)
        # timm keeps beside each family how its published names and position embeddings are taken over.
        family = sys.modules[type(network).__module__]
        tensors = getattr(family, "checkpoint_filter_fn", lambda found, _: found)(
            read_tensors(self._file), network
        )
        classifier = network.pretrained_cfg.get("classifier") or ()
        heads = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
        kept = {name: value for name, value in tensors.items() if not name.startswith(heads)}
        fill_network(network, kept, self._file)
        return network.eval().requires_grad_(False)


def _repository(name: str) -> str:
    known = import_extra("timm", EXTRA).get_pretrained_cfg(name)
    if known is None or known.hf_hub_id is None:
        raise ValueError(f"timm: {name} is not on the Hugging Face hub; give weights = FILE")
    return str(known.hf_hub_id)


def _build(config: TimmConfig) -> Any:
    """The architecture, for pictures of the side asked for.

    Raises:
        ValueError: No such network; one that is no vision transformer; no class token where it is
            asked for; or a side that is not whole patches.
    """
    timm, name = import_extra("timm", EXTRA), config.name
    known = [model for model in timm.list_models() if "vit" in model or "eva" in model]
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ValueError(f"timm: no network {architecture!r}{did_you_mean(architecture, known)}")
    tags = [model for model in timm.list_pretrained(f"{architecture}.*")]
    if "." in name and name not in tags:
        raise ValueError(f"timm: no tag {name!r}; there are {', '.join(tags)}")
    if any(family in name for family in _OWN_RULES):
        raise ValueError(
            f"timm: {name} resamples its positions by a rule of its own, which is not followed here"
        )
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0, img_size=config.size)
    except TypeError as error:
        raise ValueError(f"timm: {name} takes no img_size, so it is no vision transformer") from error
    _check(network, config)
    return network


def _check(network: Any, config: TimmConfig) -> None:
    if not hasattr(network, "num_prefix_tokens"):
        raise ValueError(f"timm: {config.name} is a {type(network).__name__}, expected a vision transformer")
    patch = max(network.patch_embed.patch_size)
    if config.size % patch:
        near = config.size - config.size % patch
        raise ValueError(
            f"timm: size = {config.size} is not whole patches of {patch}; "
            f"take {' or '.join(str(side) for side in (near, near + patch) if side)}"
        )
    if config.pooled == "cls" and getattr(network, "cls_token", None) is None:
        raise ValueError(f'timm: {config.name} has no class token; set pooled = "mean"')
