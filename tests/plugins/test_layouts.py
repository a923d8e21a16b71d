"""Published weights imported by their public names: golden outputs, forms of files, what is told."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from published import (
    Golden,
    assert_golden,
    golden_fill,
    golden_input,
    golden_lightning,
    golden_sit,
    projector_shapes,
    sit_shapes,
)
from running import ready, small_recipe
from safetensors.torch import save_file
from torch import Tensor

import genmem.api
from genmem.cli import main
from genmem.contracts import Conditioning
from genmem.exchange.importing import Imported, import_weights

RECIPE = """\
[data]
path = "{folder}/none"
[data.tokenizer]
use = "pixels"
[backbone]
use = "{use}"
depth = 2
width = 32
heads = 4
learn_sigma = {sigma}
{more}
[interpolant]
use = "{interpolant}"
[condition]
label = true
drop = 0.1
[sampler]
use = "{sampler}"
steps = 3
[train]
images = 1
batch = 1
[ema.ema]
[evaluate]
every = 1
"""


def recipe(folder: Path, use: str = "sit", **options: str) -> Path:
    """A recipe for tiny weights on 1 x 8 x 8, whose data set is nowhere."""
    defaults = {"sigma": "false", "more": "", "interpolant": "linear", "sampler": "heun"}
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(folder=folder, use=use, **(defaults | options)))
    return path


def tiny(classes: int = 10, *, sigma: bool = False) -> dict[str, Tensor]:
    """SiT weights on 1 x 8 x 8."""
    shapes = sit_shapes(2, 32, 1, 2, 8, classes=classes, sigma=sigma)
    return {"pos_embed": torch.randn(shapes["pos_embed"]), **golden_fill(shapes)}


def saved(folder: Path, content: Any, name: str = "weights.pt") -> Path:
    torch.save(content, folder / name)
    return folder / name


def network(folder: Path, weights: str | None = None) -> torch.nn.Module:
    return genmem.api.load(folder, device="cpu").generator(weights).backbone


def weights_of(folder: Path, name: str = "ema") -> dict[str, Tensor]:
    return network(folder, name).state_dict()


def imported(folder: Path, content: Any, layout: str = "sit", **options: Any) -> Imported:
    return import_weights(saved(folder, content), folder / "run", layout, recipe=recipe(folder), **options)


@pytest.mark.parametrize(("layout", "own_is_ours"), [("sit", False), ("repa", True)])
@torch.no_grad()
def test_golden_sit(tmp_path: Path, layout: str, own_is_ours: bool) -> None:
    """Given in the network's own time; ours is 1 - t for SiT, and the velocity has the other sign."""
    projector = golden_fill(projector_shapes("projectors.0", 384, 768)) if layout == "repa" else {}
    file = saved(tmp_path, golden_sit() | projector)
    told = import_weights(file, tmp_path / "run", layout)
    assert (told.kept, told.dropped, told.cut, told.anew) == (132, tuple(projector), {}, ())
    x, t = golden_input(4, 32)
    net = network(tmp_path / "run")
    cond = Conditioning(torch.tensor([3, 1000]))
    output = net(x, t, cond).output if own_is_ours else -net(x, 1 - t, cond).output
    assert_golden(output, Golden.SIT)


@torch.no_grad()
def test_golden_lightning(tmp_path: Path) -> None:
    """A size that nobody published: the rotary table shows the heads."""
    save_file(golden_lightning(), tmp_path / "weights.safetensors")
    import_weights(tmp_path / "weights.safetensors", tmp_path / "run", "lightningdit")
    x, t = golden_input(32, 16)
    assert_golden(
        -network(tmp_path / "run")(x, 1 - t, Conditioning(torch.tensor([3, 1000]))).output, Golden.LIGHTNING
    )


FORMS = {
    "bare": lambda weights: weights,
    "distributed": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "twice distributed": lambda weights: {f"module.module.{name}": value for name, value in weights.items()},
    "compiled": lambda weights: {f"_orig_mod.{name}": value for name, value in weights.items()},
    "blocks compiled": lambda weights: {
        name.replace("blocks.0.", "blocks.0._orig_mod."): value for name, value in weights.items()
    },
    "both": lambda weights: {f"module._orig_mod.{name}": value for name, value in weights.items()},
    "ema only": lambda weights: {"ema": weights},
    "model only": lambda weights: {"model": weights, "epoch": 3},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_files(tmp_path: Path, form: str) -> None:
    weights = tiny()
    imported(tmp_path, FORMS[form](weights))
    for name in ("ema", "online"):
        found = weights_of(tmp_path / "run", name)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[key], value) for key, value in weights.items())


def test_a_training_checkpoint(tmp_path: Path) -> None:
    """Both sets of weights are taken, options and optimizer are left and told."""
    ema, model = tiny(), {f"module.{name}": value + 1 for name, value in tiny().items()}
    args = argparse.Namespace(model="SiT-S/2", lr=1e-4, betas=(0.9, 0.999))
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    told = imported(tmp_path, {"model": model, "ema": ema, "opt": optimizer, "args": args})
    assert set(told.ignored) == {"opt", "args"}
    assert all(torch.equal(ema[key], value) for key, value in weights_of(tmp_path / "run").items())
    online = weights_of(tmp_path / "run", "online")
    assert all(torch.equal(model[f"module.{key}"], value) for key, value in online.items())


def test_learned_sigma_is_kept_or_cut(tmp_path: Path) -> None:
    """Row (p · p, 2C) keeps its first C: the same output; without a recipe nothing is cut."""
    wide = tiny(sigma=True)
    told = imported(tmp_path, wide)
    assert set(told.cut) == {"final_layer.linear.weight", "final_layer.linear.bias"}
    assert told.cut["final_layer.linear.bias"] == "4 of 8 rows kept, those of the variance left out"
    cut = weights_of(tmp_path / "run")["final_layer.linear.weight"]
    rows = [row for cell in range(4) for row in (2 * cell,)]
    assert torch.equal(cut, wide["final_layer.linear.weight"][rows])
    (tmp_path / "whole").mkdir()
    kept = recipe(tmp_path / "whole", sigma="true")
    import_weights(tmp_path / "weights.pt", tmp_path / "wide", "sit", recipe=kept)
    x, cond = torch.randn(2, 1, 8, 8), Conditioning(torch.tensor([1, 10]))
    outputs = [network(tmp_path / name)(x, torch.tensor([0.2, 0.6]), cond).output for name in ("run", "wide")]
    torch.testing.assert_close(*outputs, atol=1e-6, rtol=0)


def test_another_number_of_classes(tmp_path: Path) -> None:
    """Refused with both numbers; on request the table alone starts anew."""
    data = tmp_path / "data"
    ready(small_recipe(data))  # ten classes
    text = recipe(tmp_path).read_text().replace(f"{tmp_path}/none", f"{data}/digits")
    (tmp_path / "digits.toml").write_text(text)
    weights = tiny(classes=7)
    file, given = saved(tmp_path, weights), tmp_path / "digits.toml"
    with pytest.raises(ValueError, match=r"know 7 classes, the recipe has 10; .*--reinit-labels"):
        import_weights(file, tmp_path / "run", "sit", recipe=given)
    assert not (tmp_path / "run").exists()
    told = import_weights(file, tmp_path / "run", "sit", recipe=given, reinit_labels=True)
    assert told.anew == ("y_embedder.embedding_table.weight",)
    found = weights_of(tmp_path / "run")
    table = found.pop("y_embedder.embedding_table.weight")
    assert table.shape == (11, 32) and table.std().item() == pytest.approx(0.02, rel=0.2)
    assert all(torch.equal(weights[name], value) for name, value in found.items())


def test_older_names_of_repa(tmp_path: Path) -> None:
    """decoder_blocks.i follow the encoder's blocks."""
    weights = tiny()
    old = {name.replace("blocks.1.", "decoder_blocks.0."): value for name, value in weights.items()}
    assert old.keys() != weights.keys()
    imported(tmp_path, old, "repa")
    assert all(torch.equal(weights[key], value) for key, value in weights_of(tmp_path / "run").items())


def test_missing_tables_are_computed_and_told(tmp_path: Path) -> None:
    weights = golden_lightning()
    whole = {name: weights.pop(name) for name in ("feat_rope.freqs_cos", "feat_rope.freqs_sin")}
    given = recipe(tmp_path, "lightningdit").read_text().replace("depth = 2", "depth = 4")
    given = given.replace("width = 32", "width = 192")
    (tmp_path / "given.toml").write_text(given)
    told = import_weights(
        saved(tmp_path, weights), tmp_path / "run", "lightningdit", recipe=tmp_path / "given.toml"
    )
    assert told.anew == tuple(whole)
    found = weights_of(tmp_path / "run")
    for name, value in whole.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)


def test_latents_sample_at_once_too(tmp_path: Path) -> None:
    """Of 32 channels the first three are shown; whoever has a decoder names it in a recipe."""
    save_file(golden_lightning(), tmp_path / "weights.safetensors")
    import_weights(tmp_path / "weights.safetensors", tmp_path / "run", "lightningdit")
    text = (tmp_path / "run/recipe.toml").read_text()
    (tmp_path / "run/recipe.toml").write_text(text.replace("steps = 50", "steps = 1"))
    pictures = genmem.api.load(tmp_path / "run", device="cpu").sample(2)
    assert pictures.array.shape == (2, 16, 16, 3)


@pytest.mark.parametrize("layout", ["sit", "dit", "repa"])
def test_samples_at_once(tmp_path: Path, layout: str) -> None:
    """`genmem checkpoint import` and `genmem sample`, with no data set anywhere."""
    use, more = ("dit", {"interpolant": "ddpm", "sampler": "ddpm"}) if layout == "dit" else ("sit", {})
    sigma = "true" if layout == "dit" else "false"
    file = saved(tmp_path, tiny(sigma=layout == "dit"))
    given = recipe(tmp_path, use, sigma=sigma, **more)
    run = str(tmp_path / "run")
    done = CliRunner().invoke(
        main, ["checkpoint", "import", str(file), run, "--layout", layout, "--recipe", str(given)]
    )
    assert done.exit_code == 0, done.output
    assert "32 tensors kept" in done.output
    done = CliRunner().invoke(main, ["sample", run, "--num", "2", "--out", str(tmp_path / "pictures")])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "pictures").glob("0*.png"))) == 2
    state = json.loads((tmp_path / "run/checkpoints/000000000000/state.json").read_text())
    assert state["imported"]["layout"] == layout
    assert state["shapes"] == {
        "sample_shape": [1, 8, 8],
        "num_classes": 10,
        "num_samples": 0,
        "feature_widths": {},
    }
