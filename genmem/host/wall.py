"""A wall before torch while plugins load: whoever imports it there is named, and nobody waits."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType


class TorchImported(ImportError):
    """A plugin imported torch while it was itself imported."""


class TorchWall(MetaPathFinder, Loader):
    """Inside `with`, importing torch fails on this thread, and the attempt is kept in `attempt`.

    It does nothing in a process that has torch already. A library that only asks whether torch
    is installed gets its usual answer.
    """

    def __init__(self) -> None:
        self.attempt = ""
        self._thread = threading.get_ident()
        self._depth = len(traceback.extract_stack())

    def __enter__(self) -> TorchWall:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec that fails to load, for torch alone."""
        if fullname != "torch" or threading.get_ident() != self._thread:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Refuse.

        Raises:
            TorchImported: Always.
        """
        self.attempt = f"imports torch when it is imported ({self._culprit()}); import it inside build()"
        raise TorchImported(self.attempt, name="torch")

    def exec_module(self, module: ModuleType) -> None:
        """Never reached."""

    def _culprit(self) -> str:
        """File and line, in the plugin itself, of the import that leads to torch."""
        machinery = (str(Path(importlib.__file__).parent), str(Path(__file__).parent), "<frozen importlib")
        inside = traceback.extract_stack()[self._depth - 1 :]
        frames = [frame for frame in inside if not frame.filename.startswith(machinery)]
        return f"{frames[0].filename}:{frames[0].lineno}" if frames else "where, is not known"
