"""Settings of the objective. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import attrs

from genmem.contracts import Ability, Facts, TappedConfig

if TYPE_CHECKING:
    from torch import nn

_above_0 = attrs.validators.gt(0.0)
_count = attrs.validators.ge(0)
_weight = attrs.validators.ge(0.0)
_share = attrs.validators.and_(_weight, attrs.validators.lt(1.0))

ANCHOR = 16
LONG = 64
"""From so many global batches in the memory on, w_batch below w_bank is worth a warning."""

TOLERANCE = 0.005
"""L_bank may lie this share of its range below the floor by chance."""


@attrs.frozen(kw_only=True)
class RepulsorConfig(TappedConfig):
    """Repulsion of hidden states from a memory of past ones, and within the batch."""

    several_taps: ClassVar[bool] = False

    memory: str
    """The memory of negatives, by its name in the recipe."""

    enqueue: bool = True
    """Write this batch's features to the memory; false for one that is frozen."""

    metric: Literal["cos", "l2"] = "cos"
    """`cos`: q·k of unit features. `l2`: -‖q - k‖² / width of features as they are."""

    temperature: float = attrs.field(default=0.2, validator=_above_0)
    """τ of both terms."""

    anchor: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(2))
    )
    """l2 only: a copy of oneself counts as in an in-batch loss over so many samples, so that far
    apart is far enough; 16 if absent."""

    w_batch: float = attrs.field(default=1.0, validator=_weight)
    """Weight of the in-batch term. Keep it at or above w_bank: the README says why."""

    w_bank: float = attrs.field(default=0.5, validator=_weight)
    """Weight of the memory's term."""

    group: int | Literal["global"] = 16
    """Consecutive samples of the global batch in one in-batch term, or "global" for all of it."""

    reduction: Literal["per_query", "global"] = "per_query"
    """`per_query`: the mean over queries of log mean_j. `global`: log of the mean over all pairs of a
    group, which looks at crowded regions first; the dispersive loss has this form."""

    pool: Literal["mean", "token-compress", "flatten-jl"] = "mean"
    """How tokens become one vector. `token-compress`: 16 learned numbers a token, side by side.
    `flatten-jl`: all tokens and channels through a fixed random projection, without a head."""

    tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.gt(0))
    )
    """Tokens of a hidden state; only token-compress needs it."""

    head: Literal["mlp", "linear", "jl"] = "mlp"
    """From the hidden width to the memory's: LayerNorm and two layers, one layer, or a fixed
    random projection without parameters."""

    seed: int = attrs.field(default=0, validator=_count)
    """Of the random projection."""

    keys: Literal["online", "ema-head", "ema"] = "online"
    """What is written. `online`: the features themselves. `ema-head`: the same hidden states through
    an average of the head. `ema`: through averages of network and head, one more forward."""

    key_decay: float = attrs.field(default=0.999, validator=_share)
    """Of the average of the head, each step."""

    teacher: str = "ema"
    """The [ema.NAME] that `ema` keys and positives are computed with."""

    positive: Literal["none", "ema"] = "none"
    """`ema`: pull a feature to what the averages see in the same picture with the same noise a little
    earlier, one more forward."""

    positive_gap: float = attrs.field(default=0.2, validator=_weight)
    """By how much earlier at most."""

    w_positive: float = attrs.field(default=1.0, validator=_weight)
    """Weight of the pull."""

    hide_own: bool = True
    """A picture's own rows, and it itself in the batch, are no negatives of it."""

    hide_class: bool = False
    """Nor is what has the same class, whatever label was dropped for guidance."""

    window: float | None = attrs.field(default=None, validator=attrs.validators.optional(_above_0))
    """Only features whose times lie less than this apart repel; absent: all."""

    min_fill: int = attrs.field(default=4, validator=_count)
    """The memory's term counts from this many global batches in the memory on."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        for wrong, message in (*self._term_faults(), *self._feature_faults()):
            if wrong:
                raise ValueError(message)

    def _term_faults(self) -> tuple[tuple[bool, str], ...]:
        return (
            (
                isinstance(self.group, int) and self.group < 2 and self.coupling is not None,
                f"group = {self.group}: a sample cannot repel itself; take 2 or more, or w_batch = 0 "
                'with reduction = "per_query" to repel from the memory alone',
            ),
            (
                self.w_batch == self.w_bank == 0,
                "w_batch and w_bank are both 0, which leaves nothing; remove the objective",
            ),
            (
                self.metric == "cos" and self.anchor is not None,
                f'anchor = {self.anchor}: unit features cannot run away; it is for metric = "l2"',
            ),
        )

    def _feature_faults(self) -> tuple[tuple[bool, str], ...]:
        return (
            (
                (self.pool == "token-compress") != (self.tokens is not None),
                f'tokens = {self.tokens} with pool = "{self.pool}": token-compress needs the number of '
                "tokens of a hidden state, the others take any",
            ),
            (
                self.pool == "flatten-jl" and self.head != "jl",
                f'head = "{self.head}": flatten-jl is a random projection already and has no other head; '
                'set head = "jl"',
            ),
            (
                self.keys == "ema" and self.positive == "none",
                'keys = "ema" needs positive = "ema": without a pull to the averages, queries only run '
                "away from them, and averages that follow make the chase worse (README.md); "
                'take a positive, or keys = "online"',
            ),
            (
                self.keys == "ema-head" and self.head == "jl",
                'keys = "ema-head": head = "jl" has nothing to average; take keys = "online"',
            ),
            (
                self.keys != "online" and not self.enqueue,
                f'keys = "{self.keys}" says what to write, but enqueue = false writes nothing',
            ),
        )

    @property
    def needs(self) -> Mapping[str, frozenset[Ability]]:
        """It attends to the memory, writes to it unless told not to, and hides by what rows know."""
        asked: dict[Ability, bool] = {
            "attend": True,
            "write": self.enqueue,
            "labels": self.hide_class,
            "times": self.window is not None,
        }
        return {self.memory: frozenset(ability for ability, wanted in asked.items() if wanted)}

    @property
    def teachers(self) -> frozenset[str]:
        """The average, for keys and positives that are computed with it."""
        return frozenset({self.teacher} if "ema" in (self.keys, self.positive) else ())

    @property
    def coupling(self) -> int | Literal["global"] | None:
        """The group, where anything looks at more than one sample."""
        return self.group if self.w_batch or self.reduction == "global" else None

    @property
    def resolved_anchor(self) -> int | None:
        """B_ref; None for cos."""
        return (self.anchor or ANCHOR) if self.metric == "l2" else None

    def warn(self, metrics: Mapping[str, float]) -> str | None:
        """That the queries chase their own past, or that nothing keeps them from it."""
        below = -metrics.get("gap", 0.0)
        # Where rows are not of the queries' own kind, a loss below the floor is no sign of anything.
        bound = self.metric == "cos" and self.enqueue and not self.hide_class and self.window is None
        if bound and below > TOLERANCE / self.temperature:
            return (
                f"L_bank lies {below:.3g} below its floor, what features spread evenly would reach: they run "
                "from their own past instead of from each other; raise w_batch to w_bank or more, or give "
                "the memory fewer rows"
            )
        if self.enqueue and self.w_batch < self.w_bank and metrics.get("held", 0.0) > LONG:
            return (
                f"w_batch = {self.w_batch:g} is below w_bank = {self.w_bank:g} with {metrics['held']:.0f} "
                "global batches in the memory: features may chase their own past; raise w_batch, lower "
                "w_bank, or give the memory fewer rows"
            )
        return None

    def build(self, facts: Facts) -> nn.Module:
        """The objective with its head.

        Raises:
            ValueError: A global batch that is not whole groups, or a memory that can never be filled
                as far as `min_fill` asks.
        """
        from genmem_repulsor.repulsor import Repulsor

        if isinstance(self.coupling, int) and facts.batch % self.coupling:
            raise ValueError(
                f"a global batch of {facts.batch} is not whole groups of {self.group}; "
                'take a `group` that divides it, or "global"'
            )
        rows, fewest = facts.memory_rows.get(self.memory, math.inf), self.fewest(facts.batch)
        if rows < fewest:
            raise ValueError(
                f"memory {self.memory!r} has room for {rows} rows, but its term waits for "
                f"min_fill = {self.min_fill} global batches, {fewest} rows; "
                "give the memory more rows, or lower min_fill"
            )
        return Repulsor(self, facts)

    def fewest(self, batch: int) -> int:
        """Rows a query must see before the memory's term counts; a frozen memory is full already."""
        return max(1, self.min_fill * batch if self.enqueue else 1)
