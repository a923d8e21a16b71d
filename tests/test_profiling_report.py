"""Activation memory, working sets and the cost report, on the small transformer."""

import io
import json

import attrs
import pytest
import torch
from rich.console import Console
from small_transformer import DEPTH, MACS, PARAMETERS, B, D, L, Network, inputs
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from genmem.contracts import Count
from genmem.profiling.activations import count_activation_bytes, count_saved_bytes
from genmem.profiling.blueprint import fill
from genmem.profiling.costs import count_macs, count_parameters
from genmem.profiling.difference import Difference
from genmem.profiling.footprint import Footprint
from genmem.profiling.report import CostReport, format_bytes, format_count
from genmem.profiling.step import StepCost
from genmem.profiling.tables import tree
from genmem.profiling.working_set import measure_working_set


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


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_shapes_alone_keep_what_real_tensors_keep(precision: torch.dtype) -> None:
    """To the byte, fused attention and autocast's copies of weights included."""

    def count() -> int:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            return count_activation_bytes(network, inputs())

    network = Network()
    real = count()
    with torch.device("meta"):
        network = Network()
    with FakeTensorMode():
        fill((network,), real=False)
        assert count() == real


def test_filling_keeps_shared_parameters_shared() -> None:
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    fill((network,), real=True)
    assert network[1].weight is network[0].weight and not network[0].weight.any()
    assert isinstance(network[0].weight, nn.Parameter) and network[0].weight.requires_grad


@pytest.mark.parametrize("fake", [False, True])
def test_a_working_set_by_hand(fake: bool) -> None:
    """While the second layer computes, its input and output live; the first's input is the caller's."""
    layers = [
        nn.Linear(10, 1000, bias=False),
        nn.Linear(1000, 500, bias=False),
        nn.Linear(500, 3, bias=False),
    ]
    with torch.device("meta"):
        network = nn.Sequential(*layers)

    def measure() -> int:
        x = torch.zeros(B, 10)
        return measure_working_set(lambda: network(x), [x, *network.parameters()])

    if fake:
        with FakeTensorMode():
            fill((network,), real=False)
            assert measure() == 4 * B * (1000 + 500)
    else:
        fill((network,), real=True)
        assert measure() == 4 * B * (1000 + 500)


# report ------------------------------------------------------------------------------------


def report(name: str = "small", **changes: int) -> CostReport:
    network = Network()
    training = {"weights": 1024, "activations": 3 << 20, "memory.bank": 3200} | changes
    return CostReport(
        name=name,
        parameters=count_parameters(network),
        training_parameters=sum(PARAMETERS.values()),
        macs=count_macs(network, inputs(1)),
        worked_out=Count(sum(PARAMETERS.values()), sum(MACS.values()) // B),
        step=StepCost(batch=4, flops=4000 + changes.get("activations", 0), activation_bytes=3 << 20),
        footprint=Footprint(
            training=training,
            inference={"weights": 1024, "working set": 2048},
            elsewhere={"memory.bank": 4096},
            trained=7,
            micro_batch=4,
            sample_batch=256,
        ),
    )


def shown(what: object) -> str:
    console = Console(file=io.StringIO(), width=140, color_system=None)
    console.print(what)
    return console.file.getvalue()


def cells(text: str) -> dict[str, list[str]]:
    rows = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_report_as_data() -> None:
    data = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert data["parameters"]["by_child"] == PARAMETERS
    assert data["forward_macs"]["total"] == sum(MACS.values()) // B
    assert data["training"]["flops_per_image"] == 1000 and data["training"]["batch"] == 4
    assert data["memory_bytes"]["training"] == {"weights": 1024, "activations": 3 << 20, "memory.bank": 3200}
    assert data["doubts"] == []


def test_the_report_for_people() -> None:
    text = shown(report())
    table = cells(text)
    assert table["blocks"] == [f"{PARAMETERS['blocks']:,}", format_count(MACS["blocks"] / B)]
    each = [f"{PARAMETERS['blocks'] // DEPTH:,}", format_count(MACS["blocks"] / B / DEPTH)]
    assert table["0 … 2 (each)"] == each
    assert table["all"] == [format_bytes(1024 + (3 << 20) + 3200), "3.00 KiB"]
    assert table["memory.bank"] == ["3.12 KiB", "-"] and table["working set"] == ["-", "2.00 KiB"]
    assert "1 MAC = 2 FLOPs" in text and "1.00 kFLOPs an image" in text
    assert "cross-checked with torch's counter: 0.00% apart" in text
    assert "memory.bank: 4.00 KiB more lie on disk" in text


def test_only_numbers_in_a_row_are_one_line() -> None:
    """0 and 2 of a Sequential are not 0 … 1; a layer between them costs nothing."""
    network = nn.Sequential(*(part for _ in range(3) for part in (nn.Linear(4, 4), nn.SiLU())))
    counted = count_macs(network, (torch.zeros(1, 4),))
    one = attrs.evolve(report(), parameters=count_parameters(network), macs=counted, worked_out=None)
    assert [branch.label for branch in tree(one)] == ["0", "2", "4"]


def test_counts_that_disagree_are_said() -> None:
    wrong = attrs.evolve(report(), worked_out=Count(sum(PARAMETERS.values()) + 1, sum(MACS.values()) * 2))
    assert len(wrong.doubts()) == 2
    assert "MACs not to be trusted" in shown(wrong) and "the backbone's own sum has" in shown(wrong)


def test_the_difference_as_data_and_for_people() -> None:
    difference = Difference(report("plain"), report("more", activations=4 << 20, **{"memory.queue": 512}))
    data = json.loads(json.dumps(difference.to_json(), allow_nan=False))["difference"]
    assert data["training"]["bytes/activations"] == {
        "baseline": 3 << 20,
        "recipe": 4 << 20,
        "difference": 1 << 20,
    }
    assert data["training"]["bytes/memory.queue"]["baseline"] == 0
    assert all(pair["difference"] == 0 for pair in data["inference"].values())
    text = shown(difference)
    assert cells(text)["activations"] == ["3.00 MiB", "4.00 MiB", "+1.00 MiB", "+33.33%"]
    assert cells(text)["memory.queue"] == ["0 B", "512 B", "+512 B", "new"]
    assert "inference: the same to the last digit" in text


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
