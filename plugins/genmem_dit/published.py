"""Published weights of the family, both ways. Implements `genmem.contracts.Format`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from torch import Size as Shape
from torch import Tensor

from genmem.contracts import Fit, Reading
from genmem_dit.inspection import describe_backbone, describe_facts

if TYPE_CHECKING:
    from genmem_dit.layouts import Layout

TABLE = "y_embedder.embedding_table.weight"
LAST = ("final_layer.linear.weight", "final_layer.linear.bias")
FIXED = ("pos_embed", "feat_rope.freqs_cos", "feat_rope.freqs_sin")
"""Tables that follow from the shape of the network; some ports leave them out."""

_OLD_BLOCK = re.compile(r"decoder_blocks\.(\d+)\.")
_BLOCK = re.compile(r"blocks\.(\d+)\.")


@attrs.frozen
class Published:
    """One layout."""

    layout: Layout

    def read(self, tensors: Mapping[str, Tensor], shape: tuple[int, int, int] | None) -> Reading:
        """Take out the projectors, give later blocks their numbers, and look at the shapes.

        Raises:
            ValueError: Names that are none of this layout's, or shapes that say too little.
        """
        projector = self.layout.projector
        dropped = tuple(name for name in tensors if projector and name.startswith(projector))
        kept = _renumber({name: value for name, value in tensors.items() if name not in dropped})
        self._refuse_foreign(kept, "the file has", "choose the layout the file is in")
        facts = describe_facts(kept, shape)
        return Reading(kept, dropped, facts, self._tables(kept))

    def fit(self, tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape], reinit_labels: bool) -> Fit:
        """Cut learned variances off, start the label table anew if told to, compute fixed tables.

        Raises:
            ValueError: Another number of classes, and no leave to start the table anew.
        """
        kept, cut = dict(tensors), {}
        for name in LAST:
            if name in kept and name in wanted and len(kept[name]) == 2 * wanted[name][0]:
                cut[name] = (
                    f"{wanted[name][0]} of {len(kept[name])} rows kept, those of the variance left out"
                )
                kept[name] = _without_variance(kept[name], self._cells(kept))
        anew = {name for name in FIXED if name in wanted and name not in kept}
        found, asked = (one[TABLE][0] - 1 if TABLE in one else 0 for one in (_shapes(kept), wanted))
        if found != asked:
            if not reinit_labels:
                raise ValueError(
                    f"{TABLE}: the weights know {found} classes, the recipe has {asked}; bring them in with "
                    "--reinit-labels, which starts the table anew, or set condition.label and the data to fit"
                )
            kept.pop(TABLE, None)
            anew |= {TABLE} & wanted.keys()
        return Fit(kept, cut, frozenset(anew))

    def write(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The same names, if the layout has a place for each.

        Raises:
            ValueError: It has not; the message names the tensors.
        """
        self._refuse_foreign(tensors, "the run has", "leave --layout out to keep genmem's names")
        return dict(tensors)

    def _refuse_foreign(self, names: Iterable[str], whose: str, way_out: str) -> None:
        pattern = re.compile("|".join(self.layout.names))
        foreign = sorted(name for name in names if not pattern.fullmatch(name))
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            raise ValueError(f"{whose} {', '.join(foreign[:3])}{more}, which the layout does not; {way_out}")

    def _tables(self, kept: Mapping[str, Tensor]) -> Mapping[str, Any]:
        layout = self.layout
        if not layout.tables:
            return {}
        backbone = {"use": layout.backbone, **describe_backbone(kept, layout.backbone), **layout.options}
        labelled: Mapping[str, Any] = {} if TABLE in kept else {"condition": {}}
        return {
            **layout.tables,
            **labelled,
            "backbone": backbone,
            "data": {"tokenizer": {"use": "preview"}},
        }

    def _cells(self, tensors: Mapping[str, Tensor]) -> int:
        """p · p: the last layer has so many groups of rows, the variance last in each."""
        return tensors["x_embedder.proj.weight"].shape[2] ** 2


def _renumber(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """REPA's early files: `decoder_blocks.i` follow the last of `blocks.i`."""
    numbers = [int(match[1]) for name in tensors if (match := _BLOCK.match(name))]
    first = 1 + max(numbers, default=-1)
    return {
        _OLD_BLOCK.sub(lambda match: f"blocks.{first + int(match[1])}.", name): value
        for name, value in tensors.items()
    }


def _without_variance(rows: Tensor, cells: int) -> Tensor:
    halves = rows.view(cells, 2, len(rows) // (2 * cells), *rows.shape[1:])
    return halves[:, 0].flatten(0, 1)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: value.shape for name, value in tensors.items()}
