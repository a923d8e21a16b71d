"""Round trips through layouts, refusals, and files that would run code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from published import TINY, filled
from running import ready, small_recipe, trainer_of
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import genmem.api
from genmem.cli import main
from genmem.contracts import Conditioning
from genmem.exchange.exporting import export_weights
from genmem.exchange.importing import import_weights
from genmem.host import load_catalog
from genmem.training import checkpoints, integrity
from genmem.training.folder import RunFolder

RECIPE = """\
extends = "quickstart"
objective = "none"
{tables}
[data]
path = "{data}/digits"
[backbone]
use = "{use}"
depth = 2
width = 32
heads = 4
patch = 2
{options}
[interpolant]
use = "{interpolant}"
[memory]
negatives = "none"
bank = {bank}
[condition]
{condition}
"""


BACKBONES = {"dit": "dit", "lightningdit": "lightningdit", "gmem": "lightningdit"}


def recipe(folder: Path, data: Path, layout: str) -> Path:
    """A recipe on digits for weights of a layout."""
    text = RECIPE.format(
        data=data,
        use=BACKBONES.get(layout, "sit"),
        tables="",
        options="learn_sigma = true" if layout in ("sit", "dit") else "",
        interpolant="ddpm" if layout == "dit" else "linear",
        bank=f'{{path = "{data}/digits/bank"}}' if layout == "gmem" else '"none"',
        condition='memory = "bank"' if layout == "gmem" else 'memory = "none"\nlabel = true',
    )
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    ready(small_recipe(folder))
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", TINY)
def test_round_trip(tmp_path: Path, digits: Path, layout: str, dtype: torch.dtype) -> None:
    """Every tensor kept comes out as it went in, to the bit and under its own name; and again."""
    weights = {name: value.to(dtype) for name, value in filled(TINY[layout]).items()}
    torch.save({"ema": weights}, tmp_path / "weights.pt")
    told = import_weights(
        tmp_path / "weights.pt", tmp_path / "run", layout, recipe=recipe(tmp_path, digits, layout)
    )
    kept = {name: value for name, value in weights.items() if name not in told.dropped}
    assert told.kept == len(kept) and len(weights) - len(kept) == (6 if "proj" in str(told.dropped) else 0)
    for again in ("first", "second"):
        file = tmp_path / f"{again}.safetensors"
        exported = export_weights(tmp_path / "run", file, layout=layout)
        assert exported.note == "" and exported.count == len(kept)
        found = load_file(file)
        assert found.keys() == kept.keys()
        for name, value in kept.items():
            assert found[name].dtype == dtype and torch.equal(found[name], value), name
        if again == "first":
            (tmp_path / "run").rename(tmp_path / "before")
            import_weights(file, tmp_path / "run", layout, recipe=exported.recipe)
    with torch.no_grad():
        outputs = [output_of(tmp_path / name) for name in ("before", "run")]
    assert torch.equal(*outputs) and outputs[0].any()


def output_of(run: Path) -> Tensor:
    net = genmem.api.load(run, device="cpu").generator().backbone
    x = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
    memory = torch.ones(2, 1, 16) if net.condition_projection is not None else None
    label = torch.tensor([1, 10]) if net.y_embedder is not None else None
    output: Tensor = net(x, torch.tensor([0.2, 0.6]), Conditioning(label, memory)).output
    return output


def test_gmem_samples_from_its_bank(tmp_path: Path, digits: Path) -> None:
    torch.save(filled(TINY["gmem"]), tmp_path / "weights.pt")
    import_weights(tmp_path / "weights.pt", tmp_path / "run", "gmem", recipe=recipe(tmp_path, digits, "gmem"))
    done = CliRunner().invoke(main, ["sample", str(tmp_path / "run"), "--num", "2"])
    assert done.exit_code == 0, done.output


def test_gmem_needs_a_recipe(tmp_path: Path) -> None:
    torch.save(filled(TINY["gmem"]), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"layout 'gmem' does not say all that a recipe needs: .*--recipe"):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", "gmem")


def test_a_run_of_ours_goes_out_and_comes_back(tmp_path: Path, digits: Path) -> None:
    """Weights trained with the data at t = 0 keep that, in a layout that has it at 1, and say so."""
    ours = small_recipe(
        digits,
        "--condition.memory=none",
        "--memory.bank=none",
        "--condition.label=true",
        tables="objective = 'none'\n[memory]\nnegatives = 'none'",
        small=("--backbone.depth=2", "--backbone.width=32", "--train.batch=32"),
    )
    folder = RunFolder(tmp_path / "run")
    trainer = trainer_of(ours)
    trainer.step()
    folder.begin(ours, load_catalog(), [])
    checkpoints.save(folder.checkpoints, 32, trainer.checkpoint(), 1)
    exported = export_weights(folder.path, tmp_path / "ours.safetensors", layout="sit", weights="online")
    assert "1 - t and negate the velocity" in exported.note
    assert export_weights(folder.path, tmp_path / "repa.safetensors", layout="repa").note == ""
    with safe_open(exported.file, framework="pt") as opened:
        assert opened.metadata()["weights_time"] == "data0"
    told = import_weights(exported.file, tmp_path / "again", "sit", recipe=exported.recipe)
    assert told.weights_time == "data0"
    state = trainer.assembly.backbone.state_dict()
    again = checkpoints.weights(integrity.numbered(tmp_path / "again/checkpoints")[0], "ema")
    assert all(torch.equal(state[name], value) for name, value in again.items())
    turned = import_weights(
        exported.file, tmp_path / "turned", "sit", recipe=exported.recipe, weights_time="data1"
    )
    assert turned.weights_time == "data1"


def test_samples_need_no_data_set(tmp_path: Path) -> None:
    """A run copied to another machine samples there: shapes stand in its checkpoint."""
    ours = small_recipe(tmp_path)
    folder = RunFolder(tmp_path / "run")
    trainer = trainer_of(ours)
    folder.begin(ours, load_catalog(), [])
    checkpoints.save(folder.checkpoints, 0, trainer.checkpoint(), 1)
    before = genmem.api.load(folder.path, device="cpu").sample(2)
    for split in ("train", "test"):
        (tmp_path / "digits" / split).rename(tmp_path / split)
    again = genmem.api.load(folder.path, device="cpu").sample(2)
    assert (before.array == again.array).all()
    assert not (tmp_path / "digits" / "train").exists()


def test_a_network_of_another_shape_is_refused(tmp_path: Path, digits: Path) -> None:
    torch.save(filled(TINY["sit"]), tmp_path / "weights.pt")
    given = recipe(tmp_path, digits, "sit")
    given.write_text(given.read_text().replace("depth = 2", "depth = 3").replace("patch = 2", "patch = 4"))
    with pytest.raises(
        ValueError, match=r"does not fit the recipe's network: it lacks blocks\.2\..* and 6 more; final"
    ):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit", recipe=given)


def test_nothing_is_overwritten(tmp_path: Path, digits: Path) -> None:
    torch.save(filled(TINY["sit"]), tmp_path / "weights.pt")
    given = recipe(tmp_path, digits, "sit")
    import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit", recipe=given)
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit", recipe=given)
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        export_weights(tmp_path / "run", tmp_path / "recipe.safetensors")
    with pytest.raises(
        ValueError, match=r"the run has y_embedder.*, which the layout does not; leave --layout out"
    ):
        export_weights(tmp_path / "run", tmp_path / "out.safetensors", layout="gmem")


def test_rectangles_have_to_be_told(tmp_path: Path, digits: Path) -> None:
    """Eight tokens fill no square."""
    weights = filled(TINY["sit"])
    weights["pos_embed"] = torch.randn(1, 8, 32)
    torch.save(weights, tmp_path / "weights.pt")
    given = recipe(tmp_path, tmp_path / "nowhere", "sit")
    with pytest.raises(ValueError, match="8 tokens fill no square; say which shape with --shape C,H,W"):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit", recipe=given)
    import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit", recipe=given, shape=(1, 4, 8))
    assert genmem.api.load(tmp_path / "run", device="cpu").shapes.sample_shape == (1, 4, 8)


def test_training_begins_with_imported_weights(tmp_path: Path, digits: Path) -> None:
    """Fine-tuning: network and EMA as imported, everything else new, images counted from 0."""
    torch.save(filled(TINY["repa"]), tmp_path / "weights.pt")
    given = recipe(tmp_path, digits, "repa")
    import_weights(tmp_path / "weights.pt", tmp_path / "run", "repa", recipe=given)
    trainer = trainer_of(genmem.api.load(tmp_path / "run", device="cpu").recipe)
    imported = checkpoints.load(integrity.numbered(tmp_path / "run/checkpoints")[0])
    trainer.restore(imported)
    assert trainer.images_seen == 0
    for net in (trainer.assembly.backbone, trainer.averages.modules["ema"]):
        assert all(
            torch.equal(value, imported.tensors["ema.ema"][name]) for name, value in net.state_dict().items()
        )
    trainer.step()
    assert not torch.equal(
        trainer.assembly.backbone.final_layer.linear.bias,
        imported.tensors["ema.ema"]["final_layer.linear.bias"],
    )


def test_the_command_lists_what_became_of_the_file(tmp_path: Path, digits: Path) -> None:
    weights = filled(TINY["repa"])
    weights["y_embedder.embedding_table.weight"] = torch.randn(4, 32)
    torch.save({"ema": weights, "steps": 7}, tmp_path / "weights.pt")
    given = recipe(tmp_path, digits, "repa")
    line = ["checkpoint", "import", str(tmp_path / "weights.pt"), str(tmp_path / "run"), "--layout", "repa"]
    line += ["--recipe", str(given)]
    refused = CliRunner().invoke(main, line)
    assert refused.exit_code == 2 and "know 3 classes, the recipe has 10" in refused.output
    done = CliRunner().invoke(main, [*line, "--reinit-labels"])
    assert done.exit_code == 0, done.output
    told = done.output.splitlines()
    assert told[0].startswith("31 tensors kept, data at t = 0: ")
    assert "ignored        steps: no weights" in told
    assert "dropped        projectors.0.2.weight: no part of the backbone" in told
    assert "initialised    y_embedder.embedding_table.weight: not from the file" in told
    out = tmp_path / "out.safetensors"
    done = CliRunner().invoke(
        main, ["checkpoint", "export", str(tmp_path / "run"), str(out), "--layout", "sit"]
    )
    assert done.exit_code == 0 and "32 tensors" in done.output
    assert "code of layout 'sit' has it at t = 1" in done.output
