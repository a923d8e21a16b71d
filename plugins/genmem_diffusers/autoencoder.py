"""One of diffusers' autoencoders with published weights, read when it is first needed.

Shapes: B pictures, C channels of a latent, H W latent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from genmem.extras import import_extra
from genmem.weights import EXTRA, PublishedModel, fill_network, hash_tensors, read_tensors
from genmem_diffusers.names import rename_tensors

NAMES = ("diffusion_pytorch_model.safetensors", "model.safetensors")


class Kind(NamedTuple):
    """What differs between diffusers' classes."""

    network: str
    """Name of the class."""

    levels: str
    """The setting with a number for each level; every level after the first halves the picture."""

    scale: float
    """scaling_factor where config.json names none."""

    encode: Callable[[Any, Tensor], Tensor]
    """From network and pictures to mean and deviation (B, 2C, H, W), or to the latent (B, C, H, W)."""


def _encode_moments(network: Any, pictures: Tensor) -> Tensor:
    posterior = network.encode(pictures).latent_dist
    return torch.cat([posterior.mean, posterior.std], 1)


def _encode_latent(network: Any, pictures: Tensor) -> Tensor:
    latent: Tensor = network.encode(pictures).latent
    return latent


KL = Kind("AutoencoderKL", "block_out_channels", 0.18215, _encode_moments)
DC = Kind("AutoencoderDC", "encoder_block_out_channels", 1.0, _encode_latent)


class Autoencoder:
    """A network of one kind, its settings and its weights."""

    def __init__(self, kind: Kind, model: PublishedModel, settings: Mapping[str, Any] | None = None) -> None:
        """Nothing is read yet.

        Args:
            kind: Which of the classes.
            model: Where config.json and weights are.
            settings: In place of config.json.
        """
        self.kind, self._model, self._given = kind, model, settings

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Arguments of the class.

        Raises:
            ValueError: config.json is of another class, or lacks a setting.
        """
        settings = self._model.settings if self._given is None else self._given
        found = settings.get("_class_name", self.kind.network)
        if found != self.kind.network:
            raise ValueError(f"config.json is of {found}, expected {self.kind.network}")
        for name in (self.kind.levels, "in_channels", "latent_channels"):
            if name not in settings:
                raise ValueError(f"config.json lacks {name}; it must be that of an {self.kind.network}")
        return {name: value for name, value in settings.items() if not name.startswith("_")}

    @property
    def factor(self) -> int:
        """Pixels that one place of a latent stands for, to each side."""
        return int(2 ** (len(self.settings[self.kind.levels]) - 1))

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights; the network is not built for it."""
        return hash_tensors(self._tensors())

    @cached_property
    def network(self) -> nn.Module:
        """The network, in fp32, on the CPU.

        Raises:
            MissingExtra: diffusers is not installed.
            ValueError: The weights are not this network's.
        """
        factory = getattr(import_extra("diffusers", EXTRA), self.kind.network)
        unknown = self.settings.keys() - inspect.signature(factory.__init__).parameters.keys()
        if unknown:
            raise ValueError(
                f"config.json has {', '.join(sorted(unknown))}, which {self.kind.network} of the installed "
                "diffusers does not know; install a newer one"
            )
        network: nn.Module = factory(**self.settings)
        fill_network(network, self._tensors(), self._model.file)
        return network.eval().requires_grad_(False)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = read_tensors(self._model.file)
        if self.kind is DC:
            return tensors
        parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
        return rename_tensors({name: value for name, value in tensors.items() if name.startswith(parts)})
