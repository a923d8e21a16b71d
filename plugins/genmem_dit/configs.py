"""Settings of the DiT family. No torch.

One network (`genmem_dit.transformer`) serves all; a backbone is a choice of its parts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import attrs

from genmem.contracts import BackboneConfig, Count, Facts

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
LIGHTNING_SIZES: Mapping[str, Size] = {**SIZES, "1p0B": Size(24, 1536, 24), "1p6B": Size(28, 1792, 28)}


class BlockForm(NamedTuple):
    """What the blocks are made of."""

    norm: Literal["layer", "rms"] = "layer"
    mlp: Literal["gelu", "swiglu"] = "gelu"
    rope: bool = False
    qk_norm: bool = False
    shift: bool = True
    attention: Literal["fused", "math"] = "fused"


_at_least_1 = attrs.validators.optional(attrs.validators.ge(1))
_above_0 = attrs.validators.gt(0.0)


@attrs.frozen(kw_only=True)
class TransformerConfig(BackboneConfig):
    """A transformer on patches, conditioned by adaLN: what all of the family can be told."""

    sizes: ClassVar[Mapping[str, Size]] = SIZES

    size: str | None = None
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

    weights_time: Literal["data0", "data1"] = "data0"
    """Time of the data by which the weights were trained. "data1", as in SiT's and LightningDiT's
    published weights: the network is evaluated at 1 - t, and the velocity it gives is negated."""

    time_scale: float = attrs.field(default=1.0, validator=_above_0)
    """Factor on times before they are embedded; 1 is SiT's."""

    whole_times: bool = False
    """Round the scaled times to whole numbers, as DiT's steps; the derivative passes unrounded."""

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
                f"give either size ({', '.join(self.sizes)}) or all of depth, width and heads; found "
                f"size = {self.size}, depth = {self.depth}, width = {self.width}, heads = {self.heads}"
            )
        _, width, heads = self.shape
        if width % 4 or width % heads:
            raise ValueError(f"width must be a multiple of 4 and of heads ({heads}), got {width}")
        if self.form.rope and (width // heads) % 4:
            raise ValueError(
                f"rope turns pairs of channels by row and by column, so a head's width must be a multiple "
                f"of 4, got {width // heads}; choose other heads, or rope = false"
            )

    @property
    def shape(self) -> Size:
        """Depth, width and heads, whichever way they were given."""
        if self.size is not None:
            return self.sizes[self.size]
        assert self.depth is not None and self.width is not None and self.heads is not None
        return Size(self.depth, self.width, self.heads)

    @property
    @abstractmethod
    def form(self) -> BlockForm:
        """What the blocks are made of."""

    @property
    def tap_widths(self) -> Mapping[int, int]:
        """The same width after every block."""
        depth, width, _ = self.shape
        return dict.fromkeys(range(1, depth + 1), width)

    @property
    def consumes(self) -> frozenset[str]:
        """Label, memory and token times always; a span where it is switched on."""
        return frozenset({"label", "memory", "token-times"} | ({"span"} if self.span else set()))

    def count(self, facts: Facts) -> Count:
        """Worked out from the settings; `genmem_dit.counting` has the sums."""
        from genmem_dit.counting import count_network

        return count_network(self, facts)

    def build(self, facts: Facts) -> nn.Module:
        """A `genmem_dit.transformer.Transformer`.

        Raises:
            ValueError: A patch that does not divide the sample.
        """
        from genmem_dit.transformer import Transformer

        return Transformer(self, facts)


@attrs.frozen(kw_only=True)
class SitConfig(TransformerConfig):
    """SiT: a transformer on patches with adaLN-Zero, for labels, memories, both or nothing."""

    size: Literal["S", "B", "L", "XL"] | None = None
    """A published size; or else give depth, width and heads."""

    qk_norm: bool = False
    """Normalise queries and keys, head by head (an option of REPA's SiT)."""

    @property
    def form(self) -> BlockForm:
        """SiT's blocks."""
        return BlockForm(qk_norm=self.qk_norm, attention=self.attention)


@attrs.frozen(kw_only=True)
class DitConfig(TransformerConfig):
    """DiT: SiT's network with whole time steps and a learned variance beside its output."""

    size: Literal["S", "B", "L", "XL"] | None = None
    """A published size; or else give depth, width and heads."""

    learn_sigma: bool = True
    """Twice the output channels; an interpolant that learns no variance drops the second half."""

    time_scale: float = attrs.field(default=999.0, validator=_above_0)
    """Factor on times before they are embedded: t = k / 999 is DiT's step k of 0 … 999."""

    whole_times: bool = True
    """Round the scaled times to whole steps, so that step k is exact; the derivative passes unrounded."""

    @property
    def form(self) -> BlockForm:
        """SiT's blocks."""
        return BlockForm(attention=self.attention)


@attrs.frozen(kw_only=True)
class LightningDitConfig(TransformerConfig):
    """LightningDiT: SiT with SwiGLU, RMSNorm and rotary positions; GMem's network by its options."""

    sizes: ClassVar[Mapping[str, Size]] = LIGHTNING_SIZES

    size: Literal["S", "B", "L", "XL", "1p0B", "1p6B"] | None = None
    """A published size; or else give depth, width and heads."""

    patch: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    """Side of a patch; divides height and width of a sample."""

    norm: Literal["rms", "layer"] = "rms"
    """RMSNorm with weights, or SiT's LayerNorm without."""

    mlp: Literal["swiglu", "gelu"] = "swiglu"
    """SwiGLU of two thirds the hidden width, or SiT's GELU."""

    rope: bool = True
    """Rotary positions on queries and keys, besides the fixed table."""

    qk_norm: bool = False
    """Normalise queries and keys, head by head, before they are turned."""

    shift: bool = True
    """Blocks are shifted by the condition; false is the reference's wo_shift."""

    @property
    def form(self) -> BlockForm:
        """Blocks of the parts chosen here."""
        return BlockForm(self.norm, self.mlp, self.rope, self.qk_norm, self.shift, self.attention)
