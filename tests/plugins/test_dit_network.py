"""How `sit` behaves: conditions and dropping, taps and early stops, options, refusals."""

import math

import pytest
import torch
from torch import Tensor, nn

from genmem.contracts import Conditioning, Facts
from genmem.testing import check_backbone
from genmem_dit import DitConfig, LightningDitConfig, SitConfig, TransformerConfig
from genmem_dit.embeddings import embed_positions

FACTS = Facts(sample_shape=(3, 4, 6), output_channels=3, num_classes=5, condition_width=7)
TOKENS = 6
TINY = {"depth": 3, "width": 16, "heads": 2, "patch": 2, "init": "xavier"}


def build(facts: Facts = FACTS, config: type[TransformerConfig] = SitConfig, **options: object) -> nn.Module:
    torch.manual_seed(1)
    return config(**(TINY | options)).build(facts)


def inputs(batch: int = 4) -> tuple[Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(batch, 3, 4, 6, generator=generator)
    t = torch.rand(batch, generator=generator)
    memory = torch.randn(batch, 2, 7, generator=generator)
    return x, t, Conditioning(label_B=torch.arange(batch) % 5, memory_BKE=memory)


def test_equal_token_times_equal_one_time():
    net = build()
    x, t, cond = inputs()
    everywhere = t[:, None].expand(-1, TOKENS)
    torch.testing.assert_close(net(x, t, cond).output, net(x, everywhere, cond).output)


def test_absent_span_is_zero():
    net = build(span=True)
    x, t, cond = inputs()
    zero = net(x, t, cond._replace(span_B=torch.zeros(4))).output
    torch.testing.assert_close(net(x, t, cond).output, zero, rtol=0, atol=0)
    assert not torch.equal(net(x, t, cond._replace(span_B=t)).output, zero)


def test_dropped_rows_ignore_label_and_memory():
    net = build()
    x, t, cond = inputs()
    drop = torch.tensor([True, False, True, False])
    other = cond._replace(label_B=(cond.label_B + 1) % 5, memory_BKE=cond.memory_BKE * math.nan)
    a = net(x, t, cond._replace(drop_B=drop)).output
    b = net(x, t, other._replace(drop_B=drop)).output
    assert torch.equal(a[drop], b[drop])
    assert torch.equal(a[~drop], net(x, t, cond).output[~drop])
    assert b[~drop].isnan().any()


def test_rows_are_independent():
    net = build()
    x, t, cond = inputs()
    whole = net(x, t, cond).output
    part = net(x[1:2], t[1:2], Conditioning(cond.label_B[1:2], cond.memory_BKE[1:2])).output
    torch.testing.assert_close(whole[1:2], part)


@pytest.mark.parametrize("config", [SitConfig, DitConfig, LightningDitConfig])
@pytest.mark.parametrize("has_label", [False, True])
@pytest.mark.parametrize("has_memory", [False, True])
def test_parts_exist_only_for_conditions_there_are(config, has_label, has_memory):
    facts = Facts(
        sample_shape=(3, 4, 6),
        output_channels=3,
        num_classes=5 if has_label else 0,
        condition_width=7 if has_memory else 0,
    )
    net = build(facts, config)
    names = set(net.state_dict())
    assert ("y_embedder.embedding_table.weight" in names) == has_label
    assert ("condition_projection.linear.weight" in names) == has_memory
    x, t, cond = inputs()
    fitting = Conditioning(cond.label_B if has_label else None, cond.memory_BKE if has_memory else None)
    assert net(x, t, fitting).output.shape == x.shape
    if not has_label:
        with pytest.raises(ValueError, match="built without this condition, but label_B was given"):
            net(x, t, fitting._replace(label_B=cond.label_B))
    if has_memory:
        with pytest.raises(ValueError, match="built with this condition, but memory_BKE is missing"):
            net(x, t, fitting._replace(memory_BKE=None))


def test_taps_are_the_states_after_blocks():
    net = build()
    x, t, cond = inputs()
    plain = net(x, t, cond)
    assert plain.hidden == {}
    tapped = net(x, t, cond, taps=(1, 3))
    assert torch.equal(tapped.output, plain.output)
    assert list(tapped.hidden) == [1, 3]
    seen: list[Tensor] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    net(x, t, cond)
    assert torch.equal(tapped.hidden[1], seen[0]) and torch.equal(tapped.hidden[3], seen[2])
    assert tapped.hidden[1].shape == (4, TOKENS, 16)


def test_until_stops_before_later_blocks():
    net = build()
    x, t, cond = inputs()
    expected = net(x, t, cond, taps=(2,)).hidden[2]
    for module in (net.blocks[2], net.final_layer):
        module.register_forward_hook(lambda *_: pytest.fail("ran on"))
    stopped = net(x, t, cond, taps=(2,), until=2)
    assert torch.equal(stopped.hidden[2], expected) and stopped.output.numel() == 0


@pytest.mark.parametrize(
    ("taps", "until"), [((0,), None), ((4,), None), ((3,), 2), ((), 4), ((), 0), ((-1,), None)]
)
def test_impossible_taps_are_refused(taps, until):
    x, t, cond = inputs()
    with pytest.raises(ValueError, match="blocks 1 … 3"):
        build()(x, t, cond, taps=taps, until=until)


def test_wrong_shapes_are_refused():
    net = build()
    x, t, cond = inputs()
    with pytest.raises(ValueError, match=r"samples of shape \(3, 4, 6\), got \(3, 6, 4\)"):
        net(x.transpose(2, 3), t, cond)
    with pytest.raises(ValueError, match=r"t must be \(B,\) or \(B, 6\), got \(4, 5\)"):
        net(x, torch.rand(4, 5), cond)
    with pytest.raises(ValueError, match="set span = true"):
        net(x, t, cond._replace(span_B=t))


def test_output_starts_at_zero_and_xavier_does_not():
    x, t, cond = inputs()
    torch.manual_seed(0)
    assert torch.equal(
        SitConfig(**TINY | {"init": "adaln-zero"}).build(FACTS)(x, t, cond).output, torch.zeros_like(x)
    )
    torch.manual_seed(0)
    assert SitConfig(**TINY).build(FACTS)(x, t, cond).output.std() > 0.1


def test_table_std():
    net = SitConfig(**TINY | {"table_std": 0.2, "span": True}).build(
        Facts(sample_shape=(3, 4, 6), output_channels=3, num_classes=5000)
    )
    for weight in (
        net.y_embedder.embedding_table.weight,
        net.t_embedder.mlp[0].weight,
        net.span_embedder.mlp[0].weight,
    ):
        assert weight.std().item() == pytest.approx(0.2, rel=0.05)


def test_meta_network_is_filled_by_initialise():
    with torch.device("meta"):
        net = SitConfig(**TINY).build(FACTS)
    net = net.to_empty(device="cpu")
    net.initialise()
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert torch.equal(net.pos_embed[0], embed_positions(2, 3, 16).float())


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("asked", [3, 6])
def test_channels_are_those_asked_for(learn_sigma, asked):
    facts = Facts(sample_shape=(3, 4, 6), output_channels=asked)
    x, t, _ = inputs()
    net = build(facts, learn_sigma=learn_sigma)
    assert net(x, t, Conditioning()).output.shape == (4, asked, 4, 6)
    assert net.final_layer.linear.out_features == 4 * (6 if learn_sigma else asked)


@pytest.mark.parametrize("config", [SitConfig, DitConfig, LightningDitConfig])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"span": True},
        {"patch": 1},
        {"attention": "math"},
        {"weights_time": "data1"},
        {"learn_sigma": True},
    ],
    ids=str,
)
def test_contract(config, options):
    check_backbone(config(**TINY | options))
    check_backbone(config(**TINY | options), (1, 4, 8))
