"""A model split over processes (FSDP2) is the one that is copied (DDP)."""

from __future__ import annotations

import pytest
import sharding_cases as cases
import torch
from running import ready, small_recipe
from safetensors.torch import load_file

from genmem.training import checkpoints, sharding
from genmem.training.launch import spawn


def both(data, out, steps, world, *overrides):
    ready(small_recipe(data))
    spawn(cases.train_both, (data, out, steps, *overrides), world)
    return load_file(out / "0.safetensors")


def part(found, prefix):
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def test_on_two_ranks_split_and_copied_are_equal_to_the_bit(data, tmp_path):
    """20 steps in fp32, accumulated, not clipped: objectives that couple, a teacher, two queues, two
    averages. A checkpoint of either is taken up by the other, and by one process."""
    found = both(data, tmp_path, 20, 2, "--train.micro_batch=16", "--optimizer.clip=none")
    copied, split = part(found, "ddp/"), part(found, "fsdp/")
    assert int(copied.pop("split")) == 0 and int(split.pop("split")) > 20
    assert copied.keys() == split.keys()
    for name, value in copied.items():
        # The norm is added up in another order; it only goes to the log.
        if name != "losses/gradient_norm":
            assert torch.equal(value, split[name]), name
    moved = {name for name in copied if name.startswith(("ema.slow/", "memory.more/"))}
    assert moved and copied["losses/loss/denoise"][-1] < copied["losses/loss/denoise"][0]
    expected = part(found, "ddp+1/")
    for others in (part(found, "ddp from fsdp/"), part(found, "fsdp from ddp/")):
        assert others.keys() == expected.keys()
        assert all(torch.equal(others[name], value) for name, value in expected.items())
    for form in cases.FORMS:
        (path,) = (tmp_path / form).iterdir()
        groups = checkpoints.load(path).tensors
        alone = {
            f"{group}/{name}": value for group, tensors in groups.items() for name, value in tensors.items()
        }
        assert alone.keys() == expected.keys()
        assert all(torch.equal(value, copied[name]) for name, value in alone.items())


def test_on_three_ranks_and_clipped_they_are_equal_to_rounding(data, tmp_path):
    """With a second view besides."""
    found = both(data, tmp_path, 5, 3, "--optimizer.clip=0.5")
    copied, split = part(found, "ddp/losses/"), part(found, "fsdp/losses/")
    assert (copied["gradient_norm"] > 0.5).any()
    for name in ("loss/total", "loss/denoise", "objective/spread", "gradient_norm"):
        torch.testing.assert_close(split[name], copied[name], rtol=1e-5, atol=1e-6, msg=name)


def test_a_parameter_without_dimensions_is_refused_by_name():
    module = torch.nn.Module()
    module.backbone = torch.nn.Module()
    module.backbone.gain = torch.nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"train.shard = true cannot split backbone.gain"):
        sharding.shard(module, [], torch.device("cpu"), "fp32")
