"""Pools and heads: what they keep, and what they cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from repulsor_parts import Brute, build, config, directions, filled, step_with

from genmem.draws import Draws
from genmem.testing import check_objective
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.heads import FlatProjection, RandomProjection


@pytest.mark.parametrize(
    "options", [{"pool": "token-compress", "tokens": 4}, {"pool": "flatten-jl", "head": "jl"}], ids=str
)
@pytest.mark.parametrize("metric", ["cos", "l2"])
def test_contract(options: dict[str, Any], metric: Any) -> None:
    """What every objective must do."""
    check_objective(RepulsorConfig(memory="negatives", tap=2, metric=metric, **options))


def test_the_random_projection() -> None:
    """Oracle 8: no parameters, nothing in the state, the same from a seed, √(2/d) on squared norms."""
    module = build(config(head="jl"))
    assert not list(module.parameters()) and set(module.state_dict()) == {"metric"}
    head, same, other = (RandomProjection(1152, 128, seed) for seed in (0, 0, 1))
    assert torch.equal(head.matrix_DE, same.matrix_DE) and not torch.equal(head.matrix_DE, other.matrix_DE)
    # ‖Rz‖²/d estimates ‖z‖²/M: for unit z that is 1/M.
    square = head(directions(400, width=1152)).square().mean(1) * 1152
    assert float(square.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(square.std()) == pytest.approx(math.sqrt(2 / 128), rel=0.15)


@pytest.mark.parametrize("shape", [(16, 72), (7, 11)])
def test_the_flat_projection_keeps_mean_squared_differences(shape: tuple[int, int]) -> None:
    """Oracle 8 for the whole token map: Disp's ‖z_i - z_j‖²/M from ‖q_i - q_j‖²/d.

    One channel and one token are large, as in trained networks.
    """
    out, length = 32, math.prod(shape)
    z = Draws(3, torch.arange(40)).normal("map", shape)
    z[:, :, 0] *= 5.0
    z[:, 0] *= 4.0
    expected = torch.cdist(z.flatten(1), z.flatten(1)).square() / length
    pairs = ~torch.eye(40, dtype=torch.bool)
    ratios = []
    for seed in range(40):
        q = FlatProjection(out, seed)(z)
        ratios.append(((q[:, None] - q).square().sum(-1) / out / expected)[pairs])
    ratio = torch.stack(ratios)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(ratio.std()) < 1.15 * math.sqrt(2 / out)
    wrong = z[..., :1].flatten(1)  # the wrong variant: heaps by channel, one of which holds nearly all
    assert float((wrong.square().sum(1) / z.square().sum((1, 2))).mean()) > 0.2


def test_the_flat_projection_is_linear_and_follows_from_its_seed() -> None:
    """A sum of signed entries: its matrix has one entry of equal size for each number that comes in."""
    head, same = FlatProjection(8, 5), FlatProjection(8, 5)
    columns = head(torch.eye(22).view(22, 2, 11))
    assert torch.equal(columns, same(torch.eye(22).view(22, 2, 11)))
    assert (columns != 0).sum(1).tolist() == [1] * 22
    torch.testing.assert_close(columns.abs().amax(1), torch.full((22,), math.sqrt(8 / 22)))
    assert int((columns != 0).sum(0).max()) <= 3  # heaps of equal size
    assert not head.state_dict() and not list(head.parameters())
    z = torch.randn(3, 2, 11)
    torch.testing.assert_close(head(z), z.flatten(1) @ columns)


def test_token_compress_keeps_where_things_are() -> None:
    """Tokens in another order are another feature, unlike the mean; another number is refused."""
    settings = config(pool="token-compress", tokens=4, head="linear")
    module, plain = build(settings), build(config())
    step = step_with(filled(), settings)
    hidden = step.prediction.hidden[2].detach()
    turned = hidden.roll(1, dims=1)
    torch.testing.assert_close(plain.queries(turned), plain.queries(hidden))
    assert float((module.queries(turned) - module.queries(hidden)).detach().norm()) > 0.1
    with pytest.raises(ValueError, match=r"tokens = 4, but the hidden state has 3; set tokens = 3"):
        module.queries(hidden[:, :3])


def test_the_head_costs_little() -> None:
    """Pooled first: one layer's work a picture, not one a token."""
    module = build(config())
    assert sum(p.numel() for p in module.parameters()) == 2 * 16 + 16 * 16 + 16 + 16 * 8 + 8
    value = module(step_with(Brute(directions(300)), config())).value
    assert value.dtype == torch.float32
