"""The protocol of one score of a set of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from genmem.scoring.protocol import Protocol
from genmem.scoring.references import Reference

FOUND = "not known: pictures as they were found"
"""What the protocol of pictures from a folder says of how they were made."""


def protocol_of_set(
    made: Protocol | None, count: int, features: Mapping[str, Any], reference: Reference
) -> Protocol:
    """Everything that moves the score.

    Args:
        made: How the pictures of a run were made; None for pictures that were found.
        count: Pictures scored.
        features: Encoder, hash of its weights, score and its settings.
        reference: What they are compared with.
    """
    if made is not None:
        return attrs.evolve(made, samples=count, features=features, reference=reference.to_json())
    return Protocol(
        sampler={"use": FOUND},
        steps=None,
        guidance=None,
        conditions={"rule": FOUND},
        seeds=(),
        samples=count,
        rounding=FOUND,
        decoder={"use": FOUND, "weights": ""},
        features=features,
        reference=reference.to_json(),
        weights="",
        memory=None,
        precision="",
    )
