"""What Slurm's variables mean, and two processes started as `srun` starts them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from running import QUICKSTART, SMALL, ready, small_recipe

from genmem import slurm

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_NTASKS": "16",
    "SLURM_PROCID": "11",
    "SLURM_LOCALID": "3",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("login", "login"),
        ("a,b-1.c", "a b-1.c"),
        ("node[003-005,12]", "node003 node004 node005 node12"),
        ("node[8-11]", "node8 node9 node10 node11"),
        ("x,n[098-101]-ib,y[7]", "x n098-ib n099-ib n100-ib n101-ib y7"),
        ("r[1-2]n[01,03]", "r1n01 r1n03 r2n01 r2n03"),
    ],
)
def test_a_list_of_hosts(text, expected):
    assert list(slurm.hosts(text)) == expected.split()


@pytest.mark.parametrize("text", ["", "a,,b", "node[", "node[]", "node[1-]", "node[a-b]", "a b", "n]1["])
def test_no_list_of_hosts(text):
    with pytest.raises(ValueError, match="a list of hosts"):
        list(slurm.hosts(text))


def test_a_task_of_a_step():
    found = slurm.variables(STEP)
    assert found == {
        "RANK": "11",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "16",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": found["MASTER_PORT"],
    }
    ports = [slurm.variables(STEP | {"SLURM_STEP_ID": str(step)})["MASTER_PORT"] for step in range(20)]
    ports += [slurm.variables(STEP | {"SLURM_JOB_ID": str(job)})["MASTER_PORT"] for job in (9999, 2**32 - 1)]
    assert len(set(ports)) == 22 and ports[2] == found["MASTER_PORT"]
    assert all(1024 <= int(port) < 32768 for port in ports)


@pytest.mark.parametrize(
    ("more", "name", "expected"),
    [
        ({"SLURM_STEP_NUM_NODES": "1"}, "MASTER_ADDR", "127.0.0.1"),
        ({"MASTER_ADDR": "10.0.0.1", "SLURM_STEP_NODELIST": "?["}, "MASTER_ADDR", "10.0.0.1"),
        ({"MASTER_PORT": "29500", "SLURM_STEP_ID": ""}, "MASTER_PORT", "29500"),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, "LOCAL_RANK", "3"),
        ({"CUDA_VISIBLE_DEVICES": "2"}, "LOCAL_RANK", "0"),
    ],
)
def test_what_the_user_or_the_machine_says_goes_first(more, name, expected):
    assert slurm.variables(STEP | more)[name] == expected


@pytest.mark.parametrize(
    "environment",
    [
        {},
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        STEP | {"WORLD_SIZE": "4"},
        {name: value for name, value in STEP.items() if name != "SLURM_STEP_NUM_TASKS"},
    ],
    ids=["elsewhere", "one task", "torchrun", "the script of a batch"],
)
def test_nothing_is_announced(environment):
    assert slurm.variables(environment) == {}


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_NODELIST"])
def test_what_is_missing_is_named(name):
    with pytest.raises(ValueError, match=name):
        slurm.variables({key: value for key, value in STEP.items() if key != name})


def test_two_tasks_of_a_step_train_together(data, tmp_path):
    """And are told that srun has started them where each shall start two more."""
    ready(small_recipe(data))
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{data}/digits/bank"')
    few = ("--train.images=64", "--evaluate.samples=64", "--evaluate.encoder.random-conv=none")
    words = ["train", str(QUICKSTART), "--out", str(tmp_path / "run"), *paths, *SMALL, *few]
    said = step([*words, "--nproc", "2"])
    assert {code for *_, code in said} == {2}
    assert all("in each of the 2 tasks of a Slurm step" in errors for _, errors, _ in said)
    first, second = step(words)
    assert (first[2], second[2]) == (0, 0), first[1] + second[1]
    assert "64 images seen" in first[0] and second[0] == ""
    pieces = tmp_path / "run" / "checkpoints" / f"{64:012d}" / "optimizer"
    assert len(list(pieces.glob("*.safetensors"))) == 2


def step(words: list[str]) -> list[tuple[str, str, int]]:
    """Two tasks on this machine: what each says, its errors and its code."""
    clean = {name: value for name, value in os.environ.items() if name not in STEP}
    clean |= STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "COLUMNS": "500"}
    clean["SLURM_JOB_ID"] = str(os.getpid())
    tasks = [
        subprocess.Popen(
            [sys.executable, "-m", "genmem", *words],
            env=clean | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    return [(*task.communicate(timeout=240), task.returncode) for task in tasks]
