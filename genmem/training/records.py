"""Lines of a run's logs: one JSON object each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from genmem.data.files import write_text


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without numbers that are not finite: JSON knows none."""
    return {
        key: value for key, value in record.items() if not isinstance(value, float) or math.isfinite(value)
    }


def encode(record: Mapping[str, Any]) -> str:
    """A record as a line."""
    return json.dumps(finite(record), allow_nan=False) + "\n"


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Every record; a last line cut short by a kill is left out."""
    records = []
    for line in file.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def keep_lines(file: Path, stays: Callable[[Mapping[str, Any]], bool]) -> None:
    """Rewrite a file, where there is one, with the records that stay."""
    if file.exists():
        write_text(file, "".join(encode(record) for record in read_lines(file) if stays(record)))
