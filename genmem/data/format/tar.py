"""The members of a tar, by one strict pass over its headers.

Python's tarfile and webdataset end a damaged archive early and without an error; this does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from genmem.data.errors import DataError

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_LONGEST_EXTENSION = 1 << 16
_MOST_DIGITS = 18
_SPARSE = b"GNU.sparse."


class Member(NamedTuple):
    """A regular file inside a tar."""

    name: str
    offset: int
    """Of its first byte in the tar."""

    size: int


def read_members(data: memoryview, where: str) -> Iterator[Member]:
    """Every regular file of the tar in `data`; `where` names it in errors.

    Raises:
        DataError: A damaged header, a member beyond the end, a missing end, a link.
    """
    place = 0
    renamed: dict[str, str] = {}
    while bytes(header := data[place : place + _BLOCK]) != _ZEROS:
        _check_header(header, place, where)
        size = int(renamed["size"]) if "size" in renamed else _octal(header[124:136], place, where)
        start, end = place + _BLOCK, place + _BLOCK + size
        if end > len(data):
            raise DataError(
                f"{where}: truncated: a member at byte {place} needs {end} bytes, there are {len(data)}"
            )
        kind = bytes(header[156:157])
        if kind in (b"x", b"L"):
            renamed |= _read_extension(kind, data[start:end], place, where)
        elif kind != b"g":
            if kind in (b"0", b"\0"):
                yield Member(renamed.get("path", read_header_name(header)), start, size)
            elif kind != b"5":
                name = read_header_name(header)
                raise DataError(f"{where}: member {name!r} is neither a file nor a folder (type {kind!r})")
            renamed = {}
        place = start + -(-size // _BLOCK) * _BLOCK
    if bytes(data[place + _BLOCK : place + 2 * _BLOCK]) != _ZEROS:
        raise DataError(
            f"{where}: truncated: the two empty blocks that end a tar are missing at byte {place}"
        )


def _check_header(header: memoryview, place: int, where: str) -> None:
    if len(header) < _BLOCK:
        raise DataError(f"{where}: truncated: it ends at byte {place + len(header)}, inside a header")
    if sum(bytes(header[:148])) + 8 * ord(" ") + sum(bytes(header[156:])) != _octal(
        header[148:156], place, where
    ):
        raise DataError(f"{where}: damaged: the header at byte {place} does not match its checksum")


def _octal(field: memoryview, place: int, where: str) -> int:
    text = bytes(field).strip(b" \0")
    if field[0] & 0x80:
        return int.from_bytes(bytes(field[1:]), "big")
    # Nothing but digits: a minus would lead back to a header that was read already, for ever.
    if not text or text.strip(b"01234567"):
        raise DataError(f"{where}: damaged: the header at byte {place} holds {text!r} where a number belongs")
    return int(text, 8)


def _text(field: memoryview) -> str:
    return bytes(field).split(b"\0", 1)[0].decode("utf-8", "replace")


def read_header_name(header: memoryview) -> str:
    """The name in a header of 512 bytes."""
    prefix = _text(header[345:500]) if bytes(header[257:263]) == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _read_extension(kind: bytes, body: memoryview, place: int, where: str) -> dict[str, str]:
    """What a header in front of another one changes: its path and size."""
    if len(body) > _LONGEST_EXTENSION:
        raise DataError(f"{where}: damaged: the extended header at byte {place} has {len(body)} bytes")
    if kind == b"L":
        return {"path": _text(body)}
    found, rest = {}, bytes(body)
    while rest.strip(b"\0"):
        length, space, _ = rest.partition(b" ")
        if not (space and len(length) + 3 < _count(length, place, where) <= len(rest)):
            raise DataError(f"{where}: damaged: the extended header at byte {place} cannot be read")
        key, _, value = rest[len(length) + 1 : int(length) - 1].partition(b"=")
        if key.startswith(_SPARSE):
            raise DataError(f"{where}: a member at byte {place} is sparse; store it whole")
        if key == b"path":
            found["path"] = value.decode("utf-8", "replace")
        elif key == b"size":
            found["size"] = str(_count(value, place, where))
        rest = rest[int(length) :]
    return found


def _count(text: bytes, place: int, where: str) -> int:
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise DataError(
            f"{where}: damaged: the extended header at byte {place} holds {text[:30]!r} for a number"
        )
    return int(text)
