"""What one recipe costs beside another: the answer to "what does this objective cost?"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from genmem.profiling.report import CostReport, format_bytes, format_count

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table


@attrs.frozen
class Difference:
    """A recipe against a baseline, in training and at inference."""

    baseline: CostReport
    report: CostReport

    def parts(self) -> dict[str, dict[str, tuple[float, float]]]:
        """{"training" or "inference": {part: (baseline, recipe)}}; 0 where one has no such part."""
        return {
            moment: _pair(getattr(self.baseline, moment)(), getattr(self.report, moment)())
            for moment in ("training", "inference")
        }

    def to_json(self) -> dict[str, Any]:
        """Both reports, and for every part both values and their difference."""
        return {
            "baseline": self.baseline.to_json(),
            "recipe": self.report.to_json(),
            "difference": {
                moment: {
                    part: {"baseline": before, "recipe": after, "difference": after - before}
                    for part, (before, after) in pairs.items()
                }
                for moment, pairs in self.parts().items()
            },
        }

    def __rich__(self) -> Group:
        """A table of both, and a sentence."""
        from rich.console import Group
        from rich.text import Text

        return Group(self._table(), Text(self.sentence()))

    def sentence(self) -> str:
        """The difference in words."""
        parts = self.parts()
        changed = [part for part, (before, after) in parts["inference"].items() if before != after]
        inference = "the same to the last digit" if not changed else f"another {', '.join(changed)}"
        before, after = parts["training"]["FLOPs an image"]
        share = (after - before) / before if before else 0.0
        return f"training: {share:+.2%} FLOPs an image; inference: {inference}"

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(f"{self.report.name} against {self.baseline.name}"), title_justify="left")
        table.add_column("")
        for name in (self.baseline.name, self.report.name, "difference", "%"):
            table.add_column(Text(name), justify="right")
        for moment, pairs in self.parts().items():
            table.add_section()
            table.add_row(Text(moment, style="bold"))
            for part, (before, after) in pairs.items():
                table.add_row(Text(f"  {part.removeprefix('bytes/')}"), *_cells(part, before, after))
        return table


def _pair(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[float, float]]:
    return {part: (before.get(part, 0), after.get(part, 0)) for part in dict.fromkeys((*before, *after))}


def _cells(part: str, before: float, after: float) -> tuple[str, str, str, str]:
    change = after - before
    share = f"{change / before:+.2%}" if before else "new" if change else ""
    if part == "parameters":
        return f"{before:,}", f"{after:,}", f"{change:+,}" if change else "0", share
    show = format_bytes if part.startswith("bytes/") else format_count
    return show(before), show(after), ("+" if change > 0 else "") + show(change), share
