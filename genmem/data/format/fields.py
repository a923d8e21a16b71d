"""How a field of a sample is called in a tar: `KEY.x.npy`, `KEY.x.mirror.npy`, `KEY.cls`."""

from __future__ import annotations

LABEL = "cls"
SAMPLE = "x"
MIRRORED = ".mirror"
TOKENS = ".tokens"


def member_of(field: str, view: int = 0) -> str:
    """What stands behind the key in the name of the member that holds `field` in this view."""
    return f"{field}{MIRRORED if view else ''}.npy"
