"""Two and four processes hold and compute what one does, by the queue traps' numbers."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest
import repulsor_ranks as ranks
import torch
from repulsor_parts import WIDTH
from torch import Tensor

from genmem_repulsor.queue import Queue

WORLDS = (2, 4)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """{processes: what each found}. They fork from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["repulsor_ranks"])
    folders = {world: tmp_path_factory.mktemp(f"world{world}") for world in WORLDS}
    workers = [
        context.Process(target=ranks.run, args=(rank, world, folders[world]))
        for world in WORLDS
        for rank in range(world)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    return {
        world: [torch.load(folders[world] / f"rank{rank}.pt") for rank in range(world)] for world in WORLDS
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process finds."""
    found: dict[str, Any] = ranks.everything(0, 1)
    return found


def whole(name: str) -> dict[str, Tensor]:
    """One process that takes the global batch at once."""
    found: dict[str, Tensor] = ranks.train(ranks.CASES[name][0], 0, False, 0, 1)
    return found


@pytest.mark.parametrize("name", ["bank", "masks", "l2", "global"])
def test_trap_17_20_contents_values_and_gradients_are_one_processs(
    name: str, together: dict[int, list[dict[str, Any]]], alone: dict[str, Any]
) -> None:
    """On 1, 2 and 4 ranks, in micro-batches of 8, 2 and 1, replicated and sharded, to 1e-6."""
    expected = whole(name)
    assert float(expected["gradient"].abs().max()) > 1e-3
    found = [alone, *(rank for world in WORLDS for rank in together[world])]
    compared = 0
    for rank in found:
        for key, run in rank["runs"].items():
            if key.startswith(f"{name}/"):
                compared += 1
                for part in ("ids", "label", "t", "total", "rejected"):
                    assert torch.equal(run[part], expected[part]), (key, part)
                for part in ("rows", "value", "gradient", "near"):
                    torch.testing.assert_close(run[part], expected[part], rtol=1e-6, atol=1e-6)
    assert compared == 7 * 2 * len(ranks.CASES[name][1])
    ids = [n * 32 + i for n in (0, 2) for i in range(32)]
    assert expected["ids"].tolist() == [i % ranks.SAMPLES for i in ids][-ranks.ROWS :]


def test_trap_17_nearest_slots_are_the_same(
    together: dict[int, list[dict[str, Any]]], alone: dict[str, Any]
) -> None:
    """Where every row is asked for, each slot comes once, in the order of its product."""
    expected = alone["runs"]["bank/8/False"]
    for world in WORLDS:
        run = together[world][0]["runs"]["bank/8/True"]
        assert torch.equal(run["slots"].sort(1).values, expected["slots"].sort(1).values)
        torch.testing.assert_close(run["near"], expected["near"])


def test_trap_18_the_exact_gather_and_a_wrong_one(
    together: dict[int, list[dict[str, Any]]], alone: dict[str, Any]
) -> None:
    """Oracle 9: exact to 1e-12; without gradient 1/W of it."""
    expected = alone["gathers"]["exact"]
    for world in WORLDS:
        found = together[world][0]["gathers"]
        torch.testing.assert_close(found["exact"], expected, rtol=1e-12, atol=1e-12)
        projection = float((found["wrong"] * expected).sum() / expected.square().sum())
        assert projection == pytest.approx(1 / world, rel=1e-6)


def test_trap_19_uneven_ranks(together: dict[int, list[dict[str, Any]]]) -> None:
    """All rows arrive, in rank order, also from a rank that brings none; more than a share is refused."""
    for world in WORLDS:
        for rank in together[world]:
            found = rank["uneven"]
            count = int(found["written"])
            assert found["ids"].tolist() == [*range(count)]
            assert torch.equal(found["rows"][:, 0], torch.arange(count).float())
            assert bool(found["refused"]) and int(found["total"]) == count


def test_trap_21_no_broadcast_reaches_the_queue(together: dict[int, list[dict[str, Any]]]) -> None:
    """A forward under DDP leaves each rank's share alone; as a buffer it would be rank 0's."""
    for world in WORLDS:
        for number, rank in enumerate(together[world]):
            found = rank["broadcasts"]
            assert bool((found["share"] == number).all()) and found["share"].shape[1] == WIDTH
            assert not found["buffer"].any()
            assert int(found["bytes"]) == 1


@pytest.mark.parametrize("saved", [2, 4])
def test_trap_23_a_sharded_state_loads_in_one_process(
    saved: int, together: dict[int, list[dict[str, Any]]]
) -> None:
    """It knows nothing of processes: here into a larger and a smaller queue."""
    state = together[saved][0]["runs"]["bank/1/True"]
    for rows in (40, 100):
        queue = Queue(rows, WIDTH, "fp32")
        queue.load_state(state)
        assert torch.equal(queue.state()["ids"], state["ids"][-rows:])
        assert torch.equal(queue.state()["rows"], state["rows"][-rows:])
