"""The protocol of a score: everything that moves it, as one value with a short hash.

Two scores may stand in one column only where their protocols are the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs

VERSION = 1
"""Version of the scoring code; raised with every change that moves a score."""

LABELS: Mapping[str, str] = {
    "uniform": "drawn uniformly by sample number",
    "balanced": "each class in turn, equally many",
}
"""What a protocol says of `evaluate.labels`."""

_ABSENT = "(absent)"

Json: TypeAlias = "bool | int | float | str | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None"


class ProtocolMismatch(ValueError):
    """Scores of different protocols were to be compared."""


def _freeze(value: Any, path: str) -> Any:
    """`value` as immutable plain data; 4.0 and 4 are one value.

    Raises:
        TypeError, ValueError: What JSON cannot say, with its key path.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"protocol.{path}: {value} is no number a protocol can hold")
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return tuple(_freeze(part, f"{path}.{number}") for number, part in enumerate(value))
    if isinstance(value, Mapping):
        strange = [key for key in value if not isinstance(key, str)]
        if strange:
            raise TypeError(f"protocol.{path}: keys must be text, got {strange[0]!r}")
        return MappingProxyType({key: _freeze(value[key], f"{path}.{key}") for key in sorted(value)})
    raise TypeError(f"protocol.{path}: {type(value).__name__} is not plain data")


def _thaw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _thaw(part) for key, part in value.items()}
    return [_thaw(part) for part in value] if isinstance(value, tuple) else value


def _convert(value: Any, _: object, field: attrs.Attribute[Any]) -> Any:
    return _freeze(value, field.name)


_PLAIN = attrs.Converter(_convert, takes_self=True, takes_field=True)


def _requires(*keys: str) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    """A validator: the value is a table with at least these keys."""

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"protocol.{attribute.name} must be a table, got {value!r}")
        missing = [key for key in keys if key not in value]
        if missing:
            raise ValueError(f"protocol.{attribute.name} has {list(value)}, lacks {missing}")

    return check


def _value(default: Any = attrs.NOTHING) -> Any:
    return attrs.field(default=default, converter=_PLAIN)


def _table(*keys: str) -> Any:
    """A field that holds a table with at least these keys."""
    return attrs.field(converter=_PLAIN, validator=_requires(*keys))


def _table_or_none(*keys: str) -> Any:
    return attrs.field(converter=_PLAIN, validator=attrs.validators.optional(_requires(*keys)))


@attrs.frozen(kw_only=True, eq=False)
class Protocol:
    """Everything that moves a score. Plain data, immutable; nothing has a silent default."""

    sampler: Mapping[str, Json] = _table("use")
    """Name and settings, the rule of the last step among them."""

    steps: int | None = _value()
    """Network evaluations of one sample; None where they depend on the sample."""

    guidance: Mapping[str, Json] | None = _table_or_none("use")
    """Name, scale, interval, channels; None: no guidance."""

    conditions: Mapping[str, Json] = _table("rule")
    """How labels or memory rows were dealt to the samples."""

    seeds: tuple[int, ...] = _value()
    """One seed for each repetition."""

    samples: int = _value()
    """Samples scored in each repetition."""

    rounding: str = _value()
    """From the decoder's numbers to uint8."""

    decoder: Mapping[str, Json] = _table("use", "weights")
    """Tokenizer, and the hash of its weights ("" where it has none)."""

    features: Mapping[str, Json] = _table("use", "weights")
    """Encoder, its settings, and the hash of its weights or of what it was fitted to."""

    reference: Mapping[str, Json] = _table("name", "count", "hash")
    """What the samples are compared with."""

    weights: str = _value()
    """Which weights were sampled: the name of an EMA, or "online"."""

    memory: Mapping[str, Json] | None = _table_or_none("identity", "rows", "drawn")
    """The memory that conditions: what it is, rows in use, how they were drawn."""

    precision: str = _value()
    """Of the network's evaluations."""

    version: int = _value(default=VERSION)
    """Of the scoring code."""

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits: the start of SHA-256 over the canonical JSON."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` gives the same protocol back."""
        return {field.name: _thaw(getattr(self, field.name)) for field in attrs.fields(Protocol)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Protocol:
        """A protocol from `to_json`.

        Raises:
            TypeError, ValueError: Keys that are unknown or missing, or values no protocol holds.
        """
        names = {field.name for field in attrs.fields(cls)}
        unknown, missing = sorted(set(data) - names), sorted(names - set(data))
        if unknown or missing:
            raise ValueError(f"no protocol of this version: unknown keys {unknown}, missing keys {missing}")
        return cls(**data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Protocol) and self._canonical() == other._canonical()

    def __hash__(self) -> int:
        return hash(self._canonical())

    def _canonical(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)


def difference(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """{key path: (value in a, value in b)} where they differ; "(absent)" where one has no such key."""
    flat_a, flat_b = dict(_flatten(a.to_json())), dict(_flatten(b.to_json()))
    paths = sorted(flat_a.keys() | flat_b.keys())
    pairs = {path: (flat_a.get(path, _ABSENT), flat_b.get(path, _ABSENT)) for path in paths}
    return {path: (found, other) for path, (found, other) in pairs.items() if found != other}


def check_comparable(a: Protocol, b: Protocol, *, force: bool = False) -> None:
    """Refuse to put scores of two protocols in one column, unless forced.

    Raises:
        ProtocolMismatch: With every key in which they differ.
    """
    apart = difference(a, b)
    if apart and not force:
        lines = [f"  {path}: {found!r} and {other!r}" for path, (found, other) in apart.items()]
        raise ProtocolMismatch(
            "\n".join([f"scores of protocols {a.digest} and {b.digest} are not comparable:", *lines])
        )


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(key path, value) of every leaf; a list is one value, and so is an empty table."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        path = f"{prefix}{key}"
        pairs += _flatten(value, f"{path}.") if isinstance(value, dict) and value else [(path, value)]
    return pairs
