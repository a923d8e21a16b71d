"""The layouts of the family's published weights. No torch.

All of them use one set of names; they differ in the parts they have, the direction of time, and
what besides the backbone lies in the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from genmem.contracts import FormatConfig

if TYPE_CHECKING:
    from genmem_dit.published import Published

_LINEAR: Mapping[str, Any] = MappingProxyType(
    {"interpolant": {"use": "linear"}, "sampler": {"use": "heun", "steps": 50}}
)
_LABEL: Mapping[str, Any] = MappingProxyType({"condition": {"label": True, "drop": 0.1}})
_AFFINE = r"\.(?:weight|bias)"
_BLOCK = r"blocks\.\d+\."
_FRAME = (
    "pos_embed",
    r"x_embedder\.proj" + _AFFINE,
    r"t_embedder\.mlp\.[02]" + _AFFINE,
    _BLOCK + r"adaLN_modulation\.1" + _AFFINE,
    _BLOCK + r"attn\.(?:qkv|proj)" + _AFFINE,
    r"final_layer\.(?:linear|adaLN_modulation\.1)" + _AFFINE,
)
_TABLE = r"y_embedder\.embedding_table\.weight"
_MEMORY = r"condition_projection\.linear" + _AFFINE
_GELU = _BLOCK + r"mlp\.fc[12]" + _AFFINE
_QK_NORM = _BLOCK + r"attn\.[qk]_norm" + _AFFINE
_LIGHTNING = (
    r"feat_rope\.freqs_(?:cos|sin)",
    _BLOCK + r"norm[12]\.weight",
    _BLOCK + r"mlp\.(?:w12|w3)" + _AFFINE,
    r"final_layer\.norm_final\.weight",
)


@attrs.frozen(kw_only=True)
class Layout(FormatConfig):
    """One of the family's layouts."""

    backbone: ClassVar[str]
    """The backbone whose weights these are."""

    names: ClassVar[tuple[str, ...]]
    """Patterns of the names it has."""

    projector: ClassVar[str] = ""
    """Prefix of what is trained beside the backbone and is no part of it."""

    tables: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The recipe besides the backbone; empty where the weights do not say enough for one."""

    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Options of the backbone that no tensor shows."""

    def build(self) -> Published:
        """A `genmem_dit.published.Published`."""
        from genmem_dit.published import Published

        return Published(self)


@attrs.frozen(kw_only=True)
class SitLayout(Layout):
    """SiT, as its own code writes it: data at t = 1."""

    weights_time = "data1"
    backbone = "sit"
    names = (*_FRAME, _TABLE, _GELU)
    tables = MappingProxyType({**_LINEAR, **_LABEL})


@attrs.frozen(kw_only=True)
class DitLayout(Layout):
    """DiT, as its own code writes it: noise and variance at whole steps, data at step 0."""

    weights_time = "data0"
    backbone = "dit"
    names = (*_FRAME, _TABLE, _GELU)
    tables = MappingProxyType({"interpolant": {"use": "ddpm"}, "sampler": {"use": "ddpm"}, **_LABEL})


@attrs.frozen(kw_only=True)
class RepaLayout(Layout):
    """REPA's SiT: data at t = 0, projectors beside the network, older names of blocks."""

    weights_time = "data0"
    backbone = "sit"
    names = (*_FRAME, _TABLE, _GELU, _QK_NORM)
    projector = "projectors."
    tables = MappingProxyType({**_LINEAR, **_LABEL})


@attrs.frozen(kw_only=True)
class LightningDitLayout(Layout):
    """LightningDiT, as its own code writes it: data at t = 1."""

    weights_time = "data1"
    backbone = "lightningdit"
    names = (*_FRAME, _TABLE, _GELU, _QK_NORM, *_LIGHTNING)
    tables = MappingProxyType({**_LINEAR, **_LABEL})


@attrs.frozen(kw_only=True)
class GmemLayout(Layout):
    """GMem's LightningDiT: a memory's projection in place of the label table, data at t = 1."""

    weights_time = "data1"
    backbone = "lightningdit"
    names = (*_FRAME, _MEMORY, _GELU, _QK_NORM, *_LIGHTNING)
    projector = "projector."
    options = MappingProxyType({"init": "xavier"})
