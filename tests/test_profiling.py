"""Costs against counts worked out by hand, on a small transformer written here.

Shapes: B batch, C H W picture, L tokens, D width, N heads. Unit: MAC; 1 MAC = 2 FLOPs.
"""

import warnings

import pytest
import torch
from small_transformer import CLASSES, DEPTH, HEADS, MACS, PARAMETERS, B, C, D, H, L, Network, Told, W, inputs
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from genmem.profiling.adapter import FlatModule, iterate_tensors
from genmem.profiling.costs import count_macs, count_parameters


def test_parameters_by_child() -> None:
    found = count_parameters(Network())
    assert found.by_child == PARAMETERS
    assert found.total == found.trainable == sum(PARAMETERS.values())


def test_frozen_and_shared_parameters() -> None:
    network = Network()
    network.label.requires_grad_(False)
    network.blocks[2].qkv.weight = network.blocks[0].qkv.weight
    found = count_parameters(network)
    assert found.total == sum(PARAMETERS.values()) - 3 * D * D
    assert found.trainable == found.total - CLASSES * D


def test_macs_are_the_analytic_count_to_the_last_digit() -> None:
    found = count_macs(Network(), inputs())
    assert found.total == sum(MACS.values())
    assert found.by_child == MACS
    assert found.by_operator["scaled_dot_product_attention"] == B * DEPTH * 2 * L * L * D
    assert found.by_operator["conv"] == MACS["patches"]


def test_what_products_write_is_what_fvcore_calls_activations() -> None:
    """Its own counter does not know fused attention, which writes L · D a block and sample."""
    from fvcore.nn import ActivationCountAnalysis

    network, told = Network().eval(), inputs()
    analysis = ActivationCountAnalysis(FlatModule(network, told), tuple(iterate_tensors(told)))
    analysis.tracer_warnings("none").uncalled_modules_warnings(False).unsupported_ops_warnings(False)
    found = count_macs(network, told)
    assert found.activations == analysis.total() + B * DEPTH * L * D


def test_costs_by_module() -> None:
    network = Network()
    parameters, macs = count_parameters(network), count_macs(network, inputs())
    assert parameters.by_module["blocks.1"] == PARAMETERS["blocks"] // DEPTH
    assert macs.by_module["blocks.1"] == MACS["blocks"] // DEPTH
    assert macs.by_module["blocks.2.qkv"] == B * L * 3 * D * D
    assert parameters.by_module["blocks.2.qkv"] == 3 * D * D + 3 * D


def test_the_cross_check_is_torchs_own_and_half_its_flops() -> None:
    network = Network()
    found = count_macs(network, inputs())
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network.to("meta")(*(torch.empty(B, C, H, W), torch.empty(B), Told(torch.empty(B, dtype=torch.long))))
    assert 2 * found.total == counter.get_total_flops()
    assert found.cross_check == found.total and found.disagreement == 0


def test_what_is_no_mac_is_tallied_apart() -> None:
    """Two norms, a GELU, and two residual sums a block; three sums before the blocks."""
    found = count_macs(Network(), inputs())
    assert found.elementwise["layer_norm"] == B * DEPTH * 2 * L * D
    assert found.elementwise["gelu"] == B * DEPTH * L * 4 * D
    assert found.elementwise["embedding"] == B * D
    assert found.elementwise["add"] == B * (DEPTH * 2 * L * D + 2 * L * D + D)
    assert not set(found.elementwise) & set(found.by_operator)


class Products(nn.Module):
    """Operators that fvcore has no handle for, or a vague one."""

    def forward(self, a_BLD: Tensor, b_BDL: Tensor, heads: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        added = torch.baddbmm(a_BLD.sum(), a_BLD, b_BDL)
        mixed = torch.einsum("bld, bdm -> blm", a_BLD, b_BDL)
        moved = torch.einsum("bdm->bmd", torch.einsum("bdm,bd->bdm", b_BDL, b_BDL[:, :, 0]))
        mixed = mixed + torch.einsum("...ld,...dm", moved, b_BDL)
        return added + mixed + scaled_dot_product_attention(*heads).sum()


def test_operators_that_need_care() -> None:
    heads = torch.ones(B, 2, 5, 8), torch.ones(B, 2, 7, 8), torch.ones(B, 2, 7, 3)
    found = count_macs(Products(), (torch.ones(B, 4, 6), torch.ones(B, 6, 4), heads))
    assert found.by_operator == {
        "baddbmm": B * 4 * 6 * 4,
        "einsum": 2 * B * 4 * 6 * 4,
        "scaled_dot_product_attention": B * 2 * 5 * 7 * (8 + 3),
    }
    assert found.disagreement == 0


def test_an_einsum_is_counted_to_the_last_digit() -> None:
    """fvcore's own handle reads 995,500 from a rounded text here; it is 995,456."""

    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.einsum("nk,mk->nm", x, y)

    found = count_macs(Product(), (torch.ones(77, 101), torch.ones(128, 101)))
    assert found.total == found.cross_check == 77 * 101 * 128


def test_a_fused_transformer_layer_is_counted_by_its_parts() -> None:
    """In evaluation torch replaces it by one operator, of which no counter knows."""
    layer = nn.TransformerEncoderLayer(D, HEADS, 4 * D, batch_first=True)
    found = count_macs(layer, (torch.randn(B, L, D),))
    assert found.total == MACS["blocks"] // DEPTH
    assert found.disagreement == 0
    assert torch.backends.mha.get_fastpath_enabled()


class Straying(nn.Module):
    """Drops at random in training."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(D, D), nn.Dropout(0.5)
        self.dropout.eval()

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else self.dropout(self.linear(x))


def test_counting_is_in_evaluation_and_changes_nothing() -> None:
    network = Straying()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, state = torch.randn(B, D), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_macs(network, (x,)).total == B * D * D
    assert torch.equal(state, torch.get_rng_state())
    assert network.training and network.linear.training and not network.dropout.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


class Peeking(nn.Module):
    """Looks at a value, which the meta device has not."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.T if float(x.sum()) > -1e9 else x


def test_a_failed_cross_check_says_why() -> None:
    found = count_macs(Peeking(), (torch.ones(4, 5),))
    assert found.total == 4 * 4 * 5
    assert found.cross_check is None and found.disagreement is None
    assert "RuntimeError" in found.cross_check_error


def test_what_cannot_be_traced_is_refused_by_name() -> None:
    network = Network()
    network.blocks[1].compile()
    with pytest.raises(ValueError, match=r"blocks\.1 is compiled: count an eager copy"):
        count_macs(network, inputs())
    with pytest.raises(ValueError, match="on the meta device"):
        count_macs(Network().to("meta"), inputs())
