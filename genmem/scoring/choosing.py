"""The scores there are, what each needs to know of two sets, and how it is worked out from that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import attrs

from genmem.host import did_you_mean
from genmem.scoring.measuring import LOGITS, POOLED, Measured, Wanted
from genmem.scoring.metrics import inception_score, kernel, manifolds
from genmem.scoring.metrics.energy import energy_distance
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.references import Reference
from genmem.scoring.table import Better

SPATIAL = "spatial"


@attrs.frozen(kw_only=True)
class Score:
    """One score."""

    title: str
    better: Better = "lower"
    digits: int = 4
    output: str = POOLED
    rows: bool = False
    """It compares rows, so the reference must have pictures, not statistics alone."""

    alone: bool = False
    """It looks at the samples only."""


SCORES: Mapping[str, Score] = {
    "fd": Score(title="Fréchet distance"),
    "sfid": Score(title="sFID", output=SPATIAL),
    "kid": Score(title="KID", digits=5, rows=True),
    "is": Score(title="Inception Score", better="higher", output=LOGITS, alone=True),
    "precision": Score(title="precision", better="higher", rows=True),
    "recall": Score(title="recall", better="higher", rows=True),
    "energy": Score(title="energy distance", rows=True),
}
ALIASES = {"fid": "fd", "inception-score": "is"}
"""FID is the Fréchet distance in Inception's features."""


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of scores; a score depends on them, so they are part of its protocol."""

    subset: int = kernel.SUBSET
    """Rows in a subset of KID."""

    subsets: int = kernel.SUBSETS
    splits: int = inception_score.SPLITS
    """Of the Inception Score."""

    neighbours: int = manifolds.NEIGHBOURS
    """Of precision and recall."""

    def of(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        """Those that these scores depend on."""
        own = {
            "kid": {"subset": self.subset, "subsets": self.subsets},
            "is": {"splits": self.splits},
            "precision": {"neighbours": self.neighbours},
            "recall": {"neighbours": self.neighbours},
        }
        return {name: own.get(name, {}) for name in names}

    def least(self, name: str) -> int:
        """The fewest pictures, of either set, that this score means anything for."""
        return {
            "kid": self.subset,
            "is": self.splits,
            "precision": self.neighbours + 1,
            "recall": self.neighbours + 1,
        }.get(name, 2)


def choose(text: str | None, outputs: Mapping[str, int]) -> tuple[str, ...]:
    """The scores named in `text`, with commas between; those of moments that an encoder allows if absent.

    Raises:
        ValueError: No such score, one twice, or one that needs an output the encoder does not have.
    """
    if text is None:
        return tuple(name for name, score in SCORES.items() if not score.rows and score.output in outputs)
    words = [word.strip() for word in text.split(",")]
    names = [ALIASES.get(word, word) for word in words]
    for word, name in zip(words, names, strict=True):
        if name not in SCORES:
            known = [*SCORES, *ALIASES]
            raise ValueError(f"no score {word!r}{did_you_mean(word, known)}; there are {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"the score {name!r} is named twice")
        if SCORES[name].output not in outputs:
            raise ValueError(
                f"{word} needs {SCORES[name].output!r} of the encoder, which has {', '.join(outputs)}; "
                f"leave {word} out, or take an encoder that has it"
            )
    return tuple(names)


def wanted_of(names: Sequence[str], settings: Settings, *, samples: bool) -> Wanted:
    """What must be known of the samples, or else of the reference."""
    scores = [SCORES[name] for name in names if samples or not SCORES[name].alone]
    return Wanted(
        frozenset(score.output for score in scores if not score.rows and not score.alone),
        frozenset(score.output for score in scores if score.rows),
        settings.splits if samples and "is" in names else 0,
    )


def check_counts(names: Sequence[str], settings: Settings, count: int, where: str) -> None:
    """Refuse scores of too few pictures, before any is encoded.

    Raises:
        ValueError: The score, the count and what would do.
    """
    for name in names:
        least = settings.least(name)
        if count < least:
            smaller = {"kid": " or --kid-subset smaller", "is": " or --is-splits smaller"}.get(name, "")
            raise ValueError(
                f"{name}: {where} has {count:,} pictures, it needs {least:,} or more; make more{smaller}"
            )


def compute(
    names: Sequence[str], settings: Settings, samples: Measured, reference: Reference
) -> dict[str, tuple[float, float | None]]:
    """{score: value, standard deviation over its parts where it has any}."""
    found: dict[str, tuple[float, float | None]] = {}
    for name in names:
        score = SCORES[name]
        if name in found:
            continue
        if name == "is":
            assert samples.splits is not None
            found[name] = samples.splits.score()
        elif not score.rows:
            found[name] = frechet(samples.moments[score.output], reference.moments[score.output]), None
        else:
            found |= _of_rows(name, settings, samples, reference)
    return {name: found[name] for name in names}


def _of_rows(
    name: str, settings: Settings, samples: Measured, reference: Reference
) -> dict[str, tuple[float, float | None]]:
    x, y = samples.rows[POOLED], reference.rows[POOLED]
    if name == "kid":
        return {name: kernel.kernel_distance(x, y, subset=settings.subset, subsets=settings.subsets)}
    if name == "energy":
        return {name: (energy_distance(x, y), None)}
    both = manifolds.precision_recall(x, y, settings.neighbours)
    return {"precision": (both.precision, None), "recall": (both.recall, None)}
