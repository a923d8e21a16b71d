"""What a step of Slurm says to each of its processes, in torchrun's variables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_FIRST_PORT, _PORTS = 10_000, 20_000
"""Below those that systems give out themselves."""

_RANGE = r"\d+(?:-\d+)?"
_NAMES = rf"(?:[^\[\],\s]|\[{_RANGE}(?:,{_RANGE})*\])+"


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT of a process that `srun` started.

    Empty outside a step of several tasks, and where another launcher (torchrun, `--nproc`) has set
    WORLD_SIZE. MASTER_ADDR and MASTER_PORT stay as they are where the environment has them.

    Raises:
        ValueError: A variable of Slurm's is missing or cannot be read; the message names it.
    """
    if "WORLD_SIZE" in environment or environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return {}
    world = _number(environment, "SLURM_STEP_NUM_TASKS")
    return {
        "RANK": str(_number(environment, "SLURM_PROCID")),
        "LOCAL_RANK": _local_rank(environment),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": environment.get("MASTER_ADDR") or _first_host(environment),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(_port(environment)),
    }


def hosts(text: str) -> Iterator[str]:
    """The hosts of a list as Slurm writes it: `a,node[003-010,12]` is a, node003, … node010, node12.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(f"{_NAMES}(?:,{_NAMES})*", text):
        raise ValueError(f"a list of hosts like node[003-010,12] was expected, found {text!r}")
    for one in re.findall(_NAMES, text):
        yield from _expand(one)


def _expand(element: str) -> Iterator[str]:
    before, bracket, rest = element.partition("[")
    if not bracket:
        yield element
        return
    ranges, _, after = rest.partition("]")
    for part in ranges.split(","):
        low, _, high = part.partition("-")
        for number in range(int(low), int(high or low) + 1):
            for tail in _expand(after):
                yield f"{before}{number:0{len(low)}d}{tail}"


def _first_host(environment: Mapping[str, str]) -> str:
    """Where process 0 is; of a step on one machine, that machine for itself."""
    if environment.get("SLURM_STEP_NUM_NODES") == "1":
        return "127.0.0.1"
    names = environment.get("SLURM_STEP_NODELIST")
    if names is None:
        raise ValueError("SLURM_STEP_NODELIST is not set: MASTER_ADDR has to name the host of process 0")
    return next(hosts(names))


def _local_rank(environment: Mapping[str, str]) -> str:
    """Which of the GPUs it sees; a process that Slurm bound to one sees that one alone."""
    bound = re.fullmatch(r"[^,]+", environment.get("CUDA_VISIBLE_DEVICES", ""))
    return "0" if bound else str(_number(environment, "SLURM_LOCALID"))


def _port(environment: Mapping[str, str]) -> int:
    """The same for all processes of a step, most likely another one for each step of a machine."""
    job, step = _number(environment, "SLURM_JOB_ID"), _number(environment, "SLURM_STEP_ID")
    return _FIRST_PORT + (31 * job + step) % _PORTS


def _number(environment: Mapping[str, str], name: str) -> int:
    found = environment.get(name, "")
    if not found.isdecimal():
        raise ValueError(f"{name}: a number was expected in a Slurm step of several tasks, found {found!r}")
    return int(found)
