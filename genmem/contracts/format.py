"""The Format seat: how published weights of a backbone are laid out, both ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import attrs

from genmem.contracts.facts import Facts

if TYPE_CHECKING:
    from torch import Size, Tensor


class Reading(NamedTuple):
    """What a file of published weights holds, in genmem's terms."""

    tensors: Mapping[str, Tensor]
    """The backbone's weights, under the backbone's own names."""

    dropped: tuple[str, ...]
    """Names in the file that are no part of the backbone: projectors, say."""

    facts: Facts
    """The shapes the weights were made for."""

    tables: Mapping[str, Any]
    """The recipe they mean, as raw tables: at least `backbone`, `interpolant`, `condition`, `sampler`
    and `data.tokenizer`. Used where no recipe is given; core adds its own tables."""


class Fit(NamedTuple):
    """Weights brought to the shapes of a network."""

    tensors: Mapping[str, Tensor]
    """Those kept, whole or cut."""

    cut: Mapping[str, str]
    """{name: what of it was kept}."""

    anew: frozenset[str]
    """Names that a freshly initialised network has to give."""


class Format(Protocol):
    """A layout."""

    def read(self, tensors: Mapping[str, Tensor], shape: tuple[int, int, int] | None) -> Reading:
        """Weights by the layout's names, prefixes taken off, to the backbone's.

        Args:
            tensors: Of one network; not to be changed.
            shape: (C, H, W) of a sample, where the caller knows it; else the layout finds it out.

        Raises:
            ValueError: Names that are none of this layout's, or shapes that contradict each other.
        """

    def fit(self, tensors: Mapping[str, Tensor], wanted: Mapping[str, Size], reinit_labels: bool) -> Fit:
        """Bring weights that were read to a network's shapes, where that is a matter of the layout.

        Args:
            tensors: Under the backbone's own names.
            wanted: The shapes of the network's state dict.
            reinit_labels: Start the label table anew where it has another number of classes.

        Raises:
            ValueError: Another number of classes, and no leave to start the table anew.
        """

    def write(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The backbone's weights under the layout's names.

        Raises:
            ValueError: The layout has no place for a tensor; the message names it.
        """


@attrs.frozen(kw_only=True)
class FormatConfig(ABC):
    """A layout of published weights; named on the command line, not in recipes."""

    weights_time: ClassVar[Literal["data0", "data1"]]
    """Time of the data in the layout's own code."""

    @abstractmethod
    def build(self) -> Format:
        """The layout."""
