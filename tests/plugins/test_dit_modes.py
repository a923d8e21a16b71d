"""The backbones under autocast, compile, checkpointing and forward-mode derivatives."""

import copy

import pytest
import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Facts
from genmem_dit import DitConfig, LightningDitConfig, SitConfig, TransformerConfig

FACTS = Facts(sample_shape=(3, 4, 6), output_channels=3, num_classes=5, condition_width=7)
TINY = {"depth": 3, "width": 16, "heads": 2, "patch": 2, "init": "xavier", "span": True}


EVERY: list[type[TransformerConfig]] = [SitConfig, DitConfig, LightningDitConfig]


def build(config: type[TransformerConfig] = SitConfig, **options: object) -> nn.Module:
    torch.manual_seed(1)
    return config(**(TINY | options)).build(FACTS)


@pytest.fixture(autouse=True)
def _forget_compiled() -> None:
    """torch compiles one function for so many networks only."""
    torch.compiler.reset()


def inputs(batch: int = 4) -> tuple[Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, 3, 4, 6, generator=generator)
    t = torch.rand(batch, generator=generator)
    memory = torch.randn(batch, 1, 7, generator=generator)
    drop = torch.arange(batch) % 2 == 0
    return x, t, Conditioning(torch.arange(batch) % 5, memory, drop, t / 2)


def gradients(net: nn.Module, *, autocast: bool = False) -> dict[str, Tensor]:
    """Gradients of a loss that reaches the output and a tap."""
    x, t, cond = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        prediction = net(x, t, cond, taps=(1, 2))
    loss = prediction.output.float().square().mean() + prediction.hidden[2].float().square().mean()
    loss.backward()
    return {name: p.grad for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("config", EVERY)
@pytest.mark.parametrize("attention", ["fused", "math"])
def test_autocast_is_close_and_times_stay_exact(config, attention):
    net = build(config, attention=attention)
    x, t, cond = inputs()
    exact = net(x, t, cond, taps=(1,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net(x, t, cond, taps=(1,))
        embedded = net.t_embedder(t[:, None])
    assert torch.equal(embedded, net.t_embedder(t[:, None])) and embedded.dtype == torch.float32
    assert rounded.hidden[1].dtype == torch.float32
    assert not torch.equal(rounded.output.float(), exact.output)
    error = (rounded.output.float() - exact.output).square().mean().sqrt() / exact.output.std()
    assert error < 0.03


@pytest.mark.parametrize("config", EVERY)
def test_whole_network_in_bf16(config):
    net = build(config).bfloat16()
    x, t, cond = inputs()
    output = net(x.bfloat16(), t, cond._replace(memory_BKE=cond.memory_BKE.bfloat16())).output
    assert output.dtype == torch.bfloat16 and output.isfinite().all()


@pytest.mark.parametrize(
    ("config", "options", "autocast"),
    [
        (SitConfig, {}, True),
        (SitConfig, {"checkpoint": True, "attention": "math", "qk_norm": True}, False),
        (DitConfig, {}, True),
        (DitConfig, {"checkpoint": True}, False),
        (LightningDitConfig, {"weights_time": "data1"}, True),
        (LightningDitConfig, {"checkpoint": True, "qk_norm": True, "shift": False}, False),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_compiles_without_a_break(config, options, autocast):
    """Forward and backward, taps and every condition included; keys stay as they are."""
    net = build(config, **options)
    keys = list(net.state_dict())
    plain = gradients(copy.deepcopy(net), autocast=autocast)
    net.compile(fullgraph=True, backend="aot_eager")
    compiled = gradients(net, autocast=autocast)
    assert list(net.state_dict()) == keys
    assert list(compiled) == list(plain)
    tolerance = 2e-2 if autocast else 1e-5
    for name, gradient in compiled.items():
        scale = plain[name].abs().max().item()
        torch.testing.assert_close(gradient, plain[name], atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("config", EVERY)
def test_blocks_compile_one_by_one(config):
    net = build(config)
    plain = gradients(copy.deepcopy(net))
    assert net.block_names == ("blocks.0", "blocks.1", "blocks.2")
    for name in net.block_names:
        net.get_submodule(name).compile(fullgraph=True, backend="aot_eager")
    keys = list(net.state_dict())
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, plain[name], atol=1e-5, rtol=1e-4)
    assert list(net.state_dict()) == keys


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("config", EVERY)
def test_compiles_with_the_default_backend(config, autocast):
    net = build(config)
    keys = list(net.state_dict())
    plain = gradients(copy.deepcopy(net), autocast=autocast)
    net.compile(fullgraph=True)
    compiled = gradients(net, autocast=autocast)
    assert list(net.state_dict()) == keys
    for name, gradient in compiled.items():
        scale = plain[name].abs().max().item()
        tolerance = 5e-2 if autocast else 1e-4
        torch.testing.assert_close(gradient, plain[name], atol=tolerance * scale, rtol=tolerance)


@pytest.mark.parametrize("config", EVERY)
def test_checkpointing_recomputes_blocks_and_changes_nothing(config):
    plain = gradients(build(config))
    net = build(config, checkpoint=True)
    runs: list[int] = []
    net.blocks[0].register_forward_pre_hook(lambda *_: runs.append(0))
    for name, gradient in gradients(net).items():
        assert torch.equal(gradient, plain[name]), name
    assert len(runs) == 2
    with torch.no_grad():
        x, t, cond = inputs()
        net(x, t, cond)
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (SitConfig, {}),
        (SitConfig, {"weights_time": "data1"}),
        (DitConfig, {"whole_times": False, "time_scale": 1.0}),
        (LightningDitConfig, {}),
    ],
    ids=lambda value: str(getattr(value, "__name__", value)),
)
def test_forward_mode_derivative(config, options):
    """MeanFlow's JVP, in (x, t, span) along (v, 1, 1), against central differences in float64."""
    net = build(config, attention="math", **options).double()
    x, t, cond = inputs()
    x, t = x.double(), t.double()
    cond = cond._replace(memory_BKE=cond.memory_BKE.double())
    v = torch.randn_like(x)

    def predict(x: Tensor, t: Tensor, span: Tensor) -> Tensor:
        return net(x, t, cond._replace(span_B=span)).output

    at = (x, t, t / 2)
    along = (v, torch.ones_like(t), torch.ones_like(t))
    _, derivative = torch.func.jvp(predict, at, along)
    h = 1e-5
    ahead, behind = (predict(*(a + s * d for a, d in zip(at, along, strict=True))) for s in (h, -h))
    torch.testing.assert_close(derivative, (ahead - behind) / (2 * h), atol=1e-8, rtol=1e-6)
    assert derivative.abs().max() > 0.1


def test_forward_mode_derivative_trains():
    """A loss on primal and tangent reaches the weights: what MeanFlow's regression needs."""
    net = build(attention="math")
    x, t, cond = inputs()

    def predict(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        prediction = net(x, t, cond, taps=(1,))
        return prediction.output, prediction.hidden[1]

    _, _, hidden = torch.func.jvp(predict, (x, t), (x, torch.ones_like(t)), has_aux=True)
    hidden.square().mean().backward()
    assert net.blocks[0].mlp.fc2.weight.grad.abs().max() > 0
