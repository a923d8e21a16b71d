"""Costs of whole recipes: by shapes alone against a real step, and against counts worked out by hand.

Shapes: L tokens, D width, p patch, C channels, E width of an encoder. 1 MAC = 2 FLOPs.
"""

from __future__ import annotations

import json

import attrs
import pytest
from click.testing import CliRunner
from running import ROOT, small_recipe, trainer_of
from test_contracts import CATALOG
from test_inference_cost import tables_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genmem.building import Shapes, shapes_of
from genmem.cli import main
from genmem.contracts import Facts
from genmem.draws import Draws
from genmem.profiling.activations import count_saved_bytes
from genmem.profiling.difference import Difference
from genmem.profiling.footprint import measure_footprint
from genmem.profiling.session import cost_of
from genmem.profiling.step import measure_step
from genmem.recipe import loads
from genmem.recipe.tables import Recipe

DEPTH, D, BATCH, L, P, E = 3, 32, 32, 16, 2, 16
SHAPES = Shapes(
    sample_shape=(1, 8, 8), num_classes=10, num_samples=1437, feature_widths={"patches.tokens": E}
)
SMALL = (f"--backbone.depth={DEPTH}", f"--backbone.width={D}", f"--train.batch={BATCH}")
EXPECT = """
[data.expect]
sample_shape = [1, 8, 8]
num_classes = 10
num_samples = 1437
features = { "patches.tokens" = 16 }
[data.encoder.patches]
use = "patch-pca"
context = 2
"""


def recipe_of(name: str, *overrides: str, tables: str = "") -> Recipe:
    text = f'extends = "{ROOT}/recipes/digits/{name}.toml"\n{EXPECT}{tables}'
    return loads(text, name, (*SMALL, *overrides))


def macs_of(recipe: Recipe) -> int:
    return recipe.backbone.config.count(Facts(sample_shape=(1, 8, 8), output_channels=1, num_classes=10)).macs


def real_step(trainer) -> tuple[float, int]:
    """FLOPs an image and bytes kept of a real step on real digits."""
    assembly, batch = trainer.assembly, trainer.stream.batches(0)[0]
    draws = Draws(0, batch.index_B, batch.round_B)
    known = [
        tensor for module in (assembly, *trainer.averages.modules.values()) for tensor in module.parameters()
    ]

    def forward():
        return assembly(batch, draws, 10**9, trainer.averages.modules).total

    saved = count_saved_bytes(forward, [*known, *assembly.buffers()])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        forward().backward()
    return counter.get_total_flops() / len(batch.x), saved


@pytest.mark.parametrize("name", ["label", "dispersive", "repa", "meanflow", "lightningdit", "ddpm"])
def test_shapes_alone_tell_what_a_real_step_tells(name, data):
    recipe = recipe_of(name, f'--data.path="{data}/tokens"')
    found = measure_step(recipe, SHAPES)
    flops, saved = real_step(trainer_of(recipe))
    assert found.real == "" and found.batch == BATCH
    assert found.flops_per_image == flops
    assert found.activation_bytes == pytest.approx(saved, abs=BATCH * 64)


def test_memories_of_shapes_alone_cost_what_real_ones_cost(data):
    """Repulsor's pass over a full queue, a bank's rows."""
    recipe = small_recipe(data)
    trainer = trainer_of(recipe)
    shapes = shapes_of(trainer.dataset)
    found = measure_footprint(recipe, shapes)
    trainer.step()
    state = trainer.optimization.adamw.state.values()
    assert found.training["optimizer"] == sum(part.nbytes for one in state for part in one.values())
    trained = [p for p in trainer.assembly.parameters() if p.requires_grad]
    assert found.trained == sum(p.numel() for p in trained)
    assert found.training["gradients"] == sum(p.nbytes for p in trained)
    held = (*trainer.assembly.parameters(), *trainer.assembly.buffers())
    assert found.training["weights"] == sum(tensor.nbytes for tensor in held)
    assert found.training["ema"] == found.inference["weights"]
    queue, bank = trainer.memories["negatives"], trainer.memories["bank"]
    room = (queue.num_rows + 1) / queue.num_rows  # one place of a queue takes what is not kept
    assert found.training["memory.negatives"] == pytest.approx(queue.num_bytes(), rel=room - 1)
    assert found.training["memory.bank"] + found.elsewhere["memory.bank"] == bank.num_bytes()
    for name, seat in recipe.memory.items():
        facts = Facts(sample_shape=(1, 8, 8), output_channels=1, num_samples=1437, feature_widths={"pca": 16})
        extent, store = seat.config.extent(facts), trainer.memories[name]
        assert extent[:2] == (store.width, store.num_rows)


def test_a_plain_step_is_three_forwards_less_what_needs_no_gradient():
    """Every product but the first ones, whose inputs are data, is done again twice in the backward."""
    recipe = recipe_of("label")
    first = L * P * P * D + 256 * D
    assert measure_step(recipe, SHAPES).flops_per_image == 2 * (3 * macs_of(recipe) - first)


def test_a_step_of_repa_adds_its_projector():
    plain, aligned = recipe_of("label"), recipe_of("repa")
    width = aligned.objective["align"].objective.config.projector_width
    added = measure_step(aligned, SHAPES).flops - measure_step(plain, SHAPES).flops
    assert added == BATCH * 2 * 3 * L * (D * width + width * width + width * E)


def test_a_second_view_is_paid_up_to_its_tap():
    """The contrastive twin runs one more forward to block 1 of 3, with its gradient."""
    twin = '[objective.spread]\npositive = "independent"\n'
    plain, paid = recipe_of("dispersive"), recipe_of("dispersive", tables=twin)
    blocks = L * 12 * D * D + 2 * L * L * D + 6 * D * D
    first = L * P * P * D + 256 * D
    heads = first + D * D  # patches, and the two layers of the time's embedder
    added = measure_step(paid, SHAPES).flops - measure_step(plain, SHAPES).flops
    extra = added / BATCH / 2 - (3 * (blocks + heads) - first)
    # The pairs of a group, positive and negative: two vectors of L · D for each of 16 samples.
    assert 0 <= extra <= 4 * 16 * L * D


@pytest.mark.parametrize("component", CATALOG.components("objective"), ids=lambda component: component.name)
def test_an_objective_costs_nothing_at_inference(component):
    """To the last digit: parameters, MACs, weights, working set; and something in training."""
    import tomli_w

    plain = recipe_of("label")
    tables = tomli_w.dumps(tables_of(component))
    difference = Difference(cost_of(plain), cost_of(recipe_of("label", tables=tables)))
    parts = difference.parts()
    assert len(parts["inference"]) >= 4
    assert all(before == after for before, after in parts["inference"].values())
    kept_before, kept_after = parts["training"]["bytes/activations"]
    assert kept_after > kept_before > 0
    assert parts["training"]["FLOPs an image"][1] >= parts["training"]["FLOPs an image"][0]
    if "memory" in tables_of(component):
        assert parts["training"]["bytes/memory." + next(iter(tables_of(component)["memory"]))][1] > 0
    assert "inference: the same to the last digit" in difference.sentence()


def test_a_component_that_looks_at_values_is_measured_with_zeros(monkeypatch):
    from genmem_dispersive.dispersive import Dispersive

    recipe, forward = recipe_of("dispersive"), Dispersive.forward
    expected = measure_step(recipe, SHAPES)

    def peeking(self, step):
        return forward(self, step) if float(step.x.sum()) == 0 else None

    monkeypatch.setattr(Dispersive, "forward", peeking)
    found = measure_step(recipe, SHAPES)
    assert "DataDependent" in found.real and found.batch == 16  # one group
    assert found.flops_per_image == expected.flops_per_image
    assert found.activation_bytes == pytest.approx(expected.activation_bytes / 2, rel=0.01)


def test_more_processes_share_a_queue_and_hold_buckets():
    config = attrs.evolve(recipe_of("repulsor").memory["negatives"].config, rows=2**20, width=64)
    facts = Facts(sample_shape=(1, 8, 8), output_channels=1)
    one, eight = config.extent(facts), config.extent(facts, world=8)
    row = 64 * 2 + 16  # and one place more takes what is not kept
    assert one.num_bytes == eight.num_bytes == 2**20 * row
    assert (one.device_bytes, eight.device_bytes) == ((2**20 + 1) * row, (2**17 + 1) * row)
    alone, shared = (measure_footprint(recipe_of("label"), SHAPES, world) for world in (1, 2))
    assert shared.training["reduction buckets"] == alone.training["gradients"]
    assert shared.micro_batch * 2 == alone.micro_batch
    split = measure_footprint(recipe_of("label", "--train.shard=true"), SHAPES, world=2)
    assert split.trained == shared.trained and "reduction buckets" not in split.training
    half = shared.training["gradients"] // 2
    assert half <= split.training["gradients"] < half + shared.training["gradients"] // 100


def test_the_command_answers_what_an_objective_costs():
    words = ["profile", "cifar10/dispersive", "--against", "cifar10/label", "--json"]
    small = ["--backbone.size=none", "--backbone.depth=2", "--backbone.width=32", "--backbone.heads=4"]
    done = CliRunner().invoke(main, [*words, *small, "--train.batch=32"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["recipe"]["name"] == "dispersive" and report["baseline"]["name"] == "label"
    assert all(part["difference"] == 0 for part in report["difference"]["inference"].values())
    assert report["difference"]["training"]["FLOPs an image"]["difference"] > 0
    wrong = CliRunner().invoke(main, ["profile", "cifar10/label", "--against", "cifar10/lable"])
    assert wrong.exit_code == 2 and "did you mean" in wrong.output
    refused = CliRunner().invoke(main, ["profile", "cifar10/label", "--nproc", "3"])
    assert refused.exit_code == 2 and "cannot be shared equally by 3 processes" in refused.output
