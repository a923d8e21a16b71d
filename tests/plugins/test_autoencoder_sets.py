"""From pictures to latents, to a trained network, to pictures again; and what is refused on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from published_models import KL_FILE, change_bit, save_clip, save_dc, save_kl, save_timm

import genmem
from genmem.data.errors import DataError
from genmem.data.preparation import prepare
from genmem.data.streaming.latents import Restoration
from genmem.draws import Draws
from genmem.recipe import loads
from genmem.training import session

RECIPE = """
[data]
path = "{folder}/set"
{data}
[data.source]
use = "digits"

[data.tokenizer]
{tokenizer}

[backbone]
use = "sit"
depth = 1
width = 32
heads = 2
patch = 2

[interpolant]
use = "linear"

[condition]
label = true

[sampler]
use = "euler"
steps = 2

[train]
images = 64
batch = 32
device = "cpu"

[ema.ema]

[evaluate]
every = 64
samples = 256

[evaluate.encoder.pixels]
use = "pixels"
"""
GREY = {"in_channels": 1, "out_channels": 1}


def kl_recipe(folder: Path, vae: Path, data: str = "", **changes: object) -> str:
    keys = {"use": "sd-vae", "path": str(vae)} | changes
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    return RECIPE.format(folder=folder, tokenizer=lines, data=data)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Two autoencoders, and digits prepared with the first, in half precision, in both mirrors."""
    folder = tmp_path_factory.mktemp("sets")
    for seed in (0, 1):
        save_kl(folder / f"vae{seed}", seed, **GREY)
    (folder / "recipe.toml").write_text(kl_recipe(folder, folder / "vae0", HALF))
    prepare(loads((folder / "recipe.toml").read_text(), "made").data)
    return folder


HALF = 'precision = "fp16"\nviews = 2'


def test_latents_are_stored_trained_on_sampled_and_decoded(place) -> None:
    out = place / "run"
    session.run(str(place / "recipe.toml"), (), (), out, [])
    run = genmem.load(out)
    spec = run.dataset.spec
    assert (spec.tokenizer, spec.shape, spec.dtype, spec.moments) == ("sd-vae", (4, 4, 4), "float16", True)
    assert len(spec.weights) == 64 and run.dataset.views == 2
    pictures = run.sample(16, seed=0)
    array = pictures.array
    assert array.dtype == np.uint8 and array.shape == (16, 8, 8, 1) and array.std() > 0


def test_what_is_drawn_from_the_moments_has_the_posteriors_statistics(place) -> None:
    """Over many epochs: mean and deviation of x are those of the posterior, scaled."""
    recipe = loads((place / "recipe.toml").read_text(), "made")
    dataset = prepare(recipe.data)
    stored = torch.from_numpy(dataset.shards("train").read("x", np.arange(1)))
    network = save_kl(place / "again", 0, **GREY).double()
    source = recipe.data.source.config.build()
    x = torch.from_numpy(source.picture("train", 0)[0].transpose(2, 0, 1)[None] / 127.5 - 1)
    posterior = network.encode(x).latent_dist
    rounds = 4000
    draws = Draws(0, torch.arange(rounds))
    drawn = Restoration(dataset.spec)(stored.expand(rounds, -1, -1, -1), draws).double()
    mean, std = posterior.mean[0].detach() * 0.18215, posterior.std[0].detach() * 0.18215
    assert ((drawn.mean(0) - mean).abs() / std).max() < 5 / rounds**0.5 + 2e-3
    assert (drawn.std(0) / std - 1).abs().max() < 5 / (2 * rounds) ** 0.5 + 2e-3


def test_both_mirrors_are_those_of_the_pictures(place) -> None:
    recipe = loads((place / "recipe.toml").read_text(), "made")
    dataset, tokenizer = prepare(recipe.data), recipe.data.tokenizer.config.build()
    source = recipe.data.source.config.build()
    pictures = np.stack([source.picture("train", number)[0] for number in range(5)])
    for view, shown in enumerate((pictures, pictures[:, :, ::-1])):
        stored = dataset.shards("train").read("x", np.arange(5), np.full(5, view))
        np.testing.assert_allclose(stored, tokenizer.encode(shown), rtol=1e-3, atol=1e-5)


def test_latents_of_another_vae_are_refused_by_name(place) -> None:
    changed = loads(kl_recipe(place, place / "vae1", HALF), "changed")
    first, second = (
        loads(kl_recipe(place, place / f"vae{i}", HALF), "one").data.tokenizer.config.build().spec((8, 8, 1))
        for i in (0, 1)
    )
    with pytest.raises(DataError) as refused:
        prepare(changed.data)
    for said in ("data.tokenizer", first.weights, second.weights, "set data.path to another folder"):
        assert said in str(refused.value)


def test_a_vae_changed_in_place_is_refused(place) -> None:
    shutil.copytree(place / "vae0", place / "moved")
    moved = loads(kl_recipe(place, place / "moved", HALF), "moved")
    # It lies elsewhere and goes through in other batches: the same latents.
    prepare(moved.data)
    prepare(loads(kl_recipe(place, place / "moved", HALF, batch=3), "moved").data)
    change_bit(place / "moved" / KL_FILE, "encoder.conv_in.weight")
    with pytest.raises(DataError, match=r"prepared with data.tokenizer = .*sd-vae"):
        prepare(moved.data)


@pytest.mark.parametrize(
    "changes", [{"moments": False}, {"scale": 0.5}, {"shift": 0.5}, {"precision": "bf16"}]
)
def test_other_latents_of_the_same_vae_are_refused(place, changes) -> None:
    with pytest.raises(DataError, match=r"prepared with data.tokenizer = "):
        prepare(loads(kl_recipe(place, place / "vae0", HALF, **changes), "other").data)


def test_dc_ae_goes_the_same_way(tmp_path) -> None:
    save_dc(tmp_path / "dc", in_channels=1)
    (tmp_path / "recipe.toml").write_text(
        RECIPE.format(folder=tmp_path, data="", tokenizer=f'use = "dc-ae"\npath = "{tmp_path}/dc"')
    )
    session.run(str(tmp_path / "recipe.toml"), (), (), tmp_path / "run", [])
    run = genmem.load(tmp_path / "run")
    assert run.dataset.spec.shape == (8, 4, 4) and not run.dataset.spec.moments
    assert run.sample(4, seed=0).array.shape == (4, 8, 8, 1)


def test_features_of_published_networks_are_stored_with_the_hash_of_their_weights(place, tmp_path) -> None:
    save_timm(tmp_path / "vit.safetensors", "test_vit", 32)
    save_clip(tmp_path / "clip")
    encoders = f"""
[data.encoder.dino]
use = "timm"
name = "test_vit"
weights = "{tmp_path}/vit.safetensors"
size = 32
tokens = true

[data.encoder.clip]
use = "clip"
path = "{tmp_path}/clip"
"""
    recipe = loads(kl_recipe(tmp_path, place / "vae0") + encoders, "features")
    dataset = prepare(recipe.data)
    manifest = dataset.manifest("train")
    assert {name: form.shape for name, form in manifest.features.items()} == {
        "dino": (64,),
        "dino.tokens": (4, 64),
        "clip": (12,),
    }
    # The weights are not copied into the set.
    assert sum(file.stat().st_size for file in (dataset.path / "encoders").glob("*")) < 1000
    source, seats = recipe.data.source.config.build(), recipe.data.encoder
    pictures = np.stack([source.picture("train", number)[0] for number in range(3)])
    for name, seat in seats.items():
        encoder = dataset.encoder(name, seat.config)
        np.testing.assert_allclose(
            dataset.feature("train", name, 0, 3), encoder.encode(pictures).pooled_BD, atol=1e-5
        )
    change_bit(tmp_path / "vit.safetensors", "norm.weight")
    with pytest.raises(DataError, match="encoder 'dino' had weights of hash"):
        dataset.encoder("dino", seats["dino"].config)


def test_an_unfinished_set_is_not_finished_with_another_vae(place, tmp_path, monkeypatch) -> None:
    from genmem.data.making import building

    real, written = building.write_shard, []

    def stop(path, *rest):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        return real(path, *rest)

    monkeypatch.setattr(building, "write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(loads(kl_recipe(tmp_path, place / "vae0"), "one").data)
    monkeypatch.setattr(building, "write_shard", real)
    with pytest.raises(DataError, match="an unfinished preparation"):
        prepare(loads(kl_recipe(tmp_path, place / "vae1"), "two").data)
    assert prepare(loads(kl_recipe(tmp_path, place / "vae0"), "one").data).count("train") == 1437
