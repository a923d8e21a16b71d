"""Files of weights as other projects publish them, by the names and shapes of their papers' code."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Shape = tuple[int, ...]


def linear(name: str, rows: int, columns: int) -> dict[str, Shape]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def sit_shapes(
    depth: int, width: int, channels: int, patch: int, side: int, *, classes: int = 1000, sigma: bool = False
) -> dict[str, Shape]:
    """SiT's and DiT's state dict."""
    outputs = channels * (2 if sigma else 1) * patch**2
    shapes: dict[str, Shape] = {"pos_embed": (1, (side // patch) ** 2, width)}
    shapes |= {"x_embedder.proj.weight": (width, channels, patch, patch), "x_embedder.proj.bias": (width,)}
    shapes |= linear("t_embedder.mlp.0", width, 256) | linear("t_embedder.mlp.2", width, width)
    shapes |= {"y_embedder.embedding_table.weight": (classes + 1, width)}
    for i in range(depth):
        shapes |= linear(f"blocks.{i}.attn.qkv", 3 * width, width)
        shapes |= linear(f"blocks.{i}.attn.proj", width, width)
        shapes |= linear(f"blocks.{i}.mlp.fc1", 4 * width, width)
        shapes |= linear(f"blocks.{i}.mlp.fc2", width, 4 * width)
        shapes |= linear(f"blocks.{i}.adaLN_modulation.1", 6 * width, width)
    return (
        shapes
        | linear("final_layer.linear", outputs, width)
        | linear("final_layer.adaLN_modulation.1", 2 * width, width)
    )


def lightning_shapes(
    depth: int, width: int, heads: int, channels: int, patch: int, side: int, *, classes: int = 1000
) -> dict[str, Shape]:
    """LightningDiT's state dict."""
    shapes = sit_shapes(depth, width, channels, patch, side, classes=classes)
    shapes = {name: shape for name, shape in shapes.items() if ".mlp.fc" not in name}
    hidden = int(2 / 3 * 4 * width)
    for i in range(depth):
        shapes |= linear(f"blocks.{i}.mlp.w12", 2 * hidden, width)
        shapes |= linear(f"blocks.{i}.mlp.w3", width, hidden)
        shapes |= {f"blocks.{i}.norm{k}.weight": (width,) for k in (1, 2)}
    tokens = (side // patch) ** 2
    shapes |= {f"feat_rope.freqs_{name}": (tokens, width // heads) for name in ("cos", "sin")}
    return shapes | {"final_layer.norm_final.weight": (width,)}


def projector_shapes(name: str, width: int, target: int, hidden: int = 2048) -> dict[str, Shape]:
    """REPA's projector."""
    layers = linear(f"{name}.0", hidden, width) | linear(f"{name}.2", hidden, hidden)
    return layers | linear(f"{name}.4", target, hidden)


def gmem_shapes(memory: int) -> dict[str, Shape]:
    """GMem's network on 1 x 8 x 8, with its projector."""
    shapes = lightning_shapes(2, 32, 4, 1, 2, 8)
    shapes.pop("y_embedder.embedding_table.weight")
    shapes |= linear("condition_projection.linear", 32, memory)
    return shapes | projector_shapes("projector.0", 32, 16, hidden=24)


def golden_fill(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The filling that the published outputs were made with: 0.05 sin(1 + 0.7 k + 0.013 j).

    k counts the sorted names, fixed tables left out; norms' weights are 1 more.
    """
    filled = {}
    for k, name in enumerate(sorted(name for name in shapes if not is_fixed(name))):
        j = torch.arange(int(torch.tensor(shapes[name]).prod()), dtype=torch.float64)
        value = 0.05 * torch.sin(1 + 0.7 * k + 0.013 * j)
        value = 1 + value if "norm" in name and name.endswith("weight") else value
        filled[name] = value.view(shapes[name]).float()
    return filled


def filled(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """The same, with noise for the fixed tables: an import has to keep whatever is there."""
    golden = golden_fill(shapes)
    return golden | {name: torch.randn(shape) for name, shape in shapes.items() if name not in golden}


def is_fixed(name: str) -> bool:
    """Tables that follow from the shape of the network."""
    return name == "pos_embed" or name.startswith("feat_rope")


def sincos_table(side: int, width: int) -> Tensor:
    """(1, side², width): the position table, number by number: column, then row; sine, then cosine."""
    frequency = torch.tensor([10000.0 ** (-k / (width / 4)) for k in range(width // 4)], dtype=torch.float64)
    rows = []
    for row in range(side):
        for column in range(side):
            parts = [wave(p * frequency) for p in (column, row) for wave in (torch.sin, torch.cos)]
            rows.append(torch.cat(parts))
    return torch.stack(rows)[None].float()


def rope_tables(side: int, width: int) -> dict[str, Tensor]:
    """LightningDiT's buffers: angles of row, then of column, each frequency twice in a row."""
    axis = width // 2
    frequency = [10000.0 ** (-2 * i / axis) for i in range(axis // 2)]
    angle = torch.tensor(
        [
            [position * f for position in (row, column) for f in frequency for _ in range(2)]
            for row in range(side)
            for column in range(side)
        ],
        dtype=torch.float64,
    )
    return {"feat_rope.freqs_cos": angle.cos().float(), "feat_rope.freqs_sin": angle.sin().float()}


def golden_sit() -> dict[str, Tensor]:
    """SiT-S/2 on 4 x 32 x 32."""
    return {"pos_embed": sincos_table(16, 384), **golden_fill(sit_shapes(12, 384, 4, 2, 32))}


def golden_lightning() -> dict[str, Tensor]:
    """A tiny LightningDiT on 32 x 16 x 16."""
    filled = golden_fill(lightning_shapes(4, 192, 4, 32, 1, 16))
    return {"pos_embed": sincos_table(16, 192), **rope_tables(16, 48), **filled}


def golden_input(channels: int, side: int) -> tuple[Tensor, Tensor]:
    """Sample and times of the published outputs, times in the network's own direction."""
    x = torch.sin(0.1 * torch.arange(2 * channels * side * side, dtype=torch.float64)).float()
    return x.view(2, channels, side, side), torch.tensor([0.25, 0.8])


class Golden:
    """Mean, deviation, and first two and last element of a published output."""

    SIT = (-3.884136e-2, 0.5693108, (-0.1348076, -0.8241121, 0.2789610))
    LIGHTNING = (-6.246213e-2, 0.3975099, (-0.08994074, -0.09143578, -0.5584967))


def assert_golden(output: Tensor, golden: tuple[float, float, tuple[float, ...]]) -> None:
    """Mean and deviation to 2e-5 relative, elements to 1e-4 of the deviation."""
    mean, std, elements = golden
    assert abs(output.mean().item() / mean - 1) < 2e-5
    assert abs(output.std().item() / std - 1) < 2e-5
    found = output.flatten()[[0, 1, -1]]
    torch.testing.assert_close(found, torch.tensor(elements), atol=1e-4 * std, rtol=0)


TINY: dict[str, dict[str, Shape]] = {
    "sit": sit_shapes(2, 32, 1, 2, 8, classes=10, sigma=True),
    "dit": sit_shapes(2, 32, 1, 2, 8, classes=10, sigma=True),
    "repa": sit_shapes(2, 32, 1, 2, 8, classes=10) | projector_shapes("projectors.0", 32, 16, hidden=24),
    "lightningdit": lightning_shapes(2, 32, 4, 1, 2, 8, classes=10),
    "gmem": gmem_shapes(16),
}
"""Files of every layout, for 1 x 8 x 8: two blocks of width 32, four heads."""
