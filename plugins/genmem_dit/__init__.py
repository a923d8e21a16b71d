"""The DiT family of backbones: transformers on patches, conditioned by adaLN. Here: `sit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import attrs

from genmem import hookimpl
from genmem.contracts import BackboneConfig, Facts

if TYPE_CHECKING:
    from torch import nn


class Size(NamedTuple):
    """Depth (blocks), width (channels of a token) and attention heads."""

    depth: int
    width: int
    heads: int


SIZES: Mapping[str, Size] = {
    "S": Size(12, 384, 6),
    "B": Size(12, 768, 12),
    "L": Size(24, 1024, 16),
    "XL": Size(28, 1152, 16),
}

_at_least_1 = attrs.validators.optional(attrs.validators.ge(1))
_above_0 = attrs.validators.gt(0.0)


@attrs.frozen(kw_only=True)
class SitConfig(BackboneConfig):
    """SiT: a transformer on patches with adaLN-Zero, for labels, memories, both or nothing."""

    size: Literal["S", "B", "L", "XL"] | None = None
    """A published size; or else give depth, width and heads."""

    depth: int | None = attrs.field(default=None, validator=_at_least_1)
    """Blocks."""

    width: int | None = attrs.field(default=None, validator=_at_least_1)
    """Channels of a token; a multiple of 4 and of heads."""

    heads: int | None = attrs.field(default=None, validator=_at_least_1)
    """Attention heads."""

    patch: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    """Side of a patch; divides height and width of a sample."""

    learn_sigma: bool = False
    """Twice the output channels, as in SiT's published weights, whether or not the interpolant
    asks for them; what it does not ask for is dropped."""

    span: bool = False
    """A second time, t - r, with an embedder of its own (MeanFlow)."""

    memory_projection: Literal["linear", "mlp"] = "linear"
    """From memory to width: one linear layer (GMem's code) or three with SiLU (GMem's paper)."""

    time_scale: float = attrs.field(default=1.0, validator=_above_0)
    """Factor on times before they are embedded; 1 is SiT's."""

    table_std: float = attrs.field(default=0.02, validator=_above_0)
    """Initial deviation of the label table and of the timestep layers."""

    init: Literal["adaln-zero", "xavier"] = "adaln-zero"
    """Start with every gate and the output at 0 (SiT), or with Xavier weights there (GMem's code)."""

    attention: Literal["fused", "math"] = "fused"
    """torch's fused kernel, or plain matrix products, which forward-mode derivatives need."""

    checkpoint: bool = False
    """Recompute each block in the backward pass instead of keeping its activations."""

    def __attrs_post_init__(self) -> None:
        explicit = (self.depth, self.width, self.heads)
        given = sum(value is not None for value in explicit)
        if (self.size is None and given < 3) or (self.size is not None and given > 0):
            raise ValueError(
                f"give either size ({', '.join(SIZES)}) or all of depth, width and heads; found "
                f"size = {self.size}, depth = {self.depth}, width = {self.width}, heads = {self.heads}"
            )
        _, width, heads = self.shape
        if width % 4 or width % heads:
            raise ValueError(f"width must be a multiple of 4 and of heads ({heads}), got {width}")

    @property
    def shape(self) -> Size:
        """Depth, width and heads, whichever way they were given."""
        if self.size is not None:
            return SIZES[self.size]
        assert self.depth is not None and self.width is not None and self.heads is not None
        return Size(self.depth, self.width, self.heads)

    @property
    def tap_widths(self) -> Mapping[int, int]:
        """The same width after every block."""
        depth, width, _ = self.shape
        return dict.fromkeys(range(1, depth + 1), width)

    @property
    def consumes(self) -> frozenset[str]:
        """Label, memory and token times always; a span where it is switched on."""
        return frozenset({"label", "memory", "token-times"} | ({"span"} if self.span else set()))

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_dit.sit.SiT`.

        Raises:
            ValueError: A patch that does not divide the sample.
        """
        from genmem_dit.sit import SiT

        return SiT(self, facts)


@hookimpl
def genmem_backbones() -> dict[str, type[BackboneConfig]]:
    """The backbones of this plugin."""
    return {"sit": SitConfig}
