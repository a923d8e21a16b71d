"""The family's own sum of parameters and MACs: against published figures, and against the networks."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genmem.contracts import Conditioning, Count, Facts
from genmem.profiling.blueprint import fill
from genmem.profiling.costs import count_macs
from genmem_dit import DitConfig, LightningDitConfig, SitConfig

SD = Facts(sample_shape=(4, 32, 32), output_channels=4, num_classes=1000)
SD_512 = Facts(sample_shape=(4, 64, 64), output_channels=4, num_classes=1000)
VA = Facts(sample_shape=(32, 16, 16), output_channels=32, num_classes=1000)
SMALL = {"depth": 2, "width": 48, "heads": 3}


def counted(config, facts: Facts) -> Count:
    """Of the network itself, on meta, by torch's counter."""
    with torch.device("meta"):
        network = config.build(facts)
        x, zero_B = torch.empty(1, *facts.sample_shape), torch.zeros(1, dtype=torch.int64)
        label_B = zero_B if facts.num_classes else None
        memory = torch.empty(1, 1, facts.condition_width) if facts.condition_width else None
        with FlopCounterMode(display=False) as counter:
            network(x, torch.zeros(1), Conditioning(label_B, memory))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Count(parameters, counter.get_total_flops() // 2)


@pytest.mark.parametrize(
    ("size", "giga", "parameters"),
    [
        ("S", 6.06, 32_957_200),
        ("B", 23.01, 130_500_112),
        ("L", 80.71, 458_086_416),
        ("XL", 118.64, 675_111_184),
    ],
)
def test_the_sum_is_what_sit_published(size, giga, parameters):
    """GMACs within 1 %, parameters to the last one."""
    count = SitConfig(size=size).count(SD)
    assert count.macs / 1e9 == pytest.approx(giga, rel=0.01)
    assert count.parameters == parameters
    assert count == counted(SitConfig(size=size), SD)


@pytest.mark.parametrize(
    ("size", "patch", "facts", "parameters"),
    [
        ("B", 1, VA, 130_556_192),
        ("B", 2, SD, 130_531_600),
        ("L", 2, SD, 458_120_176),
        ("XL", 1, VA, 675_256_736),
        ("XL", 2, SD, 675_219_856),
        ("1p0B", 1, VA, 1_029_401_120),
        ("1p6B", 1, VA, 1_631_767_120),
    ],
)
def test_the_sum_is_what_lightningdit_published(size, patch, facts, parameters):
    config = LightningDitConfig(size=size, patch=patch)
    assert config.count(facts).parameters == parameters
    depth, width, _ = config.shape
    tokens = 256
    blocks = depth * (tokens * 12 * width**2 + 2 * tokens**2 * width + 6 * width**2)
    assert config.count(facts).macs == pytest.approx(blocks, rel=0.01)
    assert config.count(facts) == counted(config, facts)


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        (DitConfig(size="XL"), SD),
        (SitConfig(size="XL"), SD_512),
        (SitConfig(**SMALL, qk_norm=True, patch=4, span=True, attention="math"), SD),
        (SitConfig(**SMALL, learn_sigma=True), Facts(sample_shape=(3, 8, 16), output_channels=6)),
        (
            SitConfig(**SMALL, memory_projection="mlp"),
            Facts(sample_shape=(3, 8, 8), output_channels=3, condition_width=20),
        ),
        (
            LightningDitConfig(**SMALL, qk_norm=True, shift=False),
            Facts(sample_shape=(3, 8, 8), output_channels=3, condition_width=20, num_classes=7),
        ),
        (LightningDitConfig(**SMALL, norm="layer", mlp="gelu", rope=False, qk_norm=True), VA),
    ],
)
def test_the_sum_is_the_networks_whatever_its_options(config, facts):
    assert config.count(facts) == counted(config, facts)


def fvcore_count(config, facts: Facts) -> int:
    with torch.device("meta"):
        network = config.build(facts)
    fill((network,), real=True)
    cond = Conditioning(torch.zeros(1, dtype=torch.int64))
    return count_macs(network, (torch.zeros(1, *facts.sample_shape), torch.zeros(1), cond)).total


def test_fvcore_counts_the_same_on_real_tensors():
    assert fvcore_count(SitConfig(size="S"), SD) == SitConfig(size="S").count(SD).macs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "facts"),
    [
        (SitConfig(size="B"), SD),
        (SitConfig(size="L"), SD),
        (SitConfig(size="XL"), SD),
        (LightningDitConfig(size="XL"), VA),
    ],
)
def test_fvcore_counts_the_same_at_full_size(config, facts):
    assert fvcore_count(config, facts) == config.count(facts).macs


def test_a_patch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="patch = 5 does not divide samples of 32 x 32"):
        SitConfig(size="S", patch=5).count(SD)
