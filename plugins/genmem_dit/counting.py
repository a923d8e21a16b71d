"""Parameters and multiply-adds of a network of the family, from its settings alone. No torch.

L tokens of width D, patches of side p, C channels, heads of width A, h the width inside SwiGLU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genmem.contracts import Count, Facts

if TYPE_CHECKING:
    from genmem_dit.configs import BlockForm, TransformerConfig

FREQUENCY_WIDTH = 256
"""Sines and cosines of a time."""


def count_network(config: TransformerConfig, facts: Facts) -> Count:
    """Parameters, the frozen position table among them, and MACs of one forward of one sample.

    Raises:
        ValueError: The patch does not divide the sample.
    """
    depth, D, heads = config.shape
    rows, columns = divide_into_patches(facts.sample_shape, config.patch)
    L, form = rows * columns, config.form
    patch_in = facts.sample_shape[0] * config.patch**2
    patch_out = count_output_channels(config, facts) * config.patch**2
    times = 2 if config.span else 1
    parameters = [
        _linear(patch_in, D) + L * D,
        times * (_linear(FREQUENCY_WIDTH, D) + _linear(D, D)),
        (facts.num_classes + 1) * D if facts.num_classes else 0,
        _memory_parameters(config, facts, D),
        depth * _block_parameters(form, D, D // heads),
        _linear(D, patch_out) + _linear(D, 2 * D) + (D if form.norm == "rms" else 0),
    ]
    macs = [
        L * patch_in * D,
        times * (FREQUENCY_WIDTH * D + D * D),
        _memory_macs(config, facts, D),
        depth * _block_macs(form, D, L),
        L * D * patch_out + 2 * D * D,
    ]
    return Count(sum(parameters), sum(macs))


def divide_into_patches(sample_shape: tuple[int, int, int], patch: int) -> tuple[int, int]:
    """Rows and columns of the patch grid.

    Raises:
        ValueError: The patch does not divide the sample.
    """
    _, height, width = sample_shape
    if height % patch or width % patch:
        raise ValueError(f"patch = {patch} does not divide samples of {height} x {width}")
    return height // patch, width // patch


def count_output_channels(config: TransformerConfig, facts: Facts) -> int:
    """Channels of the last layer: what the interpolant asks for; at least 2C with `learn_sigma`."""
    return max(facts.output_channels, facts.sample_shape[0] * (2 if config.learn_sigma else 1))


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _block_parameters(form: BlockForm, D: int, A: int) -> int:
    hidden = 8 * D // 3
    rms = form.norm == "rms"
    mlp = (
        _linear(D, 2 * hidden) + _linear(hidden, D)
        if form.mlp == "swiglu"
        else _linear(D, 4 * D) + _linear(4 * D, D)
    )
    heads = 2 * (A if rms else 2 * A) if form.qk_norm else 0
    modulation = _linear(D, (6 if form.shift else 4) * D)
    return _linear(D, 3 * D) + _linear(D, D) + heads + mlp + modulation + (2 * D if rms else 0)


def _block_macs(form: BlockForm, D: int, L: int) -> int:
    """Projections, q kᵀ and its product with v, MLP; the modulation once a sample."""
    mlp = 3 * (8 * D // 3) * D if form.mlp == "swiglu" else 8 * D * D
    return L * (4 * D * D + mlp) + 2 * L * L * D + (6 if form.shift else 4) * D * D


def _memory_parameters(config: TransformerConfig, facts: Facts, D: int) -> int:
    if not facts.condition_width:
        return 0
    deeper = 2 * _linear(D, D) if config.memory_projection == "mlp" else 0
    return _linear(facts.condition_width, D) + deeper


def _memory_macs(config: TransformerConfig, facts: Facts, D: int) -> int:
    """Of one memory a sample."""
    if not facts.condition_width:
        return 0
    return facts.condition_width * D + (2 * D * D if config.memory_projection == "mlp" else 0)
