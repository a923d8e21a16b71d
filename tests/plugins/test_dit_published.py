"""`sit` against published figures: parameter counts, seeded start, golden outputs, key names."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from genmem.contracts import Conditioning, Facts
from genmem_dit import SitConfig
from genmem_dit.embeddings import embed_positions, embed_times

IMAGENET = Facts(sample_shape=(4, 32, 32), output_channels=4, num_classes=1000)

# Patch 2 with and without learn_sigma, patch 4 and patch 8 with it; frozen positions included.
PARAMETERS = {
    "S": (32_963_360, 32_957_200, 32_945_024, 33_148_160),
    "B": (130_512_416, 130_500_112, 130_475_648, 130_881_536),
    "L": (458_102_816, 458_086_416, 458_053_760, 458_594_816),
    "XL": (675_129_632, 675_111_184, 675_074_432, 675_683_072),
}
COLUMNS = ((2, True), (2, False), (4, True), (8, True))


def build_on_meta(config: SitConfig, facts: Facts = IMAGENET) -> nn.Module:
    with torch.device("meta"):
        return config.build(facts)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("size", PARAMETERS)
@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_parameter_counts(size, column):
    patch, learn_sigma = COLUMNS[column]
    net = build_on_meta(SitConfig(size=size, patch=patch, learn_sigma=learn_sigma))
    assert count(net) == PARAMETERS[size][column]
    frozen = [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
    assert frozen == ["pos_embed"]


def test_second_time_adds_one_timestep_embedder():
    """MeanFlow's XL/2 is quoted as 676M."""
    with_span = count(build_on_meta(SitConfig(size="XL", span=True)))
    width = 1152
    assert with_span - PARAMETERS["XL"][1] == (256 + 1) * width + (width + 1) * width
    assert with_span // 10**6 == 676


@pytest.mark.parametrize(("size", "giga"), [("S", 6.06), ("B", 23.01), ("L", 80.71), ("XL", 118.64)])
def test_multiply_adds(size, giga):
    """Of one 32 x 32 x 4 sample at patch 2; torch counts a multiply-add as two operations."""
    net = build_on_meta(SitConfig(size=size))
    x, label = torch.empty(1, 4, 32, 32, device="meta"), torch.zeros(1, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        net(x, x.new_empty(1), Conditioning(label))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, rel=0.01)


def test_published_keys_and_shapes():
    state = build_on_meta(SitConfig(size="XL", learn_sigma=True)).state_dict()
    expected = {
        "pos_embed": (1, 256, 1152),
        "x_embedder.proj.weight": (1152, 4, 2, 2),
        "x_embedder.proj.bias": (1152,),
        "t_embedder.mlp.0.weight": (1152, 256),
        "t_embedder.mlp.0.bias": (1152,),
        "t_embedder.mlp.2.weight": (1152, 1152),
        "t_embedder.mlp.2.bias": (1152,),
        "y_embedder.embedding_table.weight": (1001, 1152),
        "final_layer.linear.weight": (32, 1152),
        "final_layer.linear.bias": (32,),
        "final_layer.adaLN_modulation.1.weight": (2304, 1152),
        "final_layer.adaLN_modulation.1.bias": (2304,),
    }
    linears = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for i in range(28):
        for name, (rows, columns) in (linears | {"adaLN_modulation.1": (6, 1)}).items():
            expected[f"blocks.{i}.{name}.weight"] = (1152 * rows, 1152 * columns)
            expected[f"blocks.{i}.{name}.bias"] = (1152 * rows,)
    assert {name: tuple(value.shape) for name, value in state.items()} == expected
    assert len(state) == 292


SEEDED = {
    "x_embedder.proj.weight": (-0.01660971, 0.00254772, -0.02607028),
    "t_embedder.mlp.0.weight": (0.00120155, 0.01810108, 0.00315908),
    "y_embedder.embedding_table.weight": (0.00917477, 0.00376831, -0.00194575),
    "blocks.0.attn.qkv.weight": (0.01735064, 0.01792063, 0.02516396),
    "blocks.11.mlp.fc2.weight": (-0.00441751, 0.04646693, 0.038458),
}


def test_seeded_start():
    torch.manual_seed(0)
    state = SitConfig(size="S", learn_sigma=True).build(IMAGENET).state_dict()
    for name, values in SEEDED.items():
        torch.testing.assert_close(state[name].flatten()[:3], torch.tensor(values), atol=1e-8, rtol=2e-7)


def fill(net: nn.Module) -> None:
    """The filling that the golden outputs were made with."""
    state = net.state_dict()
    for k, name in enumerate(sorted(name for name in state if name != "pos_embed")):
        j = torch.arange(state[name].numel(), dtype=torch.float64)
        state[name].copy_((0.05 * torch.sin(1 + 0.7 * k + 0.013 * j)).view(state[name].shape))


def golden_inputs() -> tuple[Tensor, Tensor]:
    x = torch.sin(0.1 * torch.arange(2 * 4 * 32 * 32, dtype=torch.float64)).float()
    return x.view(2, 4, 32, 32), torch.tensor([0.25, 0.8])


@pytest.mark.parametrize("attention", ["fused", "math"])
@torch.no_grad()
def test_golden_output(attention):
    """In the network's own time: t goes in as it is. Class 1000 is the null row, so it is dropped."""
    net = SitConfig(size="S", attention=attention).build(IMAGENET).eval()
    fill(net)
    x, t = golden_inputs()
    cond = Conditioning(label_B=torch.tensor([3, 17]), drop_B=torch.tensor([False, True]))
    output = net(x, t, cond).output
    assert output.mean().item() == pytest.approx(-3.884136e-2, rel=2e-5)
    assert output.std().item() == pytest.approx(0.5693108, rel=2e-5)
    elements = output.flatten()[[0, 1, -1]]
    expected = torch.tensor([-0.1348076, -0.8241121, 0.2789610])
    torch.testing.assert_close(elements, expected, atol=1e-4 * 0.5693, rtol=0)


def test_learned_sigma_rows_are_dropped():
    """Row (p · p, 2C) of the last layer keeps its first C channels: the same output as without."""
    torch.manual_seed(0)
    wide = SitConfig(depth=1, width=32, heads=2, learn_sigma=True, init="xavier").build(IMAGENET)
    plain = SitConfig(depth=1, width=32, heads=2, init="xavier").build(IMAGENET)
    state = wide.state_dict()
    weight, bias = state["final_layer.linear.weight"], state["final_layer.linear.bias"]
    state["final_layer.linear.weight"] = weight.view(4, 8, 32)[:, :4].flatten(0, 1)
    state["final_layer.linear.bias"] = bias.view(4, 8)[:, :4].flatten()
    plain.load_state_dict(state)
    x, t = golden_inputs()
    cond = Conditioning(label_B=torch.tensor([3, 5]))
    torch.testing.assert_close(wide(x, t, cond).output, plain(x, t, cond).output, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, 0.9689124), (1, 0.9730604), (127, 1.0), (128, 0.2474040), (129, 0.2305501), (255, 2.686519e-5)],
)
def test_timestep_features(index, value):
    feature = embed_times(torch.tensor(0.25))
    assert feature.dtype == torch.float32
    assert feature[index].item() == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("width", "total"), [(384, 44720.33856), (1152, 134598.947804)])
def test_position_table_sum(width, total):
    assert embed_positions(16, 16, width).sum().item() == pytest.approx(total, rel=1e-9)


def test_position_table_elements():
    """Columns first: token 1 is one column on, token 16 one row down."""
    table = embed_positions(16, 16, 384)
    first_row = {0: 0.84147098, 1: 0.78859304, 96: 0.54030231, 192: 0.0, 288: 1.0}
    for index, value in first_row.items():
        assert table[1, index].item() == pytest.approx(value, abs=1e-8)
    assert table[16, 0] == 0 and table[16, 192].item() == pytest.approx(math.sin(1))
    assert embed_positions(16, 16, 1152)[1, 1].item() == pytest.approx(0.82405135, abs=1e-8)
