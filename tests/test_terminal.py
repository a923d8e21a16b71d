"""Tables in a narrow terminal: nothing is wider than it, and no number is cut."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from comparing_parts import make_memory_run, make_run
from rich.cells import cell_len
from rich.console import Console

from genmem.comparing.comparison import compare
from genmem.comparing.session import show
from genmem.scoring.table import Cell as Score
from genmem.terminal import Cell, Column, fit

NAMES = ("plain", "objective.spread.weight=0.5", "a name\n  and a note below it")
COLUMNS = [
    Column("parameters", [Cell(("329.99 k",)), Cell(("1.24 M",)), Cell(("–",))]),
    Column(
        "FD random-conv ↓", [Cell(("0.951", "± 0.014")), Cell(("11.224", "± 0.019")), Cell(("0.7",), "bold")]
    ),
    Column("FLOPs a sample", [Cell(("170.60 MFLOPs",))] * 3),
    Column("repeated over", [Cell(("1 seed × 3 noises",))] * 3),
]


def printed(width: int, *things: object) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(*things, sep="\n")
    return file.getvalue()


@pytest.mark.parametrize("width", [44, 60, 80, 100, 200])
def test_no_line_is_too_wide_and_no_number_is_cut(width: int) -> None:
    text = printed(width, *fit("told the class label", "run", NAMES, COLUMNS, width))
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    for column in COLUMNS:
        for cell in column.cells:
            assert all(part in text for part in cell.parts)


def test_with_room_a_row_is_one_line_and_without_the_columns_are_shared_out() -> None:
    wide = list(fit("t", "run", NAMES[:2], [Column(c.title, c.cells[:2]) for c in COLUMNS], 200))
    assert len(wide) == 1 and len(printed(200, *wide).splitlines()) == 7
    assert "0.951 ± 0.014" in printed(200, *wide)
    narrow = list(fit("t", "run", NAMES, COLUMNS, 50))
    assert [str(table.title) for table in narrow] == ["t", *["continued"] * (len(narrow) - 1)]
    titles = [str(column.header) for table in narrow for column in table.columns[1:]]
    assert titles == [column.title for column in COLUMNS]


def test_a_comparison_fits_into_80_columns(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "plain", Score.of_several([2.0, 2.1])),
        make_run(tmp_path / "a-longer-name-of-another-run", 1.0, "--optimizer.lr=0.002"),
        make_memory_run(tmp_path / "gmem", held_out=1.5, samples=1.0),
    ]
    file = io.StringIO()
    show(compare(runs), Console(file=file, width=80))
    text = file.getvalue()
    tables = [line for line in text.splitlines() if line[:1] in "│┃┏┡└"]
    assert tables and max(map(cell_len, tables)) <= 80 and "…" not in text
    assert "329.99 k" in text and "170.60 MFLOPs" in text and "± 0.071" in text
    assert text.count("pca, width 16") == text.count("told rows of a memory (pca, width 16") + 1
