"""What does not go together is refused by name, before pictures are encoded where that can be."""

from __future__ import annotations

from genmem.scoring.choosing import SCORES
from genmem.scoring.references import Reference
from genmem.scoring.sets.pictures import ColouredPictures, PictureSet


def match_colours(target: PictureSet, real: PictureSet | None) -> tuple[PictureSet, PictureSet | None]:
    """Both grey, or both in colours."""
    if real is None or target.shape[2] == real.shape[2]:
        return target, real
    if target.shape[2] == 1:
        return ColouredPictures(target), real
    return target, ColouredPictures(real)


def check_size(target: PictureSet, name: str, shape: tuple[int, int, int]) -> None:
    """Refuse pictures of another height or width than the reference's.

    Raises:
        ValueError: Both sizes are named.
    """
    if target.shape[:2] != shape[:2]:
        raise ValueError(
            f"{target.name}: pictures of {target.shape[0]} × {target.shape[1]}, the reference {name} is of "
            f"{shape[0]} × {shape[1]}; scores need pictures of one size: resize one of them first"
        )


def check_reference(names: tuple[str, ...], reference: Reference, target: PictureSet) -> None:
    """Refuse a reference that lacks what a score needs, or is of pictures of another size.

    Raises:
        ValueError: The score, what is lacking, and the way out.
    """
    if reference.shape is not None:
        check_size(target, reference.name, reference.shape)
    for name in names:
        score = SCORES[name]
        if score.alone:
            continue
        if score.rows and score.output not in reference.rows:
            raise ValueError(
                f"{name}: the reference was given as statistics (of {reference.name}), and {name} compares "
                "pictures; "
                f"give pictures, or a reference saved with --metrics {name}"
            )
        if not score.rows and score.output not in reference.moments:
            raise ValueError(f"{name}: {reference.name} has no {score.output!r} statistics; leave {name} out")
