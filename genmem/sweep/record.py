"""The outcome of a sweep as JSON."""

from __future__ import annotations

from typing import Any

import attrs

from genmem.comparing.statistics import Spread
from genmem.sweep.notes import notes
from genmem.sweep.outcome import Outcome


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Plain data: every number the table and the plot were made of."""
    return {
        "sweep": outcome.name,
        "baseline": outcome.baseline,
        "score": outcome.score,
        "mark": outcome.mark(),
        "columns": [attrs.asdict(column) for column in outcome.columns],
        "rows": [
            {
                "name": row.name,
                "setting": row.setting,
                "kind": row.kind,
                "memory": row.memory,
                "protocol": row.protocol.digest,
                "scores": {key: _spread(spread) for key, spread in row.scores.items()},
            }
            for row in outcome.rows
        ],
        "trainings": {
            one.name: {
                "images": one.images,
                "curves": [list(map(list, curve)) for curve in one.curves],
                "images_per_s": _spread(one.rate),
                "jobs": list(one.company),
            }
            for one in outcome.trainings.values()
        },
        "protocols": {row.protocol.digest: row.protocol.to_json() for row in outcome.rows},
        "missing": list(outcome.missing),
        "notes": list(notes(outcome)),
    }


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else {"mean": spread.mean, "sd": spread.sd, "values": list(spread.values)}
