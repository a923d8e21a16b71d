"""Every shipped recipe loads and is built; those on digits take a step and give samples besides."""

from __future__ import annotations

import pytest
import torch
from running import ROOT, trainer_of
from torch.utils.flop_counter import FlopCounterMode

from genmem.building import Builder, expected_shapes, shapes_of
from genmem.cli.recipe_lines import lines_of
from genmem.contracts import Conditioning, Count
from genmem.data.preparation import prepare
from genmem.host import load_catalog
from genmem.profiling.reserved import reserve
from genmem.recipe import load
from genmem.recipe.overview import expectation, overview
from genmem.recipe.published_table import COUNTS
from genmem.sampling.generator import generator_of
from genmem.training.batching import plan

CATALOG = load_catalog()
LOADED = {path: load(path, catalog=CATALOG) for path in sorted((ROOT / "recipes").rglob("*.toml"))}
AWAY = [path for path, recipe in LOADED.items() if recipe.data.expect is not None]
HERE = [path for path in LOADED if path not in AWAY]
ENTRIES = overview(CATALOG)
NETWORKS: dict[str, Count] = {}


def name_of(path):
    return str(path.relative_to(ROOT / "recipes"))


def test_there_are_recipes():
    assert len(HERE) > 5 and len(AWAY) > 5
    folders = {path.relative_to(ROOT / "recipes").parts[0] for path in HERE}
    assert folders == {"quickstart.toml", "digits"}, "a recipe on data that are not here needs [data.expect]"


@pytest.mark.parametrize("path", HERE, ids=name_of)
def test_it_is_built_and_takes_a_step(path, data):
    recipe = load(path)
    places = [f'--data.path="{data}/{recipe.data.path.removeprefix("data/")}"']
    if "bank" in recipe.memory:
        places.append(
            f'--memory.bank.path="{data}/{recipe.memory["bank"].config.path.removeprefix("data/")}"'
        )
    for name, seat in recipe.data.encoder.items():
        if getattr(seat.config, "weights", None):  # components of all the digits
            prepare(load(ROOT / "recipes/digits/label.toml", [f'--data.path="{data}/digits"']).data)
            file = seat.config.weights.removeprefix("data/")
            places.append(f'--data.encoder.{name}.weights="{data}/{file}"')
    recipe = load(path, places)
    trainer = trainer_of(recipe)
    values = trainer.step()
    assert all(bool(value.isfinite()) for value in values.values())
    trainer.guard.settle()
    assert trainer.guard.skipped == 0
    facts = Builder(recipe, shapes_of(trainer.dataset)).facts(trainer.memories)
    count = built(recipe.backbone, facts)
    told = ENTRIES[name_of(path).removesuffix(".toml")].count
    assert (told.parameters, told.macs) == (count.parameters, count.macs)
    weights = recipe.evaluate.weights
    backbone = trainer.averages.modules[weights]
    shapes = shapes_of(trainer.dataset)
    generator = generator_of(recipe, backbone, trainer.assembly.conditioner, shapes, trainer.device)
    x = generator.sample(torch.arange(2), 0).x
    assert x.shape == (2, *shapes.sample_shape) and bool(x.isfinite().all())


def built(backbone, facts) -> Count:
    """Parameters and MACs of the network itself: built on meta, where nothing is allocated, and run.

    Once, for all recipes whose networks are built of the same.
    """
    parts = (facts.sample_shape, facts.output_channels, facts.num_classes, facts.condition_width)
    key = repr((backbone, *parts))
    if key not in NETWORKS:
        NETWORKS[key] = counted(backbone.config, facts)
    return NETWORKS[key]


def counted(config, facts) -> Count:
    with torch.device("meta"):
        network = config.build(facts)
        label_B = torch.zeros(1, dtype=torch.int64) if facts.num_classes else None
        memory = torch.empty(1, 1, facts.condition_width) if facts.condition_width else None
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *facts.sample_shape), torch.zeros(1), Conditioning(label_B, memory))
    return Count(sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2)


@pytest.mark.parametrize("path", AWAY, ids=name_of)
def test_it_is_built_in_full_size_without_its_data(path):
    """Every shape is checked; parameters and MACs are what `genmem recipe list` and others' papers say."""
    recipe = LOADED[path]
    builder = Builder(recipe, expected_shapes(recipe))
    facts = builder.facts(reserve(builder))
    with torch.device("meta"):
        for table in recipe.objective.values():
            table.objective.config.build(facts)
    plan(recipe, 1)
    count = built(recipe.backbone, facts)
    assert ENTRIES[name_of(path).removesuffix(".toml")].count == count
    for one in recipe.published.values():
        if one.metric in COUNTS:
            assert getattr(count, one.metric) == pytest.approx(one.value, rel=0.01), one.source


def test_published_sizes_stand_in_the_recipes_that_others_extend():
    for name in ("sit-{}2", "dit-{}2"):
        for size in ("s", "b", "l", "xl"):
            recipe = LOADED[ROOT / "recipes/imagenet256" / f"{name.format(size)}.toml"]
            assert {one.metric for one in recipe.published.values()} >= {*COUNTS, "fid"}


def test_borrowed_scores_follow_from_what_stands_beside_them():
    """A score is of the length its recipe trains, and a guided one of a recipe that guides."""
    scores = [
        (path, recipe, one)
        for path, recipe in LOADED.items()
        for one in recipe.published.values()
        if one.metric not in COUNTS
    ]
    assert len(scores) > 100
    for path, recipe, one in scores:
        assert one.images == pytest.approx(recipe.train.images, rel=0.01), path
        guided = recipe.guidance is not None or recipe.interpolant.use == "meanflow"
        assert guided or one.guidance == "none", path
        assert recipe.guidance is None or one.guidance != "none", path


def test_the_list_has_a_size_for_every_recipe_and_fits_a_terminal():
    piped = list(lines_of(ENTRIES))
    assert len(piped) == 1 + len(ENTRIES)
    for line, (name, entry) in zip(piped[1:], ENTRIES.items(), strict=True):
        assert line.split()[0] == name and "-" not in line.split()[1:4] and entry.description in line
    narrow = list(lines_of(ENTRIES, 80))
    assert max(map(len, narrow)) <= 80
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(piped).split())
    assert list(lines_of(ENTRIES, 1000)) == piped


def test_a_source_that_does_not_say_what_it_has_gives_no_size():
    tables = {"tokenizer": {"use": "pixels"}, "source": {"use": "digits", "classes": [1, 2]}}
    found = expectation(CATALOG, tables)
    assert found["sample_shape"] == [1, 8, 8] and found["num_classes"] == 2
    assert expectation(CATALOG, {**tables, "source": {"use": "image-archive", "path": "x.tar"}}) is None
    assert expectation(CATALOG, {**tables, "tokenizer": {"use": "preview"}}) is None
