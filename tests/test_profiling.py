"""Costs against counts worked out by hand, on a small transformer written here.

Shapes: B batch, C H W picture, L tokens, D width, N heads. Unit: MAC; 1 MAC = 2 FLOPs.
"""

import io
import json
import warnings
from typing import NamedTuple

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from genmem.contracts import MemoryStore
from genmem.profiling.activations import count_activation_bytes, count_saved_bytes
from genmem.profiling.costs import OWN, count_macs, count_parameters
from genmem.profiling.report import CostReport, format_bytes, format_count, measure_costs

B, C, H, W, PATCH, D, HEADS, DEPTH, CLASSES = 3, 2, 8, 12, 2, 24, 4, 3, 10
L = H // PATCH * (W // PATCH)


class Told(NamedTuple):
    """What the network is told, parts of which are absent."""

    label_B: Tensor | None = None
    memory_BKE: Tensor | None = None


class Answer(NamedTuple):
    """What it returns."""

    output: Tensor
    hidden: dict[int, Tensor]


class Block(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, z_BLD: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(z_BLD)).view(len(z_BLD), -1, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(z_BLD.shape)
        z_BLD = z_BLD + self.out(mixed)
        return z_BLD + self.mlp(z_BLD)


class Network(nn.Module):
    """Patches, a label, blocks, a head tied to nothing; a product of its own at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(L, D))
        self.register_buffer("turn", torch.eye(D))
        self.patches = nn.Conv2d(C, D, PATCH, PATCH)
        self.label = nn.Embedding(CLASSES, D)
        self.blocks = nn.ModuleList(Block() for _ in range(DEPTH))
        self.head = nn.Linear(D, PATCH * PATCH * C)

    def forward(self, x: Tensor, t_B: Tensor, told: Told) -> Answer:
        assert told.memory_BKE is None and told.label_B is not None
        z_BLD = self.patches(x).flatten(2).transpose(1, 2) + self.place
        z_BLD = z_BLD + (self.label(told.label_B) + t_B[:, None])[:, None]
        hidden = {}
        for number, block in enumerate(self.blocks, 1):
            hidden[number] = z_BLD = block(z_BLD)
        return Answer(self.head(z_BLD @ self.turn), hidden)


def inputs(batch: int = B) -> tuple[Tensor, Tensor, Told]:
    return torch.randn(batch, C, H, W), torch.rand(batch), Told(torch.arange(batch) % CLASSES)


MACS = {
    "patches": B * L * D * C * PATCH**2,
    "label": 0,
    "blocks": B * DEPTH * (L * 12 * D * D + 2 * L * L * D),
    "head": B * L * D * PATCH**2 * C,
    OWN: B * L * D * D,
}
PARAMETERS = {
    OWN: L * D,
    "patches": D * C * PATCH**2 + D,
    "label": CLASSES * D,
    "blocks": DEPTH * (12 * D * D + 9 * D + 4 * D),
    "head": (D + 1) * PATCH**2 * C,
}


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
        mixed = torch.einsum("bld,bdm->blm", a_BLD, b_BDL)
        return added + mixed + scaled_dot_product_attention(*heads).sum()


def test_operators_that_need_care() -> None:
    heads = torch.ones(B, 2, 5, 8), torch.ones(B, 2, 7, 8), torch.ones(B, 2, 7, 3)
    found = count_macs(Products(), (torch.ones(B, 4, 6), torch.ones(B, 6, 4), heads))
    assert found.by_operator == {
        "baddbmm": B * 4 * 6 * 4,
        "einsum": B * 4 * 6 * 4,
        "scaled_dot_product_attention": B * 2 * 5 * 7 * (8 + 3),
    }
    assert found.disagreement == 0


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
    with pytest.raises(ValueError, match="inputs hold no tensor"):
        measure_costs("nothing", Network(), (None,))


# activations -------------------------------------------------------------------------------


def test_activations_of_an_mlp_by_hand() -> None:
    """The input, and what the ReLU gives: it is saved twice, for itself and for the next layer."""
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    assert count_activation_bytes(network, (torch.randn(B, 5),)) == 4 * (B * 5 + B * 7)


def test_views_share_their_storage_and_parameters_are_no_activations() -> None:
    x = torch.randn(6, 4, requires_grad=True)
    weight = nn.Parameter(torch.randn(4, 4))

    def compute() -> Tensor:
        return (x[:3] @ weight) * x[3:].exp()[:, :4] @ weight.T

    product, exponential, scaled = 3 * 4, 3 * 4, 3 * 4
    assert count_saved_bytes(compute, [weight]) == 4 * (6 * 4 + product + exponential + scaled)


def test_activations_grow_with_the_batch_and_vanish_without_gradients() -> None:
    network = Network()
    one, two = (count_activation_bytes(network, inputs(batch)) for batch in (4, 8))
    assert one < two <= 2 * one
    network.requires_grad_(False)
    assert count_activation_bytes(network, inputs(4)) == 0


def test_checkpointing_keeps_less() -> None:
    network = Network()
    plain = count_activation_bytes(network.blocks[0], (torch.randn(B, L, D),))

    def compute() -> Tensor:
        z_BLD = torch.randn(B, L, D, requires_grad=True)
        return torch.utils.checkpoint.checkpoint(network.blocks[0], z_BLD, use_reentrant=False)

    assert count_saved_bytes(compute, network.parameters()) < plain / 4


def test_activations_on_meta_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be measured on the meta device"):
        count_activation_bytes(nn.Linear(3, 3).to("meta"), (torch.empty(2, 3, device="meta"),))


# report ------------------------------------------------------------------------------------


class Shelf(MemoryStore):
    """A store of a known size."""

    width, num_rows = 8, 100

    def to(self, device: torch.device) -> None:
        """Stays."""

    def num_bytes(self) -> int:
        return 100 * 8 * 4


def report() -> CostReport:
    return measure_costs("small", Network(), inputs(), {"bank": Shelf()})


def test_the_report_as_data() -> None:
    data = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert data["unit"] == "MAC"
    assert data["parameters"]["by_child"] == PARAMETERS
    assert data["forward_macs"]["total"] == sum(MACS.values())
    assert data["forward_macs"]["per_sample"] == sum(MACS.values()) / B
    assert data["batch"] == B
    assert data["memory_bytes"] == {"bank": 3200}
    assert data["activation_bytes"] == count_activation_bytes(Network(), inputs())


def test_the_report_for_people() -> None:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(report())
    text = console.file.getvalue()
    cells = {
        line.split("│")[1].strip(): [c.strip() for c in line.split("│")[2:-1]]
        for line in text.splitlines()
        if "│" in line
    }
    assert "forward MACs a sample" in text and "1 MAC = 2 FLOPs" in text
    assert cells["blocks"] == [f"{PARAMETERS['blocks']:,}", format_count(MACS["blocks"] / B)]
    assert cells["all"] == [f"{sum(PARAMETERS.values()):,}", format_count(sum(MACS.values()) / B)]
    assert cells["bank"] == ["3.12 KiB"]
    assert f"activations, batch {B}" in cells
    assert "MACs cross-checked with torch's counter: 0.00% apart" in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (118.64e9, "118.64 G"), (3e15, "3.00 P"), (5e18, "5000.00 P")],
)
def test_counts_as_people_read_them(count: float, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3 << 29, "1.50 GiB")]
)
def test_bytes_as_people_read_them(count: int, text: str) -> None:
    assert format_bytes(count) == text
