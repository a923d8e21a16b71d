"""The cost report of a network and its memories: data first, a table for people second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from genmem.profiling.activations import count_activation_bytes
from genmem.profiling.adapter import iterate_tensors
from genmem.profiling.costs import OWN, Macs, Parameters, count_macs, count_parameters

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from torch import nn

    from genmem.contracts import MemoryStore

TRUSTED = 0.01
"""Two counters that differ by more than this share have missed something."""


@attrs.frozen(kw_only=True)
class CostReport:
    """What a network costs. Counts of work are MACs (1 MAC = 2 FLOPs), of memory bytes."""

    name: str
    parameters: Parameters
    batch: int
    """Samples in the batch that was measured."""

    macs: Macs
    """Of one forward of that batch in evaluation."""

    activation_bytes: int
    """What a forward of that batch keeps for its backward."""

    memory_bytes: Mapping[str, int]
    """{memory: bytes of its rows}."""

    @property
    def macs_per_sample(self) -> float:
        """Forward MACs of one sample."""
        return self.macs.total / self.batch

    def to_json(self) -> dict[str, Any]:
        """Plain data; every key that counts work says MACs."""
        macs = attrs.asdict(self.macs)
        return {
            "name": self.name,
            "unit": "MAC",
            "batch": self.batch,
            "parameters": attrs.asdict(self.parameters),
            "forward_macs": macs
            | {"disagreement": self.macs.disagreement, "per_sample": self.macs_per_sample},
            "activation_bytes": self.activation_bytes,
            "memory_bytes": dict(self.memory_bytes),
        }

    def __rich__(self) -> Group:
        """Two tables: the network by its children, memory by its parts."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._network(), self._memory(), *(Text(line) for line in self._notes()))

    def _network(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.name), title_justify="left")
        table.add_column("part")
        table.add_column("parameters", justify="right")
        table.add_column("forward MACs a sample", justify="right")
        parts = [part for part in self.macs.by_child if part != OWN] + [OWN]
        for part in parts:
            macs = self.macs.by_child.get(part, 0) / self.batch
            table.add_row(Text(part), f"{self.parameters.by_child.get(part, 0):,}", format_count(macs))
        table.add_section()
        table.add_row("all", f"{self.parameters.total:,}", format_count(self.macs_per_sample))
        return table

    def _memory(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table()
        table.add_column("memory")
        table.add_column("bytes", justify="right")
        table.add_row(f"activations, batch {self.batch}", format_bytes(self.activation_bytes))
        for name, size in self.memory_bytes.items():
            table.add_row(Text(name), format_bytes(size))
        return table

    def _notes(self) -> Iterator[str]:
        yield f"{self.parameters.trainable:,} parameters train; 1 MAC = 2 FLOPs"
        apart = self.macs.disagreement
        if apart is None:
            yield f"MACs not cross-checked: {self.macs.cross_check_error}"
        elif apart > TRUSTED:
            yield (
                f"MACs not to be trusted: fvcore counts {format_count(self.macs.total)}, "
                f"torch {format_count(self.macs.cross_check or 0)}, {apart:.1%} apart"
            )
        else:
            yield f"MACs cross-checked with torch's counter: {apart:.2%} apart"
        elements = sum(self.macs.elementwise.values()) / self.batch
        yield f"norms and elementwise operators, no MACs, write {format_count(elements)} elements a sample"


def measure_costs(
    name: str, module: nn.Module, inputs: tuple[Any, ...], memories: Mapping[str, MemoryStore] | None = None
) -> CostReport:
    """Costs of `module(*inputs)`; runs a few forwards of that batch and changes nothing.

    Args:
        name: What the report is titled.
        module: The network, eager, on a real device.
        inputs: Its positional arguments; the first tensor's first dimension is the batch.
        memories: Stores by name.

    Raises:
        ValueError: A compiled module, one on the meta device, or inputs without a tensor.
    """
    first = next(iterate_tensors(inputs), None)
    if first is None:
        raise ValueError("inputs hold no tensor")
    return CostReport(
        name=name,
        parameters=count_parameters(module),
        batch=len(first),
        macs=count_macs(module, inputs),
        activation_bytes=count_activation_bytes(module, inputs),
        memory_bytes={name: store.num_bytes() for name, store in (memories or {}).items()},
    )


def format_count(count: float) -> str:
    """A count with a decimal prefix: 1 240 000 is "1.24 M"."""
    return _prefixed(count, 1000.0, ("", "k", "M", "G", "T", "P")).rstrip()


def format_bytes(count: float) -> str:
    """Bytes with a binary prefix: 1 572 864 is "1.50 MiB"."""
    return _prefixed(count, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _prefixed(count: float, step: float, prefixes: tuple[str, ...]) -> str:
    power = 0
    while abs(count) >= step and power < len(prefixes) - 1:
        count, power = count / step, power + 1
    return f"{count:.2f} {prefixes[power]}" if power else f"{count:.0f} {prefixes[0]}"
