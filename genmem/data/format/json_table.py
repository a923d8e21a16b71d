"""Strict reading of JSON: every value has the type asked for, and no key is left over."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genmem.data.errors import DataError

_NAMES = {dict: "a table", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class JsonTable:
    """A JSON object that is read key by key; `close` refuses what nobody read.

    Every method that takes a key raises `DataError`, naming file and key, where the key is missing
    or its value has another type.
    """

    def __init__(self, value: Any, file: Path, path: str = "") -> None:
        """The object `value`, found at the dotted `path` of `file`."""
        self._file, self._path = file, path
        if not isinstance(value, dict):
            raise DataError(f"{file}: {path or 'top level'}: expected a table, found {_name_type(value)}")
        self._left: dict[str, Any] = dict(value)

    @classmethod
    def load(cls, file: Path) -> JsonTable:
        """The object a file holds."""
        try:
            return cls(json.loads(file.read_bytes(), object_pairs_hook=_refuse_doubles), file)
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{file}: not readable as JSON: {error}") from error

    def error(self, key: str, problem: str) -> DataError:
        """An error that names file and key."""
        return DataError(f"{self._file}: {self._join(key)}: {problem}")

    def text(self, key: str) -> str:
        """Text."""
        return str(self._typed(key, self._take(key), str))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(str(self._typed(f"{key}[{i}]", v, str)) for i, v in enumerate(self._list(key)))

    def flag(self, key: str) -> bool:
        """True or false."""
        return bool(self._typed(key, self._take(key), bool))

    def count(self, key: str) -> int:
        """An integer, 0 or more."""
        return self._count(key, self._take(key))

    def counts(self, key: str) -> tuple[int, ...]:
        """A list of integers, 0 or more."""
        return tuple(self._count(f"{key}[{i}]", v) for i, v in enumerate(self._list(key)))

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        return tuple(self._number(f"{key}[{i}]", v) for i, v in enumerate(self._list(key)))

    def table(self, key: str) -> JsonTable:
        """A table inside this one."""
        return JsonTable(self._take(key), self._file, self._join(key))

    def items(self) -> Iterator[tuple[str, JsonTable]]:
        """Every key with its table; nothing is left afterwards."""
        for key in list(self._left):
            yield key, self.table(key)

    def tables(self, key: str) -> Iterator[JsonTable]:
        """The tables of a list."""
        for i, value in enumerate(self._list(key)):
            yield JsonTable(value, self._file, self._join(f"{key}[{i}]"))

    def plain(self, key: str) -> dict[str, Any]:
        """A table that is kept as it is."""
        return dict(self._typed(key, self._take(key), dict))

    def close(self) -> None:
        """Refuse keys that nobody read."""
        for key in self._left:
            raise self.error(key, "unknown key")

    def _take(self, key: str) -> Any:
        if key not in self._left:
            raise self.error(key, "missing")
        return self._left.pop(key)

    def _join(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _typed(self, key: str, value: Any, of: type) -> Any:
        if not isinstance(value, of):
            raise self.error(key, f"expected {_NAMES[of]}, found {_name_type(value)}")
        return value

    def _list(self, key: str) -> list[Any]:
        return list(self._typed(key, self._take(key), list))

    def _count(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(key, f"expected an integer, 0 or more, found {value!r}")
        return value

    def _number(self, key: str, value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.error(key, f"expected a finite number, found {value!r}")
        return float(value)


def _name_type(value: Any) -> str:
    return _NAMES.get(type(value), "a number")


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return table
