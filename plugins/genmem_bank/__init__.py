"""The GMem memory bank: features of the training pictures, decomposed to a low rank.

Memory `svd-bank` and the command `genmem bank`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from genmem import hookimpl
from genmem.contracts import Ability, DatasetFolder, Extent, Facts, MemoryConfig

if TYPE_CHECKING:
    import click

    from genmem_bank.conditioning.store import SvdBank


def _positive(instance: object, attribute: attrs.Attribute[Any], value: int | str) -> None:
    if isinstance(value, int) and value < 1:
        raise ValueError(f"{attribute.name} must be 1 or more, got {value}")


@attrs.frozen(kw_only=True)
class SvdBankConfig(MemoryConfig):
    """Unit-norm features of the training set, decomposed to a low rank (GMem, eq. 6-10)."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"condition", "attend", "nearest"})
    places: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str
    """Folder of the bank, relative to the current folder; built from the data set if missing."""

    encoder: str
    """The per-sample feature its rows are made of, by its name in `data.encoder`."""

    rank: int | Literal["raw"] = attrs.field(validator=_positive)
    """Dimensions kept, at most the feature's width; "raw": rows as they are, not decomposed."""

    train_row: Literal["own", "drawn"] = "own"
    """The row that a training sample is given: its own (GMem's code), or any (the paper's algorithm 1)."""

    draw: Literal["uniform", "class-balanced", "noise"] = "uniform"
    """The row that a generated sample is given: any; one of each class in turn (or of the class asked
    for, where labels condition too); or the one that its noise points to (the paper, GMem's first code)."""

    mask: Literal["zero", "random", "noise", "none"] = "zero"
    """In training: entries set to zero, entries replaced by noise, noise added to all, nothing."""

    mask_ratio: float = attrs.field(default=0.4, validator=attrs.validators.ge(0))
    """Share of a row's entries that is masked; for "noise", its strength."""

    mask_rule: Literal["exact", "independent"] = "exact"
    """The same number of entries in every row (paper), or each by its own coin, the kept ones
    divided by 1 - mask_ratio (GMem's code)."""

    mask_scale: Literal["row", "width", "unit"] = "row"
    """Deviation of the noise of "random" and "noise": ‖row‖/√width, 1/√width, or 1."""

    normalise: bool = True
    """Bring rows back to unit norm after reconstruction."""

    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """How rows are stored; fp16 in a raw bank alone."""

    def __attrs_post_init__(self) -> None:
        if self.rank != "raw" and self.dtype == "fp16":
            raise ValueError('dtype = "fp16" does not hold the range of coefficients; give "bf16" or "fp32"')
        too_much = self.mask_ratio >= 1 if self.mask_rule == "independent" else self.mask_ratio > 1
        if self.mask != "noise" and too_much:
            raise ValueError(
                f"mask_ratio = {self.mask_ratio}: a share is at most 1, and below 1 where coins are tossed"
            )
        if self.mask == "noise" and self.mask_rule != "exact":
            raise ValueError(
                f'mask_rule = "{self.mask_rule}" says which entries to mask, but mask = "noise" '
                "adds noise to all of them; remove mask_rule"
            )

    @property
    def dimensions(self) -> int | None:
        """The rank; None of a raw bank."""
        return self.rank if isinstance(self.rank, int) else None

    @property
    def features(self) -> frozenset[str]:
        """Its encoder's feature, for samples that have no row (eq. 10)."""
        return frozenset({self.encoder})

    def prepare(self, dataset: DatasetFolder) -> None:
        """Build the bank if it is missing; check that it fits if it is there.

        Raises:
            ValueError: A bank of something else, or features no bank can be made of.
        """
        from genmem_bank.building.preparation import prepare_bank

        prepare_bank(self, dataset)

    def extent(self, facts: Facts, world: int = 1) -> Extent | None:
        """A row for every sample in every view, on disk; μ, B and S of a low rank, on the device.

        None where the encoder's width is not known.
        """
        width = facts.feature_widths.get(self.encoder)
        if width is None:
            return None
        rows, size = facts.num_samples * facts.views, 4 if self.dtype == "fp32" else 2
        if self.dimensions is None:
            return Extent(width, rows, rows * width * size, 0)
        frame = 4 * (width + width * self.dimensions + self.dimensions)
        return Extent(width, rows, rows * self.dimensions * size + frame, frame)

    def build(self, facts: Facts) -> SvdBank:
        """Open the bank.

        Raises:
            FileNotFoundError: No bank at `path`.
            ValueError: A bank of another encoder, rank or width, or a damaged one.
        """
        from genmem_bank.conditioning.opening import open_bank

        return open_bank(self, facts)


@hookimpl
def genmem_memories() -> dict[str, type[MemoryConfig]]:
    """The memories of this plugin."""
    return {"svd-bank": SvdBankConfig}


@hookimpl
def genmem_commands() -> dict[str, click.Command]:
    """The commands of this plugin."""
    from genmem_bank.commands.build_commands import bank
    from genmem_bank.commands.change_commands import CHANGES
    from genmem_bank.commands.map_command import map_

    for command in (*CHANGES, map_):
        bank.add_command(command)
    return {"bank": bank}
