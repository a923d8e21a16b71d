"""A model split over processes (FSDP2) is the one that is copied (DDP).

Blocks compiled to machine code take a minute: `pytest -n0 -m slow tests/test_sharding.py`.
"""

from __future__ import annotations

import socket

import pytest
import sharding_cases as cases
import torch
from running import ready, small_recipe
from safetensors.torch import load_file

from genmem.training import checkpoints, sharding
from genmem.training.launch import spawn


@pytest.fixture(scope="module")
def out(data, tmp_path_factory):
    """Where the processes put what they found; they start once for all tests."""
    ready(small_recipe(data))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path_factory.mktemp("sharding")
    spawn(cases.compare, (data, out, port), 3)
    return out


def part(found, prefix):
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def assert_bits(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        # The norm is added up in another order; it only goes to the log.
        if name != "losses/gradient_norm":
            assert torch.equal(value, second[name]), name


def test_on_two_ranks_split_and_copied_are_equal_to_the_bit(out):
    """20 steps in fp32, accumulated, not clipped: objectives that couple, a teacher, two queues, two
    averages. A checkpoint of either is taken up by the other, and by one process."""
    found = load_file(out / "two" / "found.safetensors")
    copied, split = part(found, "ddp/"), part(found, "fsdp/")
    assert int(copied.pop("split")) == 0 and int(split.pop("split")) > 20
    assert_bits(copied, split)
    moved = {name for name in copied if name.startswith(("ema.slow/", "memory.more/"))}
    assert moved and copied["losses/loss/denoise"][-1] < copied["losses/loss/denoise"][0]
    expected = part(found, "ddp+1/")
    for others in ("ddp from fsdp/", "fsdp from ddp/"):
        assert_bits(expected, part(found, others))
    for form in cases.FORMS:
        (path,) = (out / "two" / form).iterdir()
        groups = checkpoints.load(path).tensors
        alone = {
            f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()
        }
        assert alone.keys() == expected.keys()
        assert all(torch.equal(value, copied[name]) for name, value in alone.items())


@pytest.mark.parametrize("world", ["two", "three"])
def test_no_network_gives_back_a_view_that_could_lose_what_gathers_its_weights(out, world):
    views = part(load_file(out / world / "found.safetensors"), "views/")
    assert "fsdp" in views and not any(views.values())


def test_on_three_ranks_and_clipped_they_are_equal_to_rounding(out):
    """With a second view besides."""
    found = load_file(out / "three" / "found.safetensors")
    copied, split = part(found, "ddp/losses/"), part(found, "fsdp/losses/")
    assert (copied["gradient_norm"] > 0.5).any()
    for name in ("loss/total", "loss/denoise", "objective/spread", "gradient_norm"):
        torch.testing.assert_close(split[name], copied[name], rtol=1e-5, atol=1e-6, msg=name)


def check_compiled(found):
    """Compiled equals eager to rounding, and compiled the two forms are equal to the bit."""
    assert_bits(part(found, "compiled ddp/"), part(found, "compiled fsdp/"))
    # All blocks share one graph: two of them, in two micro-batches of two steps.
    assert found["compiled fsdp/counts"].tolist() == [1, 2 * 2 * 2]
    for name, value in part(found, "compiled fsdp/losses/").items():
        eager = found[f"fsdp/losses/{name}"][:2]
        torch.testing.assert_close(value, eager, rtol=1e-5, atol=1e-6, msg=name)


def test_compiled_blocks_are_run_in_both_forms_and_give_the_same(out):
    check_compiled(load_file(out / "two" / "found.safetensors"))


@pytest.mark.slow
def test_compiled_to_machine_code_they_give_the_same_too(data, tmp_path):
    """pytest -n0 -m slow tests/test_sharding.py"""
    ready(small_recipe(data))
    spawn(cases.compile_in_earnest, (data, tmp_path), 2)
    check_compiled(load_file(tmp_path / "found.safetensors"))


def test_a_parameter_without_dimensions_is_refused_by_name():
    module = torch.nn.Module()
    module.backbone = torch.nn.Module()
    module.backbone.gain = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"train.shard = true cannot split backbone.gain"):
        sharding.shard(module, [], torch.device("cpu"), "fp32")
