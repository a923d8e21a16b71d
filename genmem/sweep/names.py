"""Names of configurations: readable, safe as folders, the same every time, no two alike. No torch."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product

from genmem.sweep.axes import Axis

LONGEST_VALUE = 40
LONGEST_NAME = 150
"""File systems allow 255 bytes."""


def points(axes: Sequence[Axis]) -> list[tuple[str, tuple[str, ...]]]:
    """(name, overrides) of every point of the grid; one without a name where there is no axis.

    A point is called by the last parts of its keys: "rows=4096,temperature=0.1".
    """
    titles = titles_of([axis.key for axis in axes])
    columns = [list(zip(_value_names(axis), axis.words(), strict=True)) for axis in axes]
    found = []
    for point in product(*columns):
        parts = [f"{titles[axis.key]}={name}" for axis, (name, _) in zip(axes, point, strict=True)]
        found.append((_cut(",".join(parts), LONGEST_NAME), tuple(word for _, word in point)))
    return found


def titles_of(keys: Iterable[str]) -> dict[str, str]:
    """{key: the fewest last parts of it that no other key ends in}; `sampler.use` goes by `sampler`."""
    parts = {key: key.removesuffix(".use").split(".") for key in keys}
    titles = {}
    for key, own in parts.items():
        others = [other for name, other in parts.items() if name != key]
        length = next(
            (n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own)
        )
        titles[key] = safe(".".join(own[-length:]))
    return titles


def safe(text: str) -> str:
    """The text with letters, digits and `. _ + -` alone; a long one is cut and ends in a hash."""
    plain = text[1:-1] if re.fullmatch(r'"[^"]*"|\'[^\']*\'', text) else text
    return _cut(re.sub(r"[^A-Za-z0-9._+-]+", "_", plain) or "empty", LONGEST_VALUE)


def _value_names(axis: Axis) -> list[str]:
    names = [safe(value) for value in axis.values]
    seen = Counter(name.casefold() for name in names)  # some file systems do not tell a from A
    return [
        f"{name}-{_hash(value)}" if seen[name.casefold()] > 1 else name
        for name, value in zip(names, axis.values, strict=True)
    ]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 7]}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
