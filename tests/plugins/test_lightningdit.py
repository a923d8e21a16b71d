"""`lightningdit` against published figures: parameter counts, golden outputs, keys, multiply-adds."""

from __future__ import annotations

import math

import pytest
import torch
from published import (
    Golden,
    assert_golden,
    golden_input,
    golden_lightning,
    lightning_shapes,
    rope_tables,
    sit_shapes,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genmem.contracts import Conditioning, Facts
from genmem_dit import LIGHTNING_SIZES, LightningDitConfig
from genmem_dit.rotary import RotaryPositions

VA_VAE = Facts(sample_shape=(32, 16, 16), output_channels=32, num_classes=1000)
SD_VAE = Facts(sample_shape=(4, 32, 32), output_channels=4, num_classes=1000)
MEMORY = Facts(sample_shape=(32, 16, 16), output_channels=32, condition_width=768)

PARAMETERS = [
    ("B", 1, VA_VAE, 130_556_192),
    ("B", 2, SD_VAE, 130_531_600),
    ("L", 2, SD_VAE, 458_120_176),
    ("XL", 1, VA_VAE, 675_256_736),
    ("XL", 2, SD_VAE, 675_219_856),
    ("1p0B", 1, VA_VAE, 1_029_401_120),
    ("1p6B", 1, VA_VAE, 1_631_767_120),
]
GMEM = [("S", 39_454_624), ("B", 137_722_912), ("XL", 683_120_800)]
"""With GMem's projector, an objective's, of 768 outputs."""


def build_on_meta(config: LightningDitConfig, facts: Facts) -> nn.Module:
    with torch.device("meta"):
        return config.build(facts)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("size", "patch", "facts", "total"), PARAMETERS)
def test_parameter_counts(size: str, patch: int, facts: Facts, total: int) -> None:
    assert count(build_on_meta(LightningDitConfig(size=size, patch=patch), facts)) == total


@pytest.mark.parametrize(("size", "total"), GMEM)
def test_parameter_counts_of_gmem(size: str, total: int) -> None:
    net = build_on_meta(LightningDitConfig(size=size, init="xavier"), MEMORY)
    width = LIGHTNING_SIZES[size].width
    projector = (width + 1) * 2048 + (2048 + 1) * 2048 + (2048 + 1) * 768
    assert count(net) + projector == total
    assert not any(name.startswith("y_embedder") for name, _ in net.named_parameters())


def test_published_keys_and_shapes() -> None:
    state = build_on_meta(LightningDitConfig(size="XL"), VA_VAE).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == lightning_shapes(
        28, 1152, 16, 32, 1, 16
    )


@pytest.mark.parametrize("attention", ["fused", "math"])
@torch.no_grad()
def test_golden_output(attention: str) -> None:
    """Class 1000 is the null row: as a label, or dropped."""
    net = LightningDitConfig(depth=4, width=192, heads=4, attention=attention).build(VA_VAE).eval()
    net.load_state_dict(golden_lightning())
    x, t = golden_input(32, 16)
    assert_golden(net(x, t, Conditioning(torch.tensor([3, 1000]))).output, Golden.LIGHTNING)
    dropped = Conditioning(torch.tensor([3, 17]), drop_B=torch.tensor([False, True]))
    assert_golden(net(x, t, dropped).output, Golden.LIGHTNING)


def test_rotary_tables() -> None:
    """Published sines at head width 72: token 1 is one column on, token 16 one row down."""
    rope = RotaryPositions((16, 16), 72)
    rope.fill()
    expected = torch.tensor([0.841471, 0.841471, 0.564217, 0.564217, 0.351695, 0.351695])
    torch.testing.assert_close(rope.freqs_sin[1, 36:42], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(rope.freqs_sin[16, :6], expected, atol=1e-6, rtol=0)
    assert (rope.freqs_sin[1, :36] == 0).all() and (rope.freqs_cos[16, 36:] == 1).all()
    for name, value in rope_tables(16, 72).items():
        torch.testing.assert_close(getattr(rope, name.split(".")[1]), value, atol=1e-7, rtol=0)


def test_turning_is_complex_multiplication() -> None:
    """(a + bi) · e^{iφ} for each pair of channels, so inner products depend on distances alone."""
    rope = RotaryPositions((2, 3), 8)
    rope.fill()
    x = torch.randn(2, 1, 6, 8)
    turned = torch.view_as_complex(rope().turn(x).reshape(2, 1, 6, 4, 2))
    phase = torch.complex(rope.freqs_cos[:, ::2], rope.freqs_sin[:, ::2])
    torch.testing.assert_close(turned, torch.view_as_complex(x.reshape(2, 1, 6, 4, 2)) * phase)


def multiply_adds(depth: int, width: int, tokens: int, channels: int) -> int:
    """Of one sample at patch 1, counted by hand from the layers."""
    hidden = math.floor(8 * width / 3)
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    block = attention + 3 * tokens * width * hidden + 6 * width**2
    ends = 2 * tokens * channels * width + 2 * width**2
    return depth * block + ends + 256 * width + width**2


@pytest.mark.parametrize("size", LIGHTNING_SIZES)
def test_multiply_adds(size: str) -> None:
    """torch counts a multiply-add as two operations."""
    net = build_on_meta(LightningDitConfig(size=size), VA_VAE)
    x, label = (
        torch.empty(1, 32, 16, 16, device="meta"),
        torch.zeros(1, dtype=torch.int64, device="meta"),
    )
    with FlopCounterMode(display=False) as counter:
        net(x, x.new_empty(1), Conditioning(label))
    depth, width, _ = LIGHTNING_SIZES[size]
    expected = multiply_adds(depth, width, 256, 32)
    assert counter.get_total_flops() / 2 == pytest.approx(expected, rel=0.01)


def test_start() -> None:
    """SiT's start: the output is 0, norms are 1; every layer's deviation is Xavier's."""
    torch.manual_seed(0)
    state = LightningDitConfig(depth=2, width=96, heads=4, qk_norm=True).build(VA_VAE).state_dict()
    zero = [name for name, value in state.items() if not value.any()]
    assert {name for name in zero if name.endswith("weight")} == {
        "final_layer.linear.weight",
        "final_layer.adaLN_modulation.1.weight",
        *(f"blocks.{i}.adaLN_modulation.1.weight" for i in range(2)),
    }
    for name, value in state.items():
        if "norm" in name:
            assert (value == 1).all(), name
        elif name.startswith("blocks") and value.ndim == 2 and name not in zero:
            assert value.std().item() == pytest.approx(math.sqrt(2 / sum(value.shape)), rel=0.05), name


def test_gmem_start() -> None:
    """Xavier everywhere: the output's deviation is near 1.3, as measured on the released code."""
    torch.manual_seed(0)
    net = LightningDitConfig(depth=12, width=384, heads=6, init="xavier").build(MEMORY)
    x, t = torch.randn(2, 32, 16, 16), torch.tensor([0.2, 0.7])
    memory = torch.nn.functional.normalize(torch.randn(2, 1, 768), dim=-1)
    assert 1.0 < net(x, t, Conditioning(memory_BKE=memory)).output.std().item() < 1.7


@pytest.mark.parametrize("heads", [6, 16])
def test_a_head_that_rope_cannot_turn_is_refused(heads: int) -> None:
    with pytest.raises(ValueError, match="rope turns pairs of channels"):
        LightningDitConfig(depth=1, width=96 if heads == 16 else 60, heads=heads)


def test_sizes_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"give either size \(S, B, L, XL, 1p0B, 1p6B\)"):
        LightningDitConfig()


def test_lightning_shapes_are_public() -> None:
    """292 tensors for SiT-XL; LightningDiT's has two norms a block, one at the end, two tables more."""
    assert len(sit_shapes(28, 1152, 4, 2, 32, sigma=True)) == 292
    assert len(lightning_shapes(28, 1152, 16, 32, 1, 16)) == 292 + 2 * 28 + 1 + 2
