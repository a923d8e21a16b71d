"""The table of scores, as data and as text."""

import io
import json
import math

import pytest
from rich.console import Console

from genmem.scoring.table import Cell, Column, Row, ScoreTable


def table() -> ScoreTable:
    columns = (
        Column(key="fd", title="FD [plain]", digits=2),
        Column(key="energy", title="energy", digits=4, multiples=False),
        Column(key="labels", title="labels", better="higher", unit="share", digits=1),
    )
    rows = (
        Row(
            name="noise",
            cells={
                "fd": Cell.of(45.0),
                "energy": Cell.of(math.nan),
                "labels": Cell(None, "has no labels [here]"),
            },
        ),
        Row(name="samples", cells={"fd": Cell.of(0.69), "energy": Cell.of(0.007), "labels": Cell.of(0.9812)}),
        Row(
            name="held-out rows",
            cells={"fd": Cell.of(0.84), "energy": Cell.of(0.01), "labels": Cell.of(0.97)},
            protocol="11112222",
            floor={"fd": 0.7},
        ),
    )
    return ScoreTable(
        title="digits", protocol="aaaabbbb", columns=columns, rows=rows, floor={"fd": 0.46, "energy": 0.001}
    )


def rendered(scores: ScoreTable) -> str:
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(scores)
    return console.file.getvalue()


def test_table_to_json_and_back() -> None:
    text = json.dumps(table().to_json(), allow_nan=False)
    assert ScoreTable.from_json(json.loads(text)) == table()


def test_a_row_has_its_own_floor() -> None:
    scores = table()
    assert scores.times_floor(scores["samples"], "fd") == pytest.approx(0.69 / 0.46)
    assert scores.times_floor(scores["held-out rows"], "fd") == pytest.approx(0.84 / 0.7)
    assert scores.times_floor(scores["noise"], "labels") is None


def test_what_is_absent_says_why() -> None:
    assert table().reasons() == [
        "noise, energy: the score is nan",
        "noise, labels: has no labels [here]",
    ]


def test_rendering() -> None:
    lines = rendered(table()).splitlines()
    cells = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:-1]]
        for line in lines
        if "│" in line
    }
    assert cells["noise"] == ["45.00 (97.8×)", "–", "–"]
    assert cells["samples"] == ["0.69 (1.5×)", "0.0070", "98.1 %"]
    assert cells["held-out rows [1]"] == ["0.84 (1.2×)", "0.0100", "97.0 %"]
    heading = next(line for line in lines if "pictures" in line)
    assert "FD [plain] ↓" in heading and "labels ↑" in heading
    assert lines[-5:] == [
        "protocol aaaabbbb",
        "(n×): multiple of the floor, the score of real pictures",
        "[1] protocol 11112222, floor FD [plain] 0.70",
        "– noise, energy: the score is nan",
        "– noise, labels: has no labels [here]",
    ]


def test_tables_that_do_not_fit_together_are_refused() -> None:
    column = Column(key="fd", title="FD")
    row = Row(name="samples", cells={"fd": Cell.of(1.0)})
    with pytest.raises(
        ValueError, match=r"row 'samples': unknown columns \['fd'\], missing columns \['kid'\]"
    ):
        ScoreTable(title="", protocol="", columns=(Column(key="kid", title="KID"),), rows=(row,))
    with pytest.raises(ValueError, match="two rows of one name"):
        ScoreTable(title="", protocol="", columns=(column,), rows=(row, row))
    with pytest.raises(ValueError, match=r"floor of unknown columns \['kid'\]"):
        ScoreTable(title="", protocol="", columns=(column,), rows=(row,), floor={"kid": 1.0})
    with pytest.raises(KeyError, match="no row 'noise'"):
        ScoreTable(title="", protocol="", columns=(column,), rows=(row,))["noise"]
    with pytest.raises(ValueError, match="needs a reason"):
        Cell(None)
    with pytest.raises(ValueError, match=r"got nan: use Cell\.of"):
        Cell(math.nan)
