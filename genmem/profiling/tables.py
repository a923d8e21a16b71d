"""A cost report as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from genmem.profiling.costs import OWN
from genmem.profiling.report import CostReport, format_bytes, format_count

DEPTH = 3
"""Levels of the module tree that are shown."""


def show(report: CostReport) -> Group:
    """The network by its modules, memory by its parts, and what has to be said of both."""
    return Group(_network(report), _memory(report), *(Text(line) for line in _notes(report)))


class Branch(NamedTuple):
    """One line of the module tree."""

    name: str
    depth: int
    parameters: int
    macs: int
    alike: int = 1
    """So many siblings in a row that cost the same."""

    @property
    def label(self) -> str:
        """Its place, indented, with the number of those like it."""
        leaf = self.name.rpartition(".")[2]
        last = int(leaf) + self.alike - 1 if self.alike > 1 else None
        return "  " * self.depth + (leaf if last is None else f"{leaf} … {last} (each)")


def tree(report: CostReport) -> list[Branch]:
    """Modules in order, to the depth shown; equal numbered siblings are one line, and so is what is all
    there is of its parent."""
    parameters, macs = report.parameters.by_module, report.macs.by_module
    found: list[Branch] = []
    for name in macs:
        depth = name.count(".")
        branch = Branch(name, depth, parameters.get(name, 0), macs[name])
        parent = name.rpartition(".")[0]
        whole = (parameters.get(parent, 0), macs.get(parent, 0))
        if depth < DEPTH and any(branch[2:4]) and branch[2:4] != whole:
            found.append(branch)
    return list(_folded(found))


def _folded(branches: list[Branch]) -> Iterator[Branch]:
    place = 0
    while place < len(branches):
        first = branches[place]
        inner = _inner(branches, place)
        alike, end = 1, place + 1 + len(inner)
        while end < len(branches) and _same(first, alike, inner, branches, end):
            alike, end = alike + 1, end + 1 + len(inner)
        yield first._replace(alike=alike)
        yield from _folded(inner)
        place = end


def _inner(branches: list[Branch], place: int) -> list[Branch]:
    prefix = branches[place].name + "."
    end = place + 1
    while end < len(branches) and branches[end].name.startswith(prefix):
        end += 1
    return branches[place + 1 : end]


def _same(first: Branch, alike: int, inner: list[Branch], branches: list[Branch], place: int) -> bool:
    """Whether the module there is the `alike`-th number after `first`, with the same costs inside."""
    other = branches[place]
    parent, _, leaf = first.name.rpartition(".")
    if not leaf.isdigit() or other.name != f"{parent}.{int(leaf) + alike}".lstrip("."):
        return False
    costs = [branch[1:4] for branch in (first, *inner)]
    return costs == [branch[1:4] for branch in (other, *_inner(branches, place))]


def _network(report: CostReport) -> Table:
    table = Table(title=Text(report.name), title_justify="left")
    table.add_column("module")
    table.add_column("parameters", justify="right")
    table.add_column("forward MACs a sample", justify="right")
    for branch in tree(report):
        table.add_row(Text(branch.label), f"{branch.parameters:,}", format_count(branch.macs))
    own = report.parameters.by_child.get(OWN, 0), report.macs.by_child.get(OWN, 0)
    if any(own):
        table.add_row(OWN, f"{own[0]:,}", format_count(own[1]))
    table.add_section()
    table.add_row("all", f"{report.parameters.total:,}", format_count(report.macs.total))
    return table


def _memory(report: CostReport) -> Table:
    held = report.footprint
    table = Table()
    table.add_column("memory of one process")
    table.add_column(f"training, batch {held.micro_batch}", justify="right")
    table.add_column(f"inference, batch {held.sample_batch}", justify="right")
    for part in dict.fromkeys((*held.training, *held.inference)):
        cells = (_cell(part, held.training), _cell(part, held.inference))
        table.add_row(Text(part), *cells)
    table.add_section()
    table.add_row("all", *map(format_bytes, held.totals()))
    return table


def _cell(part: str, sizes: Mapping[str, int]) -> str:
    return format_bytes(sizes[part]) if part in sizes else "-"


def _notes(report: CostReport) -> Iterator[str]:
    step, macs = report.step, report.macs
    yield (
        f"training: {format_count(step.flops_per_image)}FLOPs an image, forward and backward of everything; "
        f"{report.training_parameters:,} parameters train; 1 MAC = 2 FLOPs"
    )
    if step.real:
        yield f"measured with zeros instead of shapes alone, because: {step.real}"
    yield from report.doubts()
    if not report.doubts():
        own = ", and is the backbone's own sum" if report.worked_out else ""
        apart = macs.disagreement
        check = f"not cross-checked: {macs.cross_check_error}" if apart is None else f"{apart:.2%} apart"
        yield f"MACs by fvcore, cross-checked with torch's counter: {check}{own}"
    yield (
        f"products write {format_count(macs.activations)} elements a sample; norms and elementwise "
        f"operators, no MACs, {format_count(sum(macs.elementwise.values()))}"
    )
    for name, size in report.footprint.elsewhere.items():
        yield f"{name}: {format_bytes(size)} more lie on disk or on the host"
