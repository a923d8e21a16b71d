"""The repulsor objective: repulsion from a memory of past features, and within the batch.

Shapes: B micro-batch, L tokens, D hidden width, E memory width, G groups, N samples in a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmem.collectives import gather, gather_with_gradient
from genmem.contracts import Attended, Facts, Hide, Metric, Objective, Step, Tags
from genmem_repulsor.heads import make_head
from genmem_repulsor.keys import Average, nearer_data, see_with
from genmem_repulsor.sphere import floor_of
from genmem_repulsor.terms import add_anchor, reduce_terms, score_within

if TYPE_CHECKING:
    from genmem_repulsor import RepulsorConfig

METRICS = ("cos", "l2")


class Repulsor(nn.Module):
    """L = w_bank · L_bank + w_batch · L_batch on features q = head(hidden).

    Both terms are the functional of `terms.py`, so both lie between the same floor and the value of
    features that are all equal, whatever the number of negatives. With a positive p of averaged
    weights, w_positive · mean_i -s(q_i, p_i) / τ is added (decoupled: p is no negative).
    """

    metric: Tensor
    """Which similarity the features are for: those of one mean nothing to the other."""

    def __init__(self, config: RepulsorConfig, facts: Facts) -> None:
        """Build the head for the recipe's memory."""
        super().__init__()
        self.config = config
        (self.tap,) = config.taps(max(facts.tap_widths))
        width = facts.memory_widths[config.memory]
        self.head = make_head(config, facts.tap_widths[self.tap], width)
        averaged = config.keys != "online" or config.positive != "none"
        self.average = Average(self.head, config.key_decay) if averaged else None
        self.cosine = config.metric == "cos"
        self.similarity: Metric = "dot" if self.cosine else "l2"
        self.scale = 1 / (config.temperature * (1 if self.cosine else width))
        self.floor = floor_of(config, width)
        self.batch, self.fewest = max(1, facts.batch), config.fewest(facts.batch)
        self.register_buffer("metric", torch.tensor(METRICS.index(config.metric)))
        self.register_load_state_dict_pre_hook(_same_metric)  # type: ignore[no-untyped-call]

    def forward(self, step: Step, /) -> Objective:
        """The loss of this micro-batch; in training its features are set aside for the memory.

        Raises:
            ValueError: A micro-batch that is not whole groups.
        """
        c, tags = self.config, tags_of(step)
        q_BE = self.queries(step.prediction.hidden[self.tap])
        bank = self._repel_from_memory(q_BE, step, tags)
        value, metrics = c.w_bank * bank.value, self._metrics(bank, q_BE)
        if c.w_batch:
            batch = self._repel_within(q_BE, tags)
            value = value + c.w_batch * batch
            metrics |= {"batch": batch.detach(), "lag": (batch.detach() * bank.ready - bank.value.detach())}
        if c.positive == "ema":
            close = self._similarity_to_positive(q_BE, step)
            value = value - c.w_positive * close
            metrics["positive"] = close.detach()
        if self.training and c.enqueue:
            step.memories[c.memory].stage(self._keys(q_BE, step), tags)
        return Objective(value, metrics)

    def queries(self, hidden_BLD: Tensor) -> Tensor:
        """Features (B, E) in fp32; of unit norm for cos."""
        return self._features(self.head, hidden_BLD)

    def commit(self, keep: Tensor) -> None:
        """The average follows the head after a step that was kept."""
        if self.average is not None:
            self.average.follow(self.head, keep)

    def _features(self, head: nn.Module, hidden_BLD: Tensor) -> Tensor:
        with torch.autocast(hidden_BLD.device.type, enabled=False):
            projected_BE: Tensor = head(hidden_BLD.float())
            return F.normalize(projected_BE, dim=1, eps=1e-6) if self.cosine else projected_BE

    def _keys(self, q_BE: Tensor, step: Step) -> Tensor:
        if self.average is None or self.config.keys == "online":
            return q_BE.detach()
        if self.config.keys == "ema-head":
            return self._features(self.average, step.prediction.hidden[self.tap].detach())
        return self._features(self.average, see_with(step, step.times, self.tap, self.config.teacher))

    def _similarity_to_positive(self, q_BE: Tensor, step: Step) -> Tensor:
        """mean_i s(q_i, p_i) / τ."""
        assert self.average is not None
        times = nearer_data(step, self.config.positive_gap)
        p_BE = self._features(self.average, see_with(step, times, self.tap, self.config.teacher))
        close_B = (q_BE * p_BE).sum(1) if self.cosine else -(q_BE - p_BE).square().sum(1)
        return self.scale * close_B.mean()

    def _repel_from_memory(self, q_BE: Tensor, step: Step, tags: Tags) -> _Bank:
        """L_bank, over the queries that see enough negatives."""
        hide = self._hide(tags)
        seen = step.memories[self.config.memory].attend(q_BE, self.scale, hide, self.similarity)
        alone = self.config.reduction == "per_query"
        seen = Attended(*(part[None] if alone else self._grouped(part) for part in seen))
        ready_GN = seen.count_B >= self.fewest
        anchored = add_anchor(seen, self.config.resolved_anchor)
        value = reduce_terms(anchored, ready_GN, self.config.reduction)
        return _Bank(value, ready_GN.float().mean(), seen.count_B.mean() / self.batch)

    def _repel_within(self, q_BE: Tensor, tags: Tags) -> Tensor:
        """L_batch."""
        hide = self._hide(tags)
        ids, label, t = (None if tag is None else self._grouped(tag) for tag in hide[:3])
        hide_GN = Hide(ids, label, t, hide.window)
        seen = score_within(self._grouped(q_BE), hide_GN, self.scale, self.similarity)
        ready_GN = seen.count_B > 0
        return reduce_terms(add_anchor(seen, self.config.resolved_anchor), ready_GN, self.config.reduction)

    def _hide(self, tags: Tags) -> Hide:
        c = self.config
        ids_B, label_B = tags.ids_B if c.hide_own else None, tags.label_B if c.hide_class else None
        return Hide(ids_B, label_B) if c.window is None else Hide(ids_B, label_B, tags.t_B, c.window)

    def _grouped(self, rows: Tensor) -> Tensor:
        """(G, N, …): the groups of this micro-batch; all ranks' rows for "global"."""
        group = self.config.group
        if group == "global":
            return (gather_with_gradient if rows.requires_grad else gather)(rows)[None]
        if len(rows) % group:
            raise ValueError(
                f"a micro-batch of {len(rows)} is not whole groups of {group}; "
                f"take a multiple of {group} samples on every process"
            )
        return rows.view(-1, group, *rows.shape[1:])

    def _metrics(self, bank: _Bank, q_BE: Tensor) -> dict[str, Tensor]:
        """L_bank below its floor is the sign of a collective chase (README.md)."""
        value, q_BE = bank.value.detach(), q_BE.detach()
        return {
            "bank": value,
            "floor": torch.full_like(value, self.floor),
            "gap": value - self.floor * bank.ready,
            "ready": bank.ready,
            "held": bank.held,
            "mean_query": q_BE.mean(0).norm() / q_BE.square().sum(1).mean().sqrt().clamp(min=1e-6),
        }


class _Bank(NamedTuple):
    value: Tensor
    ready: Tensor
    """Share of the queries that saw enough negatives."""

    held: Tensor
    """Negatives a query saw, in global batches."""


def tags_of(step: Step) -> Tags:
    """What is known of a micro-batch: token times by their mean, labels as in the data."""
    t = step.times.t.float()
    return Tags(step.batch.index_B, step.batch.label_B, t.mean(1) if t.ndim == 2 else t)


def _same_metric(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Refuse a saved head and queue whose features are compared in another way."""
    saved = state.get(f"{prefix}metric")
    assert isinstance(module, Repulsor)
    if saved is not None and METRICS[int(saved)] != module.config.metric:
        raise ValueError(
            f'the saved features are for metric = "{METRICS[int(saved)]}", this objective has '
            f'"{module.config.metric}"; set it back, or start a new run'
        )
