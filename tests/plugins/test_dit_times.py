"""Directions of time and whole steps: what a network is told of t, and what its output means."""

from __future__ import annotations

import pytest
import torch
from published import Golden, assert_golden, golden_input, golden_lightning, golden_sit
from torch import Tensor

from genmem.contracts import Conditioning, Facts
from genmem_dit import DitConfig, LightningDitConfig, SitConfig, TransformerConfig
from genmem_dit.embeddings import TimestepEmbedder

GOLDEN = [
    (SitConfig(size="S", weights_time="data1"), 4, 32, golden_sit, Golden.SIT),
    (
        LightningDitConfig(depth=4, width=192, heads=4, weights_time="data1"),
        32,
        16,
        golden_lightning,
        Golden.LIGHTNING,
    ),
]
TINY = {"depth": 2, "width": 16, "heads": 2, "patch": 2, "init": "xavier"}


@pytest.mark.parametrize(("config", "channels", "side", "fill", "golden"), GOLDEN)
@pytest.mark.parametrize("token_times", [False, True])
@torch.no_grad()
def test_published_weights_are_evaluated_in_their_own_time(config, channels, side, fill, golden, token_times):
    """At our t the golden network is asked at its 1 - t; its velocity is minus ours."""
    shape = (channels, side, side)
    net = config.build(Facts(sample_shape=shape, output_channels=channels, num_classes=1000))
    net.load_state_dict(fill())
    x, t = golden_input(channels, side)
    t = 1 - t
    t = t[:, None].expand(-1, net.grid[0] * net.grid[1]) if token_times else t
    assert_golden(-net(x, t, Conditioning(torch.tensor([3, 1000]))).output, golden)


def outputs(weights_time: str, **facts: object) -> Tensor:
    """Of one network, asked in its own time .3."""
    torch.manual_seed(1)
    config = SitConfig(**TINY, weights_time=weights_time)
    net = config.build(Facts(sample_shape=(3, 4, 6), **{"output_channels": 3} | facts))
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(3))
    t = torch.tensor([0.25, 0.25] if weights_time == "data0" else [0.75, 0.75])
    return net(x, t, Conditioning()).output


def test_only_a_velocity_changes_its_sign():
    """Noise, score and data are the same whichever way time runs; so is a learned variance."""
    assert torch.equal(outputs("data1"), -outputs("data0"))
    assert torch.equal(outputs("data1", predicts_velocity=False), outputs("data0"))
    both, plain = outputs("data1", output_channels=6), outputs("data0", output_channels=6)
    assert torch.equal(both, torch.cat([-plain[:, :3], plain[:, 3:]], 1))


@pytest.mark.parametrize("config", [SitConfig, DitConfig, LightningDitConfig])
def test_taps_do_not_change_with_the_direction(config: type[TransformerConfig]):
    facts = Facts(sample_shape=(3, 4, 6), output_channels=3)
    x, t = torch.randn(2, 3, 4, 6), torch.tensor([0.25, 0.75])
    hidden = []
    for weights_time, time in (("data0", t), ("data1", 1 - t)):
        torch.manual_seed(1)
        net = config(**TINY, weights_time=weights_time).build(facts)
        hidden.append(net(x, time, Conditioning(), taps=(1,)).hidden[1])
    assert torch.equal(*hidden)


def test_every_step_of_dit_is_exact():
    """t = k / 999 in fp32 reaches the embedding as k, for each of the thousand."""
    embedder = TimestepEmbedder(8, 999.0, whole=True)
    exact = TimestepEmbedder(8, 1.0, whole=False)
    exact.load_state_dict(embedder.state_dict())
    k = torch.arange(1000)
    assert torch.equal(embedder((k / 999)[:, None]), exact(k.float()[:, None]))
    assert torch.equal(embedder((k.double() / 999).float()[:, None]), exact(k.float()[:, None]))


def test_dit_is_sit_at_whole_steps():
    """The same weights: DiT at t = k / 999 is SiT's network at time k, noise and variance."""
    facts = Facts(sample_shape=(4, 8, 8), output_channels=8, num_classes=5)
    torch.manual_seed(1)
    dit = DitConfig(**TINY).build(facts)
    sit = SitConfig(**TINY, learn_sigma=True).build(facts)
    sit.load_state_dict(dit.state_dict())
    x, cond = torch.randn(3, 4, 8, 8), Conditioning(torch.tensor([0, 3, 4]))
    k = torch.tensor([0.0, 417.0, 999.0])
    assert torch.equal(dit(x, k / 999, cond).output, sit(x, k, cond).output)
    between = dit(x, (k * 0.999 + 0.3) / 999, cond).output
    assert torch.equal(between[0], sit(x, k, cond).output[0]), "times between steps go to the nearest"


def test_derivatives_pass_whole_steps():
    """As if the times had not been rounded: 999 times the derivative in the step."""
    embedder = TimestepEmbedder(8, 999.0, whole=True).double()
    smooth = TimestepEmbedder(8, 1.0, whole=False).double()
    smooth.load_state_dict(embedder.state_dict())
    t, one = torch.tensor([[417 / 999]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    _, found = torch.func.jvp(embedder, (t,), (one,))
    _, wanted = torch.func.jvp(smooth, (999 * t,), (999 * one,))
    torch.testing.assert_close(found, wanted)
