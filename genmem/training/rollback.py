"""Going back to the last good checkpoint, when step after step could not be kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from genmem import collectives
from genmem.data.files import write_text
from genmem.data.preparation import stay_silent
from genmem.training.folder import RunFolder
from genmem.training.guard import Diverged, Guard
from genmem.training.integrity import Damaged, load_state, newest, numbered, shared_fault
from genmem.training.trainer import Trainer
from genmem.training.writer import Writer


def roll_back(trainer: Trainer, folder: RunFolder, writer: Writer) -> str:
    """Take up the last good state, and go on from there in another order and with other noise.

    What was written after that state is deleted. The loss scale of fp16 stays what the skipped steps have
    made it: the search for one that fits does not begin anew. Collective. Returns a line for the user.

    Raises:
        Diverged: The recipe allows no further roll-back; the report lies in the folder.
    """
    writer.settle()
    guard, before = trainer.guard, trainer.images_seen
    if guard.rollbacks >= guard.table.rollbacks:
        _report(folder, guard, before)
        raise Diverged(_last_words(folder, guard, before))
    path = last_good(folder.checkpoints)
    collectives.barrier()
    if collectives.rank() == 0:
        for later in numbered(folder.checkpoints):
            if later.name > path.name:
                shutil.rmtree(later)
        folder.roll_back(int(path.name))
    known, scale = guard.state(), trainer.scale
    found = {} if scale is None else scale.state()
    trainer.resume(path)
    if scale is not None:
        for key, value in found.items():
            scale.load(key, value)
    guard.load_state(known)
    guard.roll_back(before, trainer.images_seen)
    trainer.stream.reseed(trainer.seed)
    _report(folder, guard, None)
    return (
        f"{guard.table.skips} steps in a row were not finite: rolled back from {before:,} to "
        f"{trainer.images_seen:,} images, with other data and noise from there "
        f"(roll-back {guard.rollbacks} of {guard.table.rollbacks})"
    )


def last_good(folder: Path) -> Path:
    """The newest whole checkpoint that was not made while steps were skipped; else the newest whole one.

    Raises:
        ValueError: There is none.
    """

    def fault_of(path: Path) -> str | None:
        found = shared_fault(path)
        if found is None and load_state(path).get("guard", {}).get("in_a_row", 0):
            return f"{path} was made while steps were skipped"
        return found

    try:
        found = newest(folder, fault_of, stay_silent)
    except Damaged:
        found = newest(folder, shared_fault, stay_silent)
    if found is None:
        raise ValueError(f"{folder} holds no checkpoint to go back to")
    return found


def _report(folder: RunFolder, guard: Guard, stopped_at: int | None) -> None:
    """divergence.json: where the run went back, which steps were skipped before, where it stopped."""
    if collectives.rank() != 0:
        return
    report = {
        "stopped_at_images": stopped_at,
        "skipped_steps": guard.skipped,
        "rollbacks": guard.history,
        "skipped_last": guard.streak,
    }
    write_text(folder.divergence, json.dumps(report, indent=1))


def _last_words(folder: RunFolder, guard: Guard, images_seen: int) -> str:
    allowed = guard.table.rollbacks
    return (
        f"{guard.table.skips} steps in a row had a loss or gradient that is not finite, the last at "
        f"{images_seen:,} images, after {allowed} of {allowed} roll-backs; {folder.divergence} lists the "
        "steps and their samples. The checkpoints are as they were. Lower optimizer.lr, set optimizer.clip "
        "or train.precision, in another folder (--out); or let it try on with a larger guard.rollbacks"
    )
