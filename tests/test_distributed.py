"""One process or several: the same weights, memories, pictures."""

from __future__ import annotations

import distributed_cases as cases
import pytest
import torch
from running import assert_equal, ready, small_recipe
from safetensors.torch import load_file

from genmem.training.launch import spawn


@pytest.fixture(scope="module")
def one_process(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("one")
    ready(small_recipe(data))
    cases.train_and_save(data, out)
    return load_file(out / "0.safetensors")


@pytest.mark.parametrize(("world", "overrides"), [(2, ()), (2, ("--train.micro_batch=16",))])
def test_ranks_and_accumulation_change_nothing(data, tmp_path, one_process, world, overrides):
    """Queue, sharded memory, bank, dispersive groups, EMA: equal to one process to rounding."""
    spawn(cases.train_and_save, (data, tmp_path, *overrides), world)
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(world)]
    assert_equal(ranks[0], ranks[1])
    pictures, expected = ranks[0].pop("pictures").int(), one_process["pictures"].int()
    assert (pictures - expected).abs().max() <= 1
    assert_equal(ranks[0], {k: v for k, v in one_process.items() if k != "pictures"}, atol=5e-5)


@pytest.mark.parametrize("world", [2, 4])
def test_gathered_gradients_are_those_of_one_process(tmp_path, world):
    spawn(cases.gather_gradients, (tmp_path,), world)
    found = load_file(tmp_path / "0.safetensors")
    rows = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cases.pairwise(rows).backward()
    torch.testing.assert_close(found["exact"], rows.grad, atol=1e-12, rtol=0)
    # Gathering without gradient shrinks it by the number of ranks.
    torch.testing.assert_close(found["wrong"], rows.grad / world, atol=1e-12, rtol=0)


def test_a_rank_that_fails_ends_the_run_and_says_why():
    with pytest.raises(ValueError, match=r"^process 1: this rank is at fault"):
        spawn(cases.fail_on_rank_1, (), 2)


def test_no_processes_are_refused():
    with pytest.raises(ValueError, match="--nproc must be 1 or more"):
        spawn(cases.fail_on_rank_1, (), 0)


def test_preparing_may_take_long_and_a_group_of_the_hosts_waits_as_long_as_it_is_told(tmp_path):
    spawn(cases.wait_for_others, (tmp_path,), 2)
    assert (tmp_path / "end").exists()
