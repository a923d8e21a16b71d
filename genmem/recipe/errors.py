"""Problems of a recipe, all of them at once, each with its file, its place and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import attrs

Path = tuple[str, ...]
"""Keys from the top of a recipe to a value; an element of a list is "[3]"."""


def dotted(path: Path) -> str:
    """ "optimizer.betas[1]" for ("optimizer", "betas", "[1]")."""
    return "".join(key if key.startswith("[") else f".{key}" for key in path).removeprefix(".")


class Origin(NamedTuple):
    """Where a value was written."""

    file: str
    """A file, or the override on the command line."""

    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Fault(NamedTuple):
    """Something wrong at a place, before it is known who wrote it."""

    path: Path
    message: str


@attrs.frozen
class Problem:
    """Something wrong with a recipe."""

    origin: Origin
    message: str
    path: Path = ()

    def __str__(self) -> str:
        place = f" @ {dotted(self.path)}" if self.path else ""
        return f"{self.origin}: {self.message}{place}"


class RecipeError(ValueError):
    """A recipe cannot be used. `problems` has every reason, and so has the text, one on a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
