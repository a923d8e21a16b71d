"""Values of a recipe to values of Python, strictly: nothing is cut, rounded or guessed.

An integer is taken for a float, text with a suffix for a number of images, "none" for None.
"""

from __future__ import annotations

import datetime
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import cattrs

from genmem.host import did_you_mean
from genmem.recipe.errors import Fault
from genmem.recipe.shapes import members
from genmem.recipe.tables import Images

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
IMAGES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(K|M|G|Ki|Mi|Gi)?")


class Unfit(ValueError):
    """A value is not of the type wanted of it; `faults` has the places inside it."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(fault.message for fault in faults))


def make_converter() -> cattrs.Converter:
    """A converter that reads values strictly and raises `Unfit`."""
    converter = cattrs.Converter(detailed_validation=False, forbid_extra_keys=True)
    for type_ in (int, float, str, bool, Path):
        converter.register_structure_hook(type_, _read_plain)
    converter.register_structure_hook_func(lambda of: of is Images, _read_images)
    converter.register_structure_hook_func(_is(Literal), _read_literal)
    converter.register_structure_hook_func(lambda of: len(members(of)) > 1, _reads(_read_union, converter))
    converter.register_structure_hook_func(_is(tuple), _reads(_read_tuple, converter))
    converter.register_structure_hook_func(_is(list, Sequence), _reads(_read_list, converter))
    converter.register_structure_hook_func(_is(dict, Mapping), _reads(_read_mapping, converter))
    converter.register_unstructure_hook(Path, str)
    return converter


def _is(*origins: Any) -> Callable[[Any], bool]:
    return lambda of: of in origins or typing.get_origin(of) in origins


def _reads(
    read: Callable[[Any, Any, cattrs.Converter], Any], converter: cattrs.Converter
) -> Callable[[Any, Any], Any]:
    return lambda value, of: read(value, of, converter)


def _unfit(value: Any, of: Any, more: str = "") -> Unfit:
    return Unfit(Fault((), f"expected {expected(of)}, got {shown(value)}{more}"))


def _read_plain(value: Any, of: Any) -> Any:
    if of is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise Unfit(Fault((), f"expected a finite number, got {value}"))
        return float(value)
    if of is Path and type(value) is str:
        return Path(value)
    if type(value) is not of:
        raise _unfit(value, of)
    return value


def _read_images(value: Any, of: Any) -> int:
    if type(value) is int:
        return value
    parts = IMAGES.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise _unfit(value, of)
    number = Decimal(parts[1]) * SUFFIXES[parts[2] or ""]
    if number != int(number):
        raise Unfit(Fault((), f"{value!r} is {number.normalize():f}, no whole number of images"))
    return int(number)


def _read_literal(value: Any, of: Any) -> Any:
    choices = typing.get_args(of)
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise _unfit(value, of, _nearest(value, choices))


def _nearest(value: Any, choices: Sequence[Any]) -> str:
    if not isinstance(value, str):
        return ""
    return did_you_mean(value, [choice for choice in choices if isinstance(choice, str)])


def _read_union(value: Any, of: Any, converter: cattrs.Converter) -> Any:
    wanted = [member for member in members(of) if member is not type(None)]
    literals = [member for member in wanted if typing.get_origin(member) is Literal]
    choices = [choice for literal in literals for choice in typing.get_args(literal)]
    if len(wanted) < len(members(of)) and value == "none" and "none" not in choices:
        return None
    if len(wanted) == 1:
        return converter.structure(value, wanted[0])
    for member in wanted:
        try:
            return converter.structure(value, member)
        except Unfit:
            continue
    raise _unfit(value, of, _nearest(value, choices))


def _read_tuple(value: Any, of: Any, converter: cattrs.Converter) -> tuple[Any, ...]:
    types = typing.get_args(of) or (Any, ...)
    if not isinstance(value, (list, tuple)):
        raise _unfit(value, of)
    if types[1:] == (...,):
        types = types[:1] * len(value)
    if len(types) != len(value):
        raise Unfit(Fault((), f"expected {len(types)} values, got {len(value)}"))
    return tuple(_read_each(enumerate(value), types, converter))


def _read_list(value: Any, of: Any, converter: cattrs.Converter) -> list[Any]:
    if not isinstance(value, list):
        raise _unfit(value, of)
    return _read_each(enumerate(value), (typing.get_args(of) or (Any,)) * len(value), converter)


def _read_mapping(value: Any, of: Any, converter: cattrs.Converter) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unfit(value, of)
    (each,) = typing.get_args(of)[1:] or (Any,)
    if each in (int, float):  # "none" takes away what a recipe below has set
        value = {key: item for key, item in value.items() if item != "none"}
    types = (each,) * len(value)
    return dict(zip(value, _read_each(value.items(), types, converter), strict=True))


def _read_each(
    items: typing.Iterable[tuple[Any, Any]], types: Sequence[Any], converter: cattrs.Converter
) -> list[Any]:
    """Every item as its type; the faults of all of them together."""
    faults: list[Fault] = []
    read = []
    for (key, item), of in zip(items, types, strict=True):
        try:
            read.append(converter.structure(item, of))
        except Unfit as error:
            name = f"[{key}]" if isinstance(key, int) else str(key)
            faults += [Fault((name, *fault.path), fault.message) for fault in error.faults]
    if faults:
        raise Unfit(*faults)
    return read


NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
IMAGES_NAME = 'a number of images (an integer, or text such as "50K" or "1.5Mi")'


def expected(of: Any) -> str:
    """A type in words."""
    if of in NAMES:
        return NAMES[of]
    if of is Images:
        return IMAGES_NAME
    if len(members(of)) > 1:
        return " or ".join(expected(member) for member in members(of) if member is not type(None))
    origin = typing.get_origin(of)
    if origin is Literal:
        choices = [repr(choice) for choice in typing.get_args(of)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    return "a list" if origin in (tuple, list) else "a table"


def shown(value: Any) -> str:
    """A value from a recipe in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'text "{value}"'
    if isinstance(value, (datetime.date, datetime.time)):
        return f"a date or time, {value}"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, (list, tuple)) else repr(value)
