"""Rows spread over ranks, unevenly: every query gets what one process with all rows gives."""

from __future__ import annotations

from pathlib import Path

import distributed_cases as cases
import pytest
import torch
from attention_parts import define, hidden, pieces, tagged, unit
from safetensors.torch import load_file

from genmem.attention import log_sum_exp
from genmem.training.launch import spawn

ROWS = tagged(unit(50))


@pytest.mark.parametrize("world", [2, 4])
def test_sharded_is_replicated_is_the_definition(tmp_path: Path, world: int) -> None:
    """Value and gradient, in float64; also where one rank holds the largest logits, or nothing counts."""
    spawn(cases.attend_sharded, (tmp_path,), world)
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(world)]
    for name, (q, hide, metric) in cases.sharded_problems().items():
        q = q.requires_grad_()
        gone = hidden(ROWS, hide, len(q))
        whole = log_sum_exp(q, pieces(ROWS, 16), 5.0, hide, metric, sharded=True)
        (gradient,) = torch.autograd.grad(whole.lse_B.square().sum(), q)
        for rank in ranks:
            for key, expected in (
                ("lse", whole.lse_B.detach()),
                ("gradient", gradient),
                ("count", whole.count_B),
            ):
                torch.testing.assert_close(rank[f"{name}/{key}"], expected, rtol=1e-12, atol=1e-12)
        expected = define(q, ROWS.keys_NE, 5.0, gone, metric)
        torch.testing.assert_close(whole.lse_B, expected, rtol=1e-12, atol=1e-12)
        assert torch.equal(whole.count_B.long(), (~gone).sum(1))
