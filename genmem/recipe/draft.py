"""A recipe as far as it could be read, for checks that run whatever else is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from genmem.recipe.errors import Fault, Path
from genmem.recipe.shapes import default_of, fields_of, key_of
from genmem.recipe.structure import Torn, words
from genmem.recipe.tables import Recipe


class Draft:
    """What the checks look at. Their questions to components are asked here, so that a component
    that fails to answer is one fault at its own place."""

    def __init__(self, read: Recipe | Torn) -> None:
        self.faults: list[Fault] = []
        self._read = read

    def at(self, *path: str) -> Any:
        """The value at this place; None where there is none, or it could not be read."""
        found = self._reach(path)
        return None if isinstance(found, Torn) else found

    def names(self, *path: str) -> tuple[str, ...]:
        """Names of the named tables at this place, torn ones included."""
        found = self._reach(path)
        return tuple(found) if isinstance(found, Mapping) else ()

    def whole(self, *path: str) -> bool:
        """Whether everything at this place could be read."""
        found = self._reach(path)
        parts = found.values() if isinstance(found, Mapping) else [found]
        return not any(isinstance(part, Torn) for part in parts)

    def component(self, *path: str, place: Path | None = None) -> Asked:
        """The component seated at this place, to be asked."""
        return Asked(self.faults, self.at(*path, "config"), place or path)

    def objective(self, name: str) -> Asked:
        """The component of this objective, to be asked."""
        return self.component("objective", name, "objective", place=("objective", name))

    def _reach(self, path: Path) -> Any:
        found: Any = self._read
        for key in path:
            if isinstance(found, Torn):
                found = found.values[key] if key in found.values else _default(found.cls, key)
            elif isinstance(found, Mapping):
                found = found.get(key)
            else:
                found = getattr(found, key, None)
        return found


@attrs.frozen
class Asked:
    """A component's config, asked for what it says of itself."""

    faults: list[Fault]
    config: Any
    place: Path

    def __call__(self, question: str, *args: Any) -> Any:
        """Its answer; None where the component is not known or fails, which is then a fault."""
        if self.config is None:
            return None
        try:
            answer = getattr(self.config, question)
            return answer(*args) if args else answer
        except Exception as error:
            fault = Fault(self.place, f"{question}: {words(error)}")
            if fault not in self.faults:
                self.faults.append(fault)
            return None


def _default(cls: type[Any], key: str) -> Any:
    fields = fields_of(cls) if attrs.has(cls) else ()
    found = next((default_of(field) for field in fields if key_of(field) == key), None)
    return None if found is attrs.NOTHING else found
