"""The texts that stand for classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Names = tuple[tuple[str, ...], ...]
"""The names of every class, in the order of labels."""


def read_names(path: Path, classes: int) -> Names:
    """A line for each class, in the order of labels: its name, and others it has, between commas.

    Raises:
        ValueError: Another number of lines than classes, a line without a name, or no UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error})") from error
    return check_names(str(path), [line.split(",") for line in lines], classes)


def check_names(origin: str, lines: Sequence[Sequence[str]], classes: int) -> Names:
    """The names, without the blanks around them.

    Raises:
        ValueError: As `read_names`; one name for two classes.
    """
    names = tuple(tuple(filter(None, (name.strip() for name in line))) for line in lines)
    if len(names) != classes:
        raise ValueError(f"{origin}: {len(names)} lines of names, expected {classes}, one for each class")
    empty = [number for number, line in enumerate(names) if not line]
    if empty:
        raise ValueError(f"{origin}: no name for class {empty[0]}")
    owners: dict[str, int] = {}
    for number, line in enumerate(names):
        for name in line:
            if owners.setdefault(name, number) != number:
                raise ValueError(f"{origin}: {name!r} is the name of classes {owners[name]} and {number}")
    return names
