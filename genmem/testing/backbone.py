"""Contract check of a backbone.

Shapes: B batch, C H W sample, L tokens, D width, K memories a sample, E memory width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genmem.contracts import BackboneConfig, Conditioning, Facts, Prediction

CLASSES, MEMORY_WIDTH, BATCH = 3, 6, 4


def check_backbone(config: BackboneConfig, sample_shape: tuple[int, int, int] = (4, 8, 8)) -> None:
    """Build the backbone and hold it to its contract.

    Checks output shape, taps (widths as declared, output the same with and without), `until`,
    independence of rows, `drop_B`, block names, and a state-dict round trip.

    Raises:
        AssertionError: What does not hold.
    """
    facts = _facts(config, sample_shape)
    module = _awake(config.build(facts))
    x, t, cond = _inputs(config, facts)
    plain = _predict(module, x, t, cond)
    expected = (BATCH, facts.output_channels, *sample_shape[1:])
    assert tuple(plain.output.shape) == expected, f"output is {tuple(plain.output.shape)}, must be {expected}"
    assert plain.hidden == {}, "without taps, hidden must be empty"
    _check_taps(config, module, x, t, cond, plain)
    _check_rows(module, x, t, cond, plain)
    _check_drop(config, module, x, t, cond)
    names = dict(module.named_modules())
    missing = [name for name in module.block_names if name not in names]  # type: ignore[union-attr]
    assert not missing, f"block_names lists {missing}, which are no submodules"
    again = config.build(facts)
    again.load_state_dict(module.state_dict())
    assert torch.equal(_predict(again.eval(), x, t, cond).output, plain.output), (
        "state dict does not round-trip"
    )


def _facts(config: BackboneConfig, shape: tuple[int, int, int]) -> Facts:
    return Facts(
        sample_shape=shape,
        output_channels=shape[0],
        num_classes=CLASSES if "label" in config.consumes else 0,
        condition_width=MEMORY_WIDTH if "memory" in config.consumes else 0,
        tap_widths=config.tap_widths,
    )


def _awake(module: nn.Module) -> nn.Module:
    """Move every parameter off its start, so that zero-initialised outputs say something."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=source))
    return module.eval()


def _inputs(config: BackboneConfig, facts: Facts) -> tuple[Tensor, Tensor, Conditioning]:
    source = torch.Generator().manual_seed(2)
    x = torch.randn(BATCH, *facts.sample_shape, generator=source)
    t = torch.linspace(0.1, 0.9, BATCH)
    label = torch.arange(BATCH) % CLASSES if facts.num_classes else None
    memory = torch.randn(BATCH, 1, MEMORY_WIDTH, generator=source) if facts.condition_width else None
    span = t / 2 if "span" in config.consumes else None
    return x, t, Conditioning(label, memory, None, span)


def _predict(module: nn.Module, x: Tensor, t: Tensor, cond: Conditioning, **asked: object) -> Prediction:
    with torch.no_grad():
        prediction = module(x, t, cond, **asked)
    assert isinstance(prediction, Prediction), (
        f"forward must return a Prediction, got {type(prediction).__name__}"
    )
    return prediction


def _check_taps(
    config: BackboneConfig, module: nn.Module, x: Tensor, t: Tensor, cond: Conditioning, plain: Prediction
) -> None:
    widths = dict(config.tap_widths)
    assert sorted(widths) == list(range(1, len(widths) + 1)), (
        f"tap_widths must name 1 … depth, got {sorted(widths)}"
    )
    taps = tuple(widths)
    tapped = _predict(module, x, t, cond, taps=taps)
    assert torch.equal(tapped.output, plain.output), "asking for taps must not change the output"
    assert tuple(sorted(tapped.hidden)) == taps, f"asked for {taps}, got {sorted(tapped.hidden)}"
    for tap, width in widths.items():
        shape = tuple(tapped.hidden[tap].shape)
        assert len(shape) == 3 and shape[0] == BATCH and shape[2] == width, (
            f"tap {tap} is {shape}, declared D = {width}"
        )
    early = _predict(module, x, t, cond, taps=(1,), until=1)
    assert torch.equal(early.hidden[1], tapped.hidden[1]), (
        "until=1 must give the same hidden state after block 1"
    )
    assert early.output.numel() == 0, "with until, the output must be empty"


def _check_rows(module: nn.Module, x: Tensor, t: Tensor, cond: Conditioning, plain: Prediction) -> None:
    row = Conditioning(*(None if part is None else part[1:2] for part in cond))
    alone = _predict(module, x[1:2], t[1:2], row).output
    assert torch.allclose(alone, plain.output[1:2], atol=1e-4), (
        "a row's output must not depend on its batch mates"
    )


def _check_drop(config: BackboneConfig, module: nn.Module, x: Tensor, t: Tensor, cond: Conditioning) -> None:
    if not config.consumes & {"label", "memory"}:
        return
    dropped = cond._replace(drop_B=torch.ones(BATCH, dtype=torch.bool))
    other = dropped._replace(
        label_B=None if cond.label_B is None else (cond.label_B + 1) % CLASSES,
        memory_BKE=None if cond.memory_BKE is None else cond.memory_BKE + 1.0,
    )
    first, second = _predict(module, x, t, dropped).output, _predict(module, x, t, other).output
    assert torch.equal(first, second), "drop_B must hide label and memory"
    kept = _predict(module, x, t, cond).output
    assert not torch.equal(first, kept), "label and memory must reach the output where they are not dropped"
