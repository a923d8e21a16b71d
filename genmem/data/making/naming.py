"""From the words of a command line to a `[data]` table: which source a path is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genmem.data.errors import DataError
from genmem.host import Catalog


def name_source(word: str, catalog: Catalog) -> dict[str, Any]:
    """The `[data.source]` table that a path, or the name of a source, stands for.

    Raises:
        DataError: No source takes the path, or several do.
    """
    sources = catalog.components("source")
    names = [source.name for source in sources]
    path = Path(word)
    if not path.exists():
        if word in names:
            return {"use": word}
        raise DataError(f"{word}: no such file or folder, and no source of that name ({', '.join(names)})")
    takers = [source.name for source in sources if source.config.takes(path)]
    if len(takers) != 1:
        said = f"looks like {' and '.join(takers)}" if takers else "looks like no source"
        raise DataError(f"{word}: {said}; say which with --source NAME ({', '.join(names)})")
    return {"use": takers[0], "path": word}


def name_encoders(words: Iterable[str]) -> dict[str, dict[str, str]]:
    """`[data.encoder.NAME]` tables from USE or NAME=USE.

    Raises:
        DataError: Two of one name.
    """
    tables: dict[str, dict[str, str]] = {}
    for word in words:
        name, equals, use = word.partition("=")
        if name in tables:
            raise DataError(
                f"--encoder {word}: there are two features called {name!r}; write NAME={use or name}"
            )
        tables[name] = {"use": use if equals else name}
    return tables
