"""check_memory finds stores whose `attend` is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attention_parts import unit
from torch import Tensor

from genmem.contracts import Attended, Hide, Metric
from genmem.testing import ListMemory, check_memory


def memory(change: Callable[[Hide, Metric], tuple[Hide, Metric]]) -> ListMemory:
    """A store that asks itself something else than it was asked."""

    class Changed(ListMemory):
        def attend(
            self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
        ) -> Attended:
            return super().attend(q_BE, scale, *change(hide or Hide(), metric))

    return Changed(unit(9, 4))


def test_a_right_one_passes() -> None:
    check_memory(memory(lambda hide, metric: (hide, metric)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda hide, metric: (hide._replace(ids_B=None), metric), "hide.ids_B must hide"),
        (lambda hide, metric: (hide._replace(label_B=None), metric), "hide.label_B must hide"),
        (lambda hide, metric: (hide._replace(t_B=None), metric), "hide.t_B must hide every row"),
        (lambda hide, metric: (hide._replace(window=0.0), metric), "an infinite window must hide nothing"),
        (lambda hide, metric: (hide, "dot"), r"attend must sum .* \(l2\)"),
        (lambda hide, metric: (hide, "l2"), r"attend must sum .* \(dot\)"),
    ],
)
def test_a_wrong_one_is_found(change: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_memory(memory(change))


def test_one_that_declares_less_must_refuse() -> None:
    class Fewer(ListMemory):
        abilities = frozenset({"attend", "write"})

    with pytest.raises(AssertionError, match="must refuse to hide by what only a store with 'labels' knows"):
        check_memory(Fewer(torch.zeros(3, 4)))


def test_a_gradient_that_is_not_the_derivative_is_found() -> None:
    class Constant(ListMemory):
        def attend(
            self, q_BE: Tensor, scale: float, hide: Hide | None = None, metric: Metric = "dot"
        ) -> Attended:
            lse, count = super().attend(q_BE, scale, hide, metric)
            return Attended(lse + 0.1 * (q_BE - q_BE.detach()).sum(1), count)

    with pytest.raises(AssertionError, match="gradient of attend is not its derivative"):
        check_memory(Constant(unit(9, 4)))
