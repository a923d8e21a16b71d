"""Which scores may stand beside each other, and which may be ranked.

A protocol has two parts. What the network is told (label, memory rows) makes the task; the rest is the
way of scoring. Runs are ranked within one task and one way. Another task may be shown beside it;
another way may not, unless forced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from genmem.scoring.protocol import Protocol, ProtocolMismatch, difference

OWN_CONDITIONS = ("conditions.", "memory")
"""What two methods may be told differently and still be scored in one way: key paths of a protocol."""

T = TypeVar("T")


def apart(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """{key path: (value in a, value in b)} of two ways of scoring, whatever the networks are told."""
    found = difference(a, b)
    return {path: pair for path, pair in found.items() if not path.startswith(OWN_CONDITIONS)}


def comparable(a: Protocol, b: Protocol) -> bool:
    """Whether two protocols score in the same way."""
    return not apart(a, b)


def task_of(protocol: Protocol) -> str:
    """What the network is told, as text that two protocols share where it is the same."""
    told = protocol.to_json()
    return json.dumps([told["conditions"], told["memory"]], sort_keys=True)


def tell_task(protocol: Protocol) -> str:
    """The same for people."""
    if protocol.memory is not None:
        return "told rows of a memory"
    return "told the class label" if protocol.conditions.get("label") else "told nothing"


def name_memory(memory: Mapping[str, Any]) -> str:
    """What stands beside a score with a memory: "pca, width 16, rank 8, 84.9 % of pixel energy"."""
    encoder, rank, width = memory.get("encoder"), memory.get("rank"), memory.get("width")
    parts = [
        str(encoder.get("name")) if isinstance(encoder, Mapping) else str(encoder or ""),
        f"width {width}" if width else "",
        f"rank {rank}" if rank else "",
        f"{100 * memory['pixel_energy']:.1f} % of pixel energy" if "pixel_energy" in memory else "",
    ]
    return ", ".join(part for part in parts if part)


def mismatch(protocols: Mapping[str, Sequence[Protocol]]) -> ProtocolMismatch:
    """The error for runs that have no way of scoring in common; names the keys.

    Args:
        protocols: {run: protocols it was scored under, the one to quote first}.
    """
    (name, (first, *_)), *others = protocols.items()
    lines = ["these runs were not scored in one way, so they cannot be ranked:"]
    for other, (found, *_) in others:
        for path, (there, here) in apart(first, found).items():
            lines.append(
                f"  {path}: {there!r} for {name} ({first.digest}), {here!r} for {other} ({found.digest})"
            )
    lines += [
        "score them alike (`genmem evaluate RUN --seeds 0,1,2 --sampler.steps=50`, say; every scoring is",
        "kept, and one that all runs have is found), or see them unranked by --force",
    ]
    return ProtocolMismatch("\n".join(lines))


def shared(ways: Mapping[str, Sequence[Protocol]]) -> list[Protocol]:
    """One protocol for each way of scoring that every run has."""
    (first, *others) = ways.values()
    kept: list[Protocol] = []
    for one in first:
        common = all(any(comparable(one, other) for other in some) for some in others)
        if common and not any(comparable(one, other) for other in kept):
            kept.append(one)
    return kept
