"""The repulsor objective against its definition, and its traps.

Numbers in brackets are those of the queue traps in the reference on objectives.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.heads import RandomProjection
from genmem_repulsor.queue import Queue
from genmem_repulsor.repulsor import Repulsor, repel_within
from genmem_repulsor.sphere import uniform_floor
from synchronisation import no_host_synchronisation
from torch import Tensor

from genmem import attention
from genmem.contracts import Facts, Objective, Step
from genmem.draws import Draws
from genmem.testing import ListMemory, check_objective, example_step

BATCH, WIDTH, DEPTH = 32, 8, 4


def config(**changes: Any) -> RepulsorConfig:
    """Small settings."""
    return RepulsorConfig(**{"memory": "negatives", "tap": 2, "group": 8} | changes)


def build(settings: RepulsorConfig, batch: int = BATCH) -> Repulsor:
    """The objective, its head the same every time."""
    torch.manual_seed(0)
    module = settings.build(
        Facts(
            sample_shape=(2, 4, 4),
            output_channels=2,
            batch=batch,
            memory_widths={"negatives": WIDTH},
            tap_widths=dict.fromkeys(range(1, DEPTH + 1), 16),
        )
    )
    assert isinstance(module, Repulsor)
    return module


def step_with(memory: Any, settings: RepulsorConfig, batch: int = BATCH, seed: int = 0) -> Step:
    """Made-up hidden states and this memory."""
    return attrs.evolve(
        example_step(settings, batch=batch, seed=seed), memories={"negatives": memory}, images_seen=0
    )


def part_of(step: Step, start: int, stop: int) -> Step:
    """One micro-batch of a step."""
    hidden = {tap: h.detach()[start:stop].requires_grad_() for tap, h in step.prediction.hidden.items()}
    batch = step.batch._replace(index_B=step.batch.index_B[start:stop])
    return attrs.evolve(step, batch=batch, prediction=step.prediction._replace(hidden=hidden))


def directions(count: int, seed: int = 5, width: int = WIDTH) -> Tensor:
    """Unit vectors, uniform on the sphere."""
    return F.normalize(Draws(seed, torch.arange(count)).normal("row", (width,)), dim=1)


def filled(count: int = 300, first_id: int = 0) -> Queue:
    """A queue that holds this many rows, the first BATCH of them of the batch's own samples."""
    queue = Queue(512, WIDTH, "fp32")
    queue.rows_RE.fill_(torch.nan)
    queue.stage(directions(count), torch.arange(first_id, first_id + count))
    queue.commit(torch.tensor(True))
    return queue


@pytest.mark.parametrize("head", ["mlp", "linear", "jl"])
@pytest.mark.parametrize("group", [16, "global"])
def test_contract(head: str, group: int | str) -> None:
    """What every objective must do."""
    check_objective(RepulsorConfig(memory="negatives", tap_fraction=0.5, head=head, group=group))  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.05, 0.2, 0.5])
def test_value_and_gradient_are_the_definition(temperature: float) -> None:
    """[11] Both terms in float64, pair by pair, own samples left out."""
    settings = config(temperature=temperature, w_bank=0.7, w_batch=1.3)
    queue, module = filled(), build(settings)
    step = step_with(queue, settings)
    hidden = step.prediction.hidden[2]
    q = F.normalize(module.head(hidden.mean(1)), dim=1).double()
    keys, ids = queue.state()["rows"].double(), queue.state()["ids"]
    bank = batch = torch.zeros((), dtype=torch.float64)
    for i in range(BATCH):
        others = keys[ids != step.batch.index_B[i]]
        bank = bank + (others @ q[i] / temperature).exp().mean().log() / BATCH
        mates = [j for j in range(i - i % 8, i - i % 8 + 8) if j != i]
        batch = batch + (q[mates] @ q[i] / temperature).exp().mean().log() / BATCH
    expected = 0.7 * bank + 1.3 * batch
    gradients = torch.autograd.grad(expected, [hidden, *module.head.parameters()], retain_graph=True)
    value, metrics = module(step)
    found = torch.autograd.grad(value, [hidden, *module.head.parameters()])
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert float(metrics["bank"]) == pytest.approx(float(bank.detach()), rel=1e-5)
    assert float(metrics["gap"]) == pytest.approx(float(bank.detach()) - module.floor, rel=1e-4)
    assert float(metrics["mean_query"]) == pytest.approx(float(q.detach().mean(0).norm()), rel=1e-5)


@pytest.mark.parametrize(
    ("temperature", "floor"), [(0.05, 1.544), (0.07, 0.792), (0.1, 0.3895), (0.2, 0.0976), (0.5, 0.0156)]
)
def test_floor(temperature: float, floor: float) -> None:
    """[13] The reference's table for d = 128, and SciPy's 0F1 at other widths."""
    assert uniform_floor(128, temperature) == pytest.approx(floor, abs=5e-4)
    for width in (2, 3, 32, 1024):
        expected = math.log(scipy.special.hyp0f1(width / 2, 1 / (4 * temperature**2)))
        assert uniform_floor(width, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 90 < uniform_floor(2, 0.01) < 100  # terms far beyond what a float holds


def test_both_terms_reach_floor_and_ceiling() -> None:
    """[13] The same functional: floor for uniform features, 1/τ for equal ones."""
    uniform = directions(4096, width=32)
    assert float(repel_within(uniform[None], 0.5)) == pytest.approx(uniform_floor(32, 0.5), abs=5e-3)
    assert float(repel_within(uniform[:1].expand(16, 32)[None], 0.2)) == pytest.approx(5.0)


def test_l2_and_cosine_are_one_on_the_sphere() -> None:
    """[14] Squared distances at τ are cosines at τ/2, less 2/τ."""
    q = directions(20).double()
    distances = torch.cdist(q, q).square()[~torch.eye(20, dtype=torch.bool)].view(20, 19)
    l2 = (-distances / 0.6).exp().mean(1).log().mean()
    torch.testing.assert_close(repel_within(q[None], 0.3) - 2 / 0.6, l2)


def test_a_memory_of_the_batch_itself_is_the_in_batch_term() -> None:
    """[14] With own samples left out the two terms are one number."""
    settings = config(group=BATCH, min_fill=0)
    module, step = build(settings), step_with(None, settings)
    q = module.queries(step.prediction.hidden[2]).detach()
    result = module(attrs.evolve(step, memories={"negatives": ListMemory(q, step.batch.index_B)}))
    torch.testing.assert_close(result.metrics["bank"], result.metrics["batch"])


def test_scored_before_it_is_written() -> None:
    """[5] A forward changes nothing in the memory; what it staged arrives at commit, once."""
    settings, queue = config(), filled(first_id=1000)
    module, step = build(settings), step_with(queue, settings)
    before = queue.state()
    module(step)
    assert all(torch.equal(queue.state()[key], value) for key, value in before.items())
    queue.commit(torch.tensor(True))
    assert int(queue.total) == 300 + BATCH
    q = module.queries(step.prediction.hidden[2]).detach()
    torch.testing.assert_close(queue.state()["rows"][-BATCH:], q)
    # Once it is there, its own copy is hidden: else the sum would hold exp(1/τ) from itself.
    others = torch.cat([before["rows"], q])
    own = torch.arange(300 + BATCH) == 300 + torch.arange(BATCH)[:, None]
    expected = (5.0 * q @ others.T).masked_fill(own, -torch.inf).logsumexp(1) - math.log(299 + BATCH)
    torch.testing.assert_close(module(step).metrics["bank"], expected.mean())
    lse, count = queue.attend(q, 5.0)  # the wrong variant: written first, no mask
    assert bool((lse - count.log() > expected).all())


def test_the_weight_of_one_copy_of_oneself() -> None:
    """[5] Oracle 7: 91.7 % at τ = 0.07, 0.2 % at 0.2, in 65,536 uniform rows of width 128."""
    keys = directions(65_536, width=128)
    for temperature, mass in ((0.07, 0.917), (0.2, 0.002)):
        closed = 1 / (1 + 65_536 * math.exp(uniform_floor(128, temperature) - 1 / temperature))
        lse = ListMemory(keys).attend(keys[:64], 1 / temperature).lse_B
        assert float((1 / temperature - lse).exp().mean()) == pytest.approx(closed, rel=0.05)
        assert closed == pytest.approx(mass, abs=6e-4)


@pytest.mark.parametrize("held", [0, 4 * BATCH - 1, 4 * BATCH])
def test_below_min_fill_the_term_is_zero_and_connected(held: int) -> None:
    """[6] No NaN, no unused parameter, no jump: only the in-batch term has a gradient."""
    settings = config(w_batch=0.0)
    module = build(settings)
    step = step_with(filled(held, first_id=1000), settings)
    value, metrics = module(step)
    value.backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    moved = any(bool(gradient.any()) for gradient in gradients if gradient is not None)
    ready = held >= 4 * BATCH
    assert moved == ready and (float(value.detach()) != 0) == ready and float(metrics["ready"]) == ready
    assert ready or float(metrics["gap"]) == 0


def test_a_memory_that_can_never_fill_is_refused() -> None:
    """By both numbers, and with the way out."""
    settings = config()
    with pytest.raises(ValueError, match=r"room for 64 rows.*4 global batches, 128 rows.*lower min_fill"):
        build(settings)(step_with(Queue(64, WIDTH), settings))


def test_written_in_training_only() -> None:
    """[7] Not in evaluation, and not to a memory that is only read."""
    for changes, training, staged in (({}, True, 1), ({}, False, 0), ({"enqueue": False}, True, 0)):
        settings, memory = config(**changes), ListMemory(directions(300))
        build(settings).train(training)(step_with(memory, settings))
        assert len(memory.staged) == staged
    assert config().needs == {"negatives": {"attend", "write"}}
    assert config(enqueue=False).needs == {"negatives": {"attend"}}


def test_a_frozen_memory_is_full_from_the_start() -> None:
    """`min_fill` waits for what training writes, and there is nothing to wait for."""
    settings = config(enqueue=False)
    result = build(settings)(step_with(ListMemory(directions(10), torch.arange(1000, 1010)), settings))
    assert float(result.metrics["ready"]) == 1


def test_the_split_into_micro_batches_does_not_matter() -> None:
    """[7] The mean over micro-batches of whole groups is the value of the whole."""
    settings, memory = config(), ListMemory(directions(300))
    module, step = build(settings), step_with(memory, config())
    whole: Objective = module(step)
    parts = [module(part_of(step, start, start + 8)) for start in range(0, BATCH, 8)]
    torch.testing.assert_close(torch.stack([part.value for part in parts]).mean(), whole.value)
    rows = torch.cat([rows for rows, _ in memory.staged[1:]])
    torch.testing.assert_close(rows, memory.staged[0][0])
    with pytest.raises(ValueError, match="micro-batch of 12 is not whole groups of 8"):
        module(part_of(step, 0, 12))


def test_fp32_under_autocast() -> None:
    """[25] Head, products and logarithms."""
    settings = config()
    module, step = build(settings), step_with(filled(), config())
    plain = module(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = module(step)
    assert torch.equal(plain.value, cast.value)


def test_a_zero_feature_gives_no_nan() -> None:
    """[9] In value or gradient."""
    settings = config(head="jl")
    module, step = build(settings), step_with(filled(), config())
    step.prediction.hidden[2].data.zero_()
    value, _ = module(step)
    value.backward()
    gradient = step.prediction.hidden[2].grad
    assert bool(value.isfinite()) and gradient is not None and bool(gradient.isfinite().all())


def test_no_host_synchronisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """[26] In a whole step: forward, backward, commit."""
    settings, queue = config(), filled()
    module, step = build(settings), step_with(queue, settings)
    monkeypatch.setattr(attention, "_on_host", lambda tensor: False)
    with no_host_synchronisation():
        module(step).value.backward()
        queue.commit(torch.tensor(True))


def test_the_random_projection() -> None:
    """Oracle 8: no parameters, nothing in the state, the same from a seed, √(2/d) on squared norms."""
    module = build(config(head="jl"))
    assert not list(module.parameters()) and not module.state_dict()
    head, same, other = (RandomProjection(1152, 128, seed) for seed in (0, 0, 1))
    assert torch.equal(head.matrix_DE, same.matrix_DE) and not torch.equal(head.matrix_DE, other.matrix_DE)
    square = head(directions(400, width=1152)).square().sum(1)
    assert float(square.mean()) == pytest.approx(1.0, abs=0.03)
    assert float(square.std()) == pytest.approx(math.sqrt(2 / 128), rel=0.15)


def test_it_holds_no_memory() -> None:
    """[22] Neither a copy nor a checkpoint of the objective contains rows."""
    settings = config()
    module = build(settings)
    module(step_with(filled(), settings))
    assert set(module.state_dict()) == {f"head.{n}.{p}" for n in (0, 1, 3) for p in ("weight", "bias")}
    assert not list(module.buffers())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, "cannot repel itself.*w_batch = 0"),
        ({"w_bank": 0.0, "w_batch": 0.0}, "both 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"min_fill": -1}, "min_fill"),
        ({"tap_fraction": 0.5}, "either tap"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    """Before anything is built."""
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_batch_that_is_not_whole_groups_is_refused() -> None:
    """When it is built."""
    with pytest.raises(ValueError, match="global batch of 30 is not whole groups of 8"):
        build(config(), batch=30)
