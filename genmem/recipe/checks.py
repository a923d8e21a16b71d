"""Checks across tables, without torch: do the parts that a recipe names fit together?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from genmem.contracts import TappedConfig
from genmem.host import did_you_mean
from genmem.recipe.batches import check_batches
from genmem.recipe.draft import Draft
from genmem.recipe.errors import Fault
from genmem.recipe.structure import Torn
from genmem.recipe.tables import Recipe

Check = Callable[[Draft], Iterator[Fault]]


def check(read: Recipe | Torn) -> list[Fault]:
    """Everything that does not fit, as far as the recipe could be read."""
    draft = Draft(read)
    faults = [fault for one in CHECKS for fault in one(draft)]
    return draft.faults + faults


def _near(name: str, names: Iterable[str]) -> str:
    """The end of a sentence about a name that is not among the names."""
    return did_you_mean(name, names) or f"; there are: {', '.join(names) or 'none'}"


def check_taps(draft: Draft) -> Iterator[Fault]:
    """Every hidden state an objective looks at is one the backbone has."""
    widths = draft.component("backbone")("tap_widths")
    if not widths:
        return
    depth = max(widths)
    for name in draft.names("objective"):
        objective = draft.objective(name)
        for tap in objective("taps", depth) or ():
            if tap not in widths:
                key = ("tap",) if isinstance(objective.config, TappedConfig) else ()
                there = f"there is no tap {tap}; the backbone has {depth} blocks, taps 1 to {depth}"
                yield Fault((*objective.place, *key), there)


def check_needs(draft: Draft) -> Iterator[Fault]:
    """Every memory an objective asks for is there and able."""
    for name in draft.names("objective"):
        objective = draft.objective(name)
        for memory, abilities in (objective("needs") or {}).items():
            yield from _check_need(draft, memory, abilities, objective.place)


def check_teachers(draft: Draft) -> Iterator[Fault]:
    """Every average an objective asks a further forward of is one the recipe keeps."""
    for name in draft.names("objective"):
        objective = draft.objective(name)
        for teacher in sorted(objective("teachers") or ()):
            if teacher not in draft.names("ema"):
                there = f"there is no [ema.{teacher}]{_near(teacher, draft.names('ema'))}"
                yield Fault(objective.place, there)


def check_condition(draft: Draft) -> Iterator[Fault]:
    """The condition is one that the recipe has and the backbone takes."""
    label, memory = draft.at("condition", "label"), draft.at("condition", "memory")
    consumes = draft.component("backbone")("consumes")
    if memory is not None:
        yield from _check_need(draft, memory, frozenset({"condition"}), ("condition", "memory"))
    for part, wanted in (("label", label is True), ("memory", memory is not None)):
        if wanted and consumes is not None and part not in consumes:
            taken = f"it takes {', '.join(sorted(consumes)) or 'nothing'}"
            message = f"the backbone {draft.at('backbone', 'use')!r} takes no {part}; {taken}"
            yield Fault(("condition", part), message)
    if draft.at("condition", "drop") and not label and memory is None and draft.whole("condition"):
        yield Fault(("condition", "drop"), "there is no condition to drop; set label or memory")


def _check_need(
    draft: Draft, memory: str, abilities: frozenset[str], place: tuple[str, ...]
) -> Iterator[Fault]:
    names = draft.names("memory")
    if memory not in names:
        if draft.whole("memory") or names:
            yield Fault(place, f"there is no memory {memory!r}{_near(memory, names)}")
        return
    able = draft.component("memory", memory)("abilities")
    lacking = abilities - able if able is not None else ()
    if lacking:
        others = [
            name for name in names if abilities <= (draft.component("memory", name)("abilities") or set())
        ]
        way_out = f"; {' and '.join(map(repr, others))} can" if others else ""
        use = draft.at("memory", memory, "use")
        message = f"memory {memory!r} ({use}) cannot {' or '.join(sorted(lacking))}{way_out}"
        yield Fault(place, message)


def check_interpolant(draft: Draft) -> Iterator[Fault]:
    """The backbone consumes what the interpolant gives it."""
    asked = draft.component("interpolant")("consumes")
    consumes = draft.component("backbone")("consumes")
    if asked and consumes is not None and not asked <= consumes:
        lacking = ", ".join(sorted(asked - consumes))
        message = f"{draft.at('interpolant', 'use')!r} needs a backbone that takes {lacking}"
        yield Fault(("interpolant", "use"), f"{message}; {draft.at('backbone', 'use')!r} does not")


def check_sampler(draft: Draft) -> Iterator[Fault]:
    """The interpolant trains what the sampler asks of the network."""
    asked = draft.component("sampler")("asks")
    trained = draft.component("interpolant")("consumes")
    if asked and trained is not None and not asked <= trained:
        lacking = ", ".join(sorted(asked - trained))
        message = f"{draft.at('sampler', 'use')!r} needs an interpolant that trains {lacking}"
        yield Fault(("sampler", "use"), f"{message}; {draft.at('interpolant', 'use')!r} does not")


def check_unused(draft: Draft) -> Iterator[Fault]:
    """Every memory has somebody who uses it."""
    if not (draft.whole("objective") and draft.whole("condition")):
        return
    names = draft.names("memory")
    used = {draft.at("condition", "memory")} - {None}
    for name in draft.names("objective"):
        used |= set(draft.objective(name)("needs") or {})
    for name in names:
        if name not in used and used <= set(names):  # else one of these may be meant
            yield Fault(("memory", name), "nothing uses this memory: no objective, and not the condition")


def check_features(draft: Draft) -> Iterator[Fault]:
    """Per-sample features that components need are among those stored."""
    if not draft.whole("data"):
        return
    stored = draft.names("data", "encoder")
    askers = [draft.objective(name) for name in draft.names("objective")]
    askers += [draft.component("memory", name) for name in draft.names("memory")]
    for asker in askers:
        for feature in sorted(asker("features") or ()):
            encoder = feature.removesuffix(".tokens")
            if encoder not in stored:
                message = f"needs the feature {feature!r}, and there is no [data.encoder.{encoder}]"
                yield Fault(asker.place, message + _near(encoder, stored))


def check_encoders(draft: Draft) -> Iterator[Fault]:
    """Every encoder of a set or of a score reads pictures."""
    for table in ("data", "evaluate"):
        for name in draft.names(table, "encoder"):
            reads = draft.component(table, "encoder", name)("reads")
            if reads is not None and reads != "pictures":
                use = draft.at(table, "encoder", name, "use")
                yield Fault(
                    (table, "encoder", name, "use"), f"{use!r} reads {reads}, and a set holds pictures"
                )


def check_guidance(draft: Draft) -> Iterator[Fault]:
    """Guidance has an unconditional network to lean on."""
    if draft.component("guidance")("needs_drop") and draft.at("condition", "drop") == 0:
        message = f"{draft.at('guidance', 'use')!r} evaluates the network without condition, which it"
        yield Fault(("guidance",), f"{message} never learns: set drop in [condition], to 0.1 say")


def check_spans(draft: Draft) -> Iterator[Fault]:
    """An objective begins before it ends."""
    for name in draft.names("objective"):
        start, stop = draft.at("objective", name, "start"), draft.at("objective", name, "stop")
        if stop is not None and start is not None and stop <= start:
            message = f"it would never be active: stop is {stop}, start is {start}"
            yield Fault(("objective", name, "stop"), message)


def check_evaluation(draft: Draft) -> Iterator[Fault]:
    """Scores name weights and feature spaces that are there."""
    weights, emas = draft.at("evaluate", "weights"), draft.names("ema")
    if ONLINE in emas:
        yield Fault(("ema", ONLINE), f"the name {ONLINE!r} stands for the weights that train")
    known = dict.fromkeys((*emas, ONLINE))
    if weights is not None and weights not in known:
        yield Fault(("evaluate", "weights"), f"there is no EMA {weights!r}{_near(weights, known)}")
    copies, spaces = draft.at("evaluate", "copies"), draft.names("evaluate", "encoder")
    if copies is not None and copies not in spaces:
        message = f"there is no [evaluate.encoder.{copies}]{_near(copies, spaces)}"
        yield Fault(("evaluate", "copies"), message)


ONLINE = "online"

CHECKS: tuple[Check, ...] = (
    check_taps,
    check_condition,
    check_needs,
    check_teachers,
    check_interpolant,
    check_sampler,
    check_unused,
    check_features,
    check_encoders,
    check_guidance,
    check_spans,
    check_batches,
    check_evaluation,
)
