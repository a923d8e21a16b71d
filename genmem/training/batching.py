"""The shape of one optimizer step: global batch, local batch, micro-batches."""

from __future__ import annotations

import attrs

from genmem.recipe.tables import Recipe


@attrs.frozen(kw_only=True)
class Batching:
    """How a global batch is split. Local pieces are contiguous, in the order of ranks."""

    batch: int
    world: int
    micro: int
    """Images in one forward of one process."""

    @property
    def local(self) -> int:
        """Images of one process in one optimizer step."""
        return self.batch // self.world

    @property
    def accumulation(self) -> int:
        """Forwards of one process in one optimizer step."""
        return self.local // self.micro


def plan(recipe: Recipe, world: int) -> Batching:
    """Derive the split, exactly or not at all.

    Raises:
        ValueError: Where it does not come out even; the message names the sizes that would.
    """
    batch = recipe.train.batch
    if batch % world:
        raise ValueError(
            f"train.batch = {batch} cannot be shared equally by {world} processes; "
            f"it can by {_list(divisors(batch))}"
        )
    local = batch // world
    micro = min(recipe.train.micro_batch or local, local)
    fitting = [size for size in divisors(local) if _fits(recipe, size, local)]
    if not fitting:
        raise ValueError(
            f"no micro-batch fits {_needs(recipe)} with train.batch = {batch} on {world} processes; "
            "use fewer processes or a larger batch"
        )
    if micro not in fitting:
        raise ValueError(
            f"a micro-batch of {micro} does not fit {_needs(recipe)}"
            f" and {local} images a process; sizes that do: {_list(fitting)} (train.micro_batch)"
        )
    return Batching(batch=batch, world=world, micro=micro)


def smallest(recipe: Recipe, world: int) -> Batching:
    """The split into the smallest micro-batches that objectives allow, whatever the recipe says.

    Raises:
        ValueError: As `plan`.
    """
    split = plan(recipe, world)
    least = next(size for size in divisors(split.local) if _fits(recipe, size, split.local))
    return attrs.evolve(split, micro=least)


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [size for size in range(1, number + 1) if number % size == 0]


def _couplings(recipe: Recipe) -> dict[str, int | str]:
    found = {name: table.objective.config.coupling for name, table in recipe.objective.items()}
    return {name: coupling for name, coupling in found.items() if coupling is not None}


def _fits(recipe: Recipe, micro: int, local: int) -> bool:
    """Whether no objective's coupling crosses micro-batches; ranks are gathered, those are not."""
    return all(
        micro == local if coupling == "global" else micro % int(coupling) == 0
        for coupling in _couplings(recipe).values()
    )


def _needs(recipe: Recipe) -> str:
    needs = [f"objective.{name} (groups of {coupling})" for name, coupling in _couplings(recipe).items()]
    return " and ".join(needs) or "train.micro_batch"


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
