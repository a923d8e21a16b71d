"""Activation memory and the cost report, on the small transformer."""

import io
import json

import pytest
import torch
from rich.console import Console
from small_transformer import MACS, PARAMETERS, B, D, L, Network, inputs
from torch import Tensor, nn

from genmem.contracts import MemoryStore
from genmem.profiling.activations import count_activation_bytes, count_saved_bytes
from genmem.profiling.report import CostReport, format_bytes, format_count, measure_costs


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
