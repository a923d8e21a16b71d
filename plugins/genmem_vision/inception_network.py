"""Inception v3 of December 2015, of torch-fidelity's blocks, with the map that sFID looks at.

torch-fidelity's own extractor gives pooled features alone, and fills itself from a pickle.
Shapes: B pictures, H W picture; D = 2048 pooled, C = 1008 classes, 17 × 17 places of 7 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from genmem.scoring.fidelity import fidelity
from genmem.weights import fill_network

WIDTH, CLASSES = 2048, 1008
SIDE = 299
_MAP_CHANNELS = 7
PLACES = 17 * 17 * _MAP_CHANNELS
_MAP = "Mixed_6d"
"""TensorFlow's mixed_6. Its first 7 channels are those of mixed_6/conv, which ADM takes."""


class Inception(nn.Module):
    """The layers in order, under the names that published weights have."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        layers = fidelity("feature_extractor_inceptionv3")
        convolution, a, c = layers.BasicConv2d, layers.InceptionA, layers.InceptionC
        pool = nn.MaxPool2d(3, stride=2)
        body: dict[str, nn.Module] = {
            "Conv2d_1a_3x3": convolution(3, 32, kernel_size=3, stride=2),
            "Conv2d_2a_3x3": convolution(32, 32, kernel_size=3),
            "Conv2d_2b_3x3": convolution(32, 64, kernel_size=3, padding=1),
            "MaxPool_1": pool,
            "Conv2d_3b_1x1": convolution(64, 80, kernel_size=1),
            "Conv2d_4a_3x3": convolution(80, 192, kernel_size=3),
            "MaxPool_2": pool,
            "Mixed_5b": a(192, pool_features=32),
            "Mixed_5c": a(256, pool_features=64),
            "Mixed_5d": a(288, pool_features=64),
            "Mixed_6a": layers.InceptionB(288),
            "Mixed_6b": c(768, channels_7x7=128),
            "Mixed_6c": c(768, channels_7x7=160),
            "Mixed_6d": c(768, channels_7x7=160),
            "Mixed_6e": c(768, channels_7x7=192),
            "Mixed_7a": layers.InceptionD(768),
            "Mixed_7b": layers.InceptionE_1(1280),
            "Mixed_7c": layers.InceptionE_2(WIDTH),
        }
        self._body = tuple(body)
        for name, layer in body.items():
            self.add_module(name, layer)
        self.fc = nn.Linear(WIDTH, CLASSES)
        self._resize = fidelity("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x

    def forward(self, pictures_BCHW: Tensor) -> dict[str, Tensor]:
        """Every output of uint8 pictures (B, 3, H, W).

        They are resized as TensorFlow 1 did; the logits lack their bias, as in the published scores.
        """
        x = self._resize(pictures_BCHW.float(), size=(SIDE, SIDE), align_corners=False)
        x = (x - 128) / 128
        spatial = x
        for name in self._body:
            x = self.get_submodule(name)(x)
            if name == _MAP:
                spatial = x[:, :_MAP_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        pooled = x.mean((2, 3))
        return {"pooled": pooled, "logits": pooled @ self.fc.weight.T, "spatial": spatial}


def build_inception(tensors: Mapping[str, Tensor], file: Path) -> Inception:
    """The network with these weights, which come from `file`, ready to look.

    Raises:
        ValueError: They are another network's.
    """
    with torch.random.fork_rng(devices=[]):
        network = Inception()
    fill_network(network, tensors, file)
    return network.eval().requires_grad_(False)
