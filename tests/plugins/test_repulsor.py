"""The repulsor objective against its definition and closed forms, by the queue traps' numbers."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from repulsor_parts import BATCH, Brute, build, config, directions, filled, step_with
from torch import Tensor

from genmem.contracts import Attended, Hide
from genmem.testing import check_objective
from genmem_repulsor import RepulsorConfig
from genmem_repulsor.sphere import uniform_floor
from genmem_repulsor.terms import add_anchor, reduce_terms, score_within

OPTIONS: list[dict[str, Any]] = [
    {},
    {"metric": "l2", "temperature": 0.4},
    {"metric": "l2", "anchor": 4, "reduction": "global"},
    {"reduction": "global"},
    {"group": "global", "reduction": "global"},
    {"hide_class": True, "window": 0.4},
    {"hide_own": False},
    {"temperature": 0.05},
]


def within(q_GNE: Tensor, temperature: float, metric: Any = "dot", anchor: int | None = None) -> Tensor:
    """The in-batch term, per query, nothing hidden."""
    seen = score_within(q_GNE, Hide(), 1 / temperature, metric)
    return reduce_terms(add_anchor(seen, anchor), seen.count_B > 0, "per_query")


@pytest.mark.parametrize("head", ["mlp", "linear", "jl"])
@pytest.mark.parametrize("group", [16, "global"])
def test_contract(head: str, group: int | str) -> None:
    """What every objective must do."""
    check_objective(RepulsorConfig(memory="negatives", tap_fraction=0.5, head=head, group=group))  # type: ignore[arg-type]


def defined(settings: RepulsorConfig, q: Tensor, step: Any, held: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """L_bank and L_batch by loops in float64."""
    tau, batch = settings.temperature, step.batch
    anchor = settings.resolved_anchor
    similarity = (
        (lambda a, b: b @ a) if anchor is None else (lambda a, b: -(a - b).square().sum(-1) / q.shape[1])
    )
    now = {"rows": q, "ids": batch.index_B, "label": batch.label_B, "t": step.times.t}

    def others(i: int, known: dict[str, Tensor], mates: list[int]) -> Tensor:
        seen = torch.zeros(len(known["ids"]), dtype=torch.bool)
        seen[mates] = True
        if settings.hide_own:
            seen &= known["ids"] != now["ids"][i]
        if settings.hide_class:
            seen &= known["label"] != now["label"][i]
        if settings.window is not None:
            seen &= (known["t"] - now["t"][i]).abs() < settings.window
        return seen

    def sums(i: int, known: dict[str, Tensor], mates: list[int]) -> tuple[Tensor, float]:
        keys = known["rows"][others(i, known, mates)]
        alpha = len(keys) / (anchor - 1) if anchor else 0.0
        return (similarity(q[i], keys) / tau).exp().sum() + alpha, len(keys) + alpha

    size = BATCH if settings.group == "global" else settings.group
    terms = []
    for known, whole in ((held, True), (now, False)):
        value = torch.zeros((), dtype=torch.float64)
        for start in range(0, BATCH, size):
            group = range(start, start + size)
            mates = {i: [*range(len(held["ids"]))] if whole else [j for j in group if j != i] for i in group}
            found = [sums(i, known, mates[i]) for i in group]
            if settings.reduction == "per_query":
                value = value + sum(((s / n).log() for s, n in found if n), torch.zeros(())) / BATCH
            else:
                total = torch.stack([s for s, _ in found]).sum() / sum(n for _, n in found)
                value = value + total.log() * size / BATCH
        terms.append(value)
    return terms[0], terms[1]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_trap_11_value_and_gradient_are_the_definition(options: dict[str, Any]) -> None:
    """Both terms in float64, pair by pair: metric, reduction, anchor, groups and masks."""
    settings = config(w_bank=0.7, w_batch=1.3, min_fill=1, **options)
    queue, module = filled(), build(settings)
    module.head[-1].weight.data.mul_(4.0)  # so that unnormalised features lie apart
    step = step_with(queue, settings)
    hidden = step.prediction.hidden[2]
    q = module.head(hidden).double()
    q = F.normalize(q, dim=1) if settings.metric == "cos" else q
    held = {k: v.double() if v.is_floating_point() else v for k, v in queue.state().items() if v.ndim}
    bank, batch = defined(settings, q, step, held)
    expected = 0.7 * bank + 1.3 * batch
    weights = [hidden, *module.head.parameters()]
    gradients = torch.autograd.grad(expected, weights, retain_graph=True)
    value, metrics = module(step)
    found = torch.autograd.grad(value, weights)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=2e-6)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    close = pytest.approx(float(bank.detach()), rel=1e-5, abs=2e-6)
    assert float(metrics["bank"]) == close
    assert float(metrics["gap"]) + module.floor == close
    assert float(metrics["lag"]) == pytest.approx(float((batch - bank).detach()), abs=1e-5)


def test_reductions_differ_as_jensen_says() -> None:
    """The mean of logarithms is at most the logarithm of the mean."""
    seen = Attended(torch.randn(4, 8), torch.full((4, 8), 3.0))
    ready = torch.ones(4, 8, dtype=torch.bool)
    assert reduce_terms(seen, ready, "per_query") < reduce_terms(seen, ready, "global")


def test_trap_12_no_overflow_at_a_tiny_temperature() -> None:
    """Logits of ten thousand."""
    settings = config(temperature=1e-4, w_batch=0.0, hide_own=False)
    module, queue = build(settings), filled()
    step = step_with(queue, settings)
    value, _ = module(step)
    q = module.queries(step.prediction.hidden[2]).detach()
    expected = (1e4 * q.double() @ queue.state()["rows"].double().T).logsumexp(1).mean() - math.log(300)
    assert float(value.detach()) == pytest.approx(0.5 * float(expected), rel=1e-5)
    naive = (1e4 * q @ queue.state()["rows"].T).exp().mean(1).log()  # the wrong variant
    assert not naive.isfinite().all()


def test_trap_12_storage_in_bf16() -> None:
    """What rounding 65,536 rows changes, by the reference's table."""
    keys, q = directions(65_536, width=128), directions(32, seed=9, width=128).double()
    exact, rounded = (k.double() @ q.T for k in (keys, keys.bfloat16()))
    for temperature, most in ((0.05, 2e-4), (0.07, 5e-5), (0.1, 3.3e-5), (0.2, 3.3e-5)):
        change = (rounded / temperature).logsumexp(0) - (exact / temperature).logsumexp(0)
        assert abs(float(change.mean())) < most


@pytest.mark.parametrize(
    ("temperature", "floor"), [(0.05, 1.544), (0.07, 0.792), (0.1, 0.3895), (0.2, 0.0976), (0.5, 0.0156)]
)
def test_trap_13_floor(temperature: float, floor: float) -> None:
    """Oracle 5: the reference's table for d = 128, and SciPy's 0F1 at other widths."""
    assert uniform_floor(128, temperature) == pytest.approx(floor, abs=5e-4)
    for width in (2, 3, 32, 1024):
        expected = math.log(scipy.special.hyp0f1(width / 2, 1 / (4 * temperature**2)))
        assert uniform_floor(width, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 90 < uniform_floor(2, 0.01) < 100  # terms far beyond what a float holds


def test_trap_13_both_terms_reach_floor_and_ceiling() -> None:
    """The same functional: floor for uniform features, 1/τ for equal ones, 0 for orthogonal ones."""
    uniform = directions(4096, width=32)
    seen = Brute(uniform).attend(uniform[:512], 2.0)
    bank = seen.lse_B - seen.count_B.log()
    error = float(bank.std()) / math.sqrt(512)
    assert float(bank.mean()) == pytest.approx(uniform_floor(32, 0.5), abs=3 * error + 2 / 4096 * math.e**2)
    assert float(within(uniform[None], 0.5)) == pytest.approx(uniform_floor(32, 0.5), abs=5e-3)
    assert float(within(uniform[:1].expand(16, 32)[None], 0.2)) == pytest.approx(5.0)
    assert float(within(torch.eye(16)[None], 0.2)) == pytest.approx(0.0, abs=1e-6)


def test_trap_14_l2_and_cosine_are_one_on_the_sphere() -> None:
    """Oracle 6: squared distances at τ are cosines at τ/2, less 2/τ."""
    q = directions(20).double()
    torch.testing.assert_close(within(q[None], 0.3) - 2 / 0.6, within(q[None], 0.6, "l2"))
    distances = torch.cdist(q, q).square()[~torch.eye(20, dtype=torch.bool)].view(20, 19)
    torch.testing.assert_close(within(q[None], 0.6, "l2"), (-distances / 0.6).exp().mean(1).log().mean())


def test_trap_14_a_memory_of_the_batch_itself_is_the_in_batch_term() -> None:
    """With own samples left out the two terms are one number, for either metric."""
    for metric in ("cos", "l2"):
        settings = config(group=BATCH, min_fill=0, metric=metric)
        module, step = build(settings), step_with(None, settings)
        q = module.queries(step.prediction.hidden[2]).detach()
        result = module(attrs.evolve(step, memories={"negatives": Brute(q, step.batch.index_B)}))
        torch.testing.assert_close(result.metrics["bank"], result.metrics["batch"])
        assert float(result.metrics["lag"]) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("metric", ["cos", "l2"])
@pytest.mark.parametrize("reduction", ["per_query", "global"])
def test_trap_15_the_number_of_negatives_does_not_matter(metric: str, reduction: str) -> None:
    """Every row twice, or three times: the same L_bank."""
    settings = config(metric=metric, reduction=reduction, min_fill=0)
    module, rows = build(settings), directions(200)
    found = [module(step_with(Brute(rows.repeat(times, 1)), settings)).metrics["bank"] for times in (1, 2, 3)]
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])
    lse = [Brute(rows.repeat(times, 1)).attend(rows[:4], 5.0).lse_B for times in (1, 2)]
    assert bool((lse[1] - lse[0] > 0.69).all())  # the wrong variant: without log of the count


@pytest.mark.parametrize("count", [16, 200, 3000])
@pytest.mark.parametrize("anchor", [4, 16])
def test_trap_16_the_anchor_ends_repulsion_at_the_same_distance(count: int, anchor: int) -> None:
    """The floor -log B_ref for any number of negatives; without it the loss falls without end."""
    rows = directions(count)
    for scale, reached in ((30.0, True), (0.1, False)):
        q = (scale * directions(8, seed=1)).requires_grad_()
        seen = Brute(rows * scale).attend(q, 1.0, metric="l2")
        lse, number = add_anchor(seen, anchor)
        loss = lse - number.log()
        assert bool((loss > -math.log(anchor) - 1e-5).all())
        if reached:
            torch.testing.assert_close(loss, torch.full((8,), -math.log(anchor)), atol=1e-4, rtol=0)
            (gradient,) = torch.autograd.grad(loss.sum(), q)
            assert float(gradient.abs().max()) < 1e-3
            # The wrong variant: no anchor. A thousand below already, and steeper with every step.
            wrong = seen.lse_B - seen.count_B.log()
            assert bool((wrong < -10).all())


def test_trap_16_with_groups_of_the_reference_size_the_anchor_is_the_diagonal() -> None:
    """The dispersive loss in its own words: log of the mean over all pairs, i = j included."""
    q = torch.randn(3, 16, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = add_anchor(score_within(q, Hide(), 1 / (10 * 0.5), "l2"), 16)
    found = reduce_terms(seen, torch.ones(3, 16, dtype=torch.bool), "global")
    distance = (q[:, :, None] - q[:, None]).square().mean(-1)
    torch.testing.assert_close(found, (-distance / 0.5).exp().mean((1, 2)).log().mean())


def test_trap_25_fp32_under_autocast() -> None:
    """Head, products and logarithms."""
    for metric in ("cos", "l2"):
        settings = config(metric=metric)
        module, step = build(settings), step_with(filled(), settings)
        plain = module(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            cast = module(step)
        assert torch.equal(plain.value, cast.value)


def test_trap_09_a_zero_feature_gives_no_nan() -> None:
    """In value or gradient."""
    settings = config(head="jl")
    module, step = build(settings), step_with(filled(), settings)
    hidden = step.prediction.hidden[2]
    hidden.data.zero_()
    value, _ = module(step)
    value.backward()
    assert bool(value.isfinite()) and hidden.grad is not None and bool(hidden.grad.isfinite().all())
    zero = torch.zeros(3)
    assert bool((zero / zero.norm()).isnan().all())  # the wrong variant


def test_where_everything_is_hidden_the_terms_are_zero_and_connected() -> None:
    """Oracle of trap 5: one class only, and the class is hidden."""
    for reduction in ("per_query", "global"):
        settings = config(hide_class=True, reduction=reduction, min_fill=0)
        queue, module = filled(), build(settings)
        queue.ring["label"].fill_(1)
        step = step_with(queue, settings)
        step = attrs.evolve(step, batch=step.batch._replace(label_B=torch.ones(BATCH, dtype=torch.int64)))
        value, metrics = module(step)
        gradients = torch.autograd.grad(value, [*module.head.parameters()])
        assert float(value.detach()) == 0 and float(metrics["ready"]) == 0
        assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, r"cannot repel itself.*w_batch = 0"),
        ({"w_bank": 0.0, "w_batch": 0.0}, "both 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"min_fill": -1}, "min_fill"),
        ({"tap_fraction": 0.5}, "either tap"),
        ({"tap": "all"}, "name another objective"),
        ({"anchor": 16}, 'it is for metric = "l2"'),
        ({"pool": "token-compress"}, "needs the number of tokens"),
        ({"tokens": 4}, "the others take any"),
        ({"pool": "flatten-jl"}, 'set head = "jl"'),
        ({"keys": "ema"}, "make the chase worse"),
        ({"keys": "ema-head", "head": "jl"}, "nothing to average"),
        ({"keys": "ema-head", "enqueue": False}, "enqueue = false writes nothing"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    """Before anything is built."""
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_what_does_not_fit_is_refused_when_it_is_built() -> None:
    """A batch that is not whole groups, and a memory that can never fill."""
    with pytest.raises(ValueError, match="global batch of 30 is not whole groups of 8"):
        build(config(), batch=30)
    with pytest.raises(ValueError, match=r"room for 64 rows.*4 global batches, 128 rows.*lower min_fill"):
        build(config(), rows=64)
    assert config(group=1, w_batch=0.0).coupling is None
    build(config(group=1, w_batch=0.0), batch=30)


def test_abilities_asked_for_follow_the_options() -> None:
    """Labels and times only where something is hidden by them."""
    assert config().needs == {"negatives": {"attend", "write"}}
    assert config(enqueue=False).needs == {"negatives": {"attend"}}
    assert config(hide_class=True, window=0.2).needs == {"negatives": {"attend", "write", "labels", "times"}}
