"""Raw tables to a recipe: every component resolved, every value read, every fault kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
from cattrs.errors import StructureHandlerNotFoundError

from genmem.host import Catalog, Component, PluginError, did_you_mean
from genmem.recipe.errors import Fault, Path, dotted
from genmem.recipe.shapes import Shape, fields_of, key_of, shape_of
from genmem.recipe.tables import Seat
from genmem.recipe.values import Unfit, make_converter, shown

NONE = "none"
"""Stands in a recipe for a table or a value that is taken away."""

NAME = re.compile(r"[A-Za-z0-9_-]+")

ABSENT: Any = object()
"""In place of a value that is not there, or could not be read."""


@attrs.frozen
class Torn:
    """What could be read of a table that has faults."""

    cls: type[Any]
    values: Mapping[str, Any]


class Reader:
    """Reads the tables of one recipe and collects their faults."""

    def __init__(self, catalog: Catalog) -> None:
        self.faults: list[Fault] = []
        self._catalog = catalog
        self._converter = make_converter()
        self._keys: dict[Path, dict[str, None]] = {}
        self._unknown: list[Path] = []

    def read(self, cls: type[Any], raw: Mapping[str, Any]) -> Any:
        """An instance of `cls`, or `Torn`; it is to be used only if `faults` is empty after."""
        self._know_core(cls, ())
        read = self._table(cls, raw, ())
        self.faults += [Fault(path, self._explain(path)) for path in self._unknown]
        return read

    def _know_core(self, cls: type[Any], path: Path) -> None:
        """Keys of the core's tables, whether or not the recipe has them: a lost key may be theirs."""
        for field in fields_of(cls):
            shape = shape_of(field)
            if shape.how == "table":
                self._know((*path, key_of(field)), map(key_of, fields_of(shape.of)))
                self._know_core(shape.of, (*path, key_of(field)))

    def _know(self, path: Path, keys: Iterable[str]) -> None:
        self._keys.setdefault(path, {}).update(dict.fromkeys(keys))

    def _table(self, cls: type[Any], raw: Any, path: Path) -> Any:
        if not isinstance(raw, Mapping):
            self._fault(path, f"expected a table, got {shown(raw)}")
            return Torn(cls, {})
        before = len(self.faults)
        values = self._fields(cls, raw, path)
        self._validate(cls, values, path)
        if len(self.faults) > before:
            return Torn(cls, values)
        try:
            return cls(**values)
        except Exception as error:
            self._fault(path, words(error))
            return Torn(cls, values)

    def _fields(self, cls: type[Any], raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """What could be read of the table's fields, by key."""
        shapes = {key_of(field): shape_of(field) for field in fields_of(cls)}
        own = [key for key, shape in shapes.items() if shape.how != "inline"]
        rest = {key: value for key, value in raw.items() if key not in own}
        self._know(path, own)
        values = {key: self._field(shapes[key], raw.get(key, ABSENT), (*path, key)) for key in own}
        for key in shapes.keys() - own:
            values[key] = self._seat(shapes[key].of, rest, path)
        if len(own) == len(shapes):
            self._unknown += [(*path, key) for key in rest]
        return {key: value for key, value in values.items() if value is not ABSENT}

    def _field(self, shape: Shape, given: Any, path: Path) -> Any:
        """The value of one field, ABSENT where there is none or it could not be read."""
        if given == NONE and shape.how != "value":
            given = None if shape.optional else ABSENT
        if given is None:
            return None
        if given is ABSENT:
            if shape.required:
                self._fault(path, f"missing {'key' if shape.how == 'value' else 'table'} {path[-1]!r}")
            return ABSENT
        match shape.how:
            case "table":
                return self._table(shape.of, given, path)
            case "seat":
                return self._seat(shape.of, given, path)
            case "seats":
                return self._named(given, path, lambda raw, place: self._seat(shape.of, raw, place))
            case "tables":
                return self._named(given, path, lambda raw, place: self._table(shape.of, raw, place))
        return self._plain(shape.of, given, path)

    def _plain(self, of: Any, given: Any, path: Path) -> Any:
        try:
            return self._converter.structure(given, of)
        except Unfit as error:
            self.faults += [Fault((*path, *fault.path), fault.message) for fault in error.faults]
        except StructureHandlerNotFoundError:
            self._fault(path, f"the plugin asks for a value of type {of}, which no recipe can give")
        except Exception as error:
            self._fault(path, words(error))
        return ABSENT

    def _named(self, raw: Any, path: Path, read: Callable[[Any, Path], Any]) -> dict[str, Any] | Torn:
        if not isinstance(raw, Mapping):
            self._fault(path, f"expected named tables, [{dotted(path)}.NAME], got {shown(raw)}")
            return Torn(dict, {})
        if isinstance(raw.get("use"), str):
            self._fault(path, f"the tables here have names that you choose: write [{dotted(path)}.NAME]")
            return Torn(dict, {})
        self._know(path, raw)
        for name in raw:
            if not NAME.fullmatch(name):
                self._fault((*path, name), "the name of a table is made of letters, digits, - and _")
        return {name: read(table, (*path, name)) for name, table in raw.items() if table != NONE}

    def _seat(self, kind: str, raw: Any, path: Path) -> Any:
        """A component with its settings."""
        if not isinstance(raw, Mapping):
            self._fault(path, f'expected a table with use = "NAME", got {shown(raw)}')
            return Torn(Seat, {})
        self._know(path, ["use"])
        use = raw.get("use", ABSENT)
        component = self._component(kind, use, (*path, "use"))
        if component is None:
            return Torn(Seat, {})
        config = self._table(component.config, {key: raw[key] for key in raw if key != "use"}, path)
        if isinstance(config, Torn):
            return Torn(Seat, {"use": component.name, "config": config})
        return Seat(component.name, config)

    def _component(self, kind: str, use: Any, path: Path) -> Component | None:
        names = [component.name for component in self._catalog.components(kind)]
        if use is ABSENT:
            self._fault(path, f"missing key 'use', the name of a {kind}: {', '.join(names)}")
        elif not isinstance(use, str):
            self._fault(path, f"expected the name of a {kind} ({', '.join(names)}), got {shown(use)}")
        else:
            try:
                return self._catalog.find(kind, use)
            except PluginError as error:
                self._fault(path, str(error))
        return None

    def _validate(self, cls: type[Any], values: Mapping[str, Any], path: Path) -> None:
        """Run each field's validator by itself: all faults are found, each at its own key."""
        blank = object.__new__(cls)
        known = [field for field in fields_of(cls) if key_of(field) in values]
        for field in known:
            object.__setattr__(blank, field.name, values[key_of(field)])
        for field in known:
            value = values[key_of(field)]
            if field.validator is None or isinstance(value, Torn):
                continue
            try:
                field.validator(blank, field, value)
            except AttributeError:  # it looks at a field that could not be read, which is told already
                continue
            except Exception as error:
                self._fault((*path, key_of(field)), words(error))

    def _fault(self, path: Path, message: str) -> None:
        self.faults.append(Fault(path, message))

    def _explain(self, path: Path) -> str:
        """An unknown key, and where it might belong: another table first, then a near name."""
        table, key = path[:-1], path[-1]
        up = [table[:-1]] if table else []
        down = [place for place in self._keys if place and place[:-1] == table]
        beside = [place for place in self._keys if table and place and place[:-1] == table[:-1]]
        for where, places in (("it belongs one level up", up), ("it belongs one level down", down)):
            for place in self._with(key, places):
                return f"unknown key {key!r}; {where}, {place}"
        for place in self._with(key, beside):
            return f"unknown key {key!r}; there is one {place}"
        known = self._keys[table]
        near = did_you_mean(key, known)
        return f"unknown key {key!r}" + (near or f"; there are: {', '.join(known) or 'none'}")

    def _with(self, key: str, places: Iterable[Path]) -> list[str]:
        having = [place for place in places if key in self._keys.get(place, ())]
        return [f"in [{dotted(place)}]" if place else "at the top of the recipe" for place in having]


def words(error: Exception) -> str:
    """What a validator said; with the error's type where it was no plain refusal."""
    said = str(error.args[0]) if error.args else type(error).__name__
    return said if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__}: {said}"
