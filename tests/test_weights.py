"""Files of published weights: what is read, what never is, and the hash that names them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from genmem import extras, weights
from genmem.cli import main
from genmem.extras import MissingExtra, import_extra, import_torchvision
from genmem.weights import PublishedModel, fetch_file, fill_network, hash_tensors, read_json, read_tensors


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# the hash --------------------------------------------------------------------------------------


def test_the_hash_is_sha256_over_names_types_shapes_and_values() -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, dtype=np.int64)
    text = b"a torch.float32 (2, 3)\n" + a.tobytes() + b"b torch.int64 ()\n" + b.tobytes()
    tensors = {"b": torch.from_numpy(b), "a": torch.from_numpy(a)}
    assert hash_tensors(tensors) == hashlib.sha256(text).hexdigest()
    assert hash_tensors({"a": tensors["a"].mT.contiguous().mT, "b": tensors["b"]}) == hash_tensors(tensors)


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "c": torch.zeros(0)},
        {"a": torch.tensor([[0.0, 0, 0], [0, 0, -0.0]])},
        {"a": torch.zeros(2, 3, dtype=torch.bfloat16)},
    ],
)
def test_other_weights_have_another_hash(other) -> None:
    assert hash_tensors(other) != hash_tensors({"a": torch.zeros(2, 3)})


# reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.ckpt", "w.safetensors"])
def test_a_pickle_is_never_read(tmp_path, name) -> None:
    file, trap = tmp_path / name, tmp_path / "trap"
    torch.save({"w": Planted(trap)}, file)
    with pytest.raises(
        ValueError, match=rf"{name}: no safetensors file, and nothing else is read; .* convert"
    ):
        read_tensors(file)
    assert not trap.exists()


def test_a_folder_with_pickles_alone_is_refused_with_the_way_out(tmp_path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"convert \S+pytorch_model.bin \S+pytorch_model.safetensors"):
        _ = PublishedModel(str(tmp_path), "", ("model.safetensors",)).file


def test_a_folders_file_is_the_known_one_or_the_only_one(tmp_path) -> None:
    model = PublishedModel(str(tmp_path), "", ("model.safetensors", "other.safetensors"))
    with pytest.raises(
        FileNotFoundError, match=r"expected model.safetensors or other.safetensors .* found no"
    ):
        _ = model.file
    for name, expected in (
        ("model.fp16.safetensors", "model.fp16.safetensors"),
        ("other.safetensors", "other.safetensors"),
        ("model.safetensors", "model.safetensors"),
    ):
        save_file({"a": torch.zeros(1)}, tmp_path / name)
        assert PublishedModel(str(tmp_path), "", model._names).file.name == expected
    named = PublishedModel(str(tmp_path / "model.fp16.safetensors"), "", ())
    assert named.file.name == "model.fp16.safetensors"
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert named.settings == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no safetensors file"), (b"x" * 20, "no safetensors file"), (None, "a damaged safetensors file")],
)
def test_damaged_files_are_named(tmp_path, content, message) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(100)}, file)
    file.write_bytes(file.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ValueError, match=f"w.safetensors: {message}"):
        read_tensors(file)


def test_missing_files_are_named(tmp_path) -> None:
    for read in (read_tensors, read_json):
        with pytest.raises(FileNotFoundError, match="none: no such file"):
            read(tmp_path / "none")
    model = PublishedModel(str(tmp_path / "none"), "", ())
    for look in (lambda: model.file, lambda: model.settings):
        with pytest.raises(FileNotFoundError, match="none: no such file or folder"):
            look()


@pytest.mark.parametrize("text", ["[1]", "{", "", "NaN", b"\xff\xfe"])
def test_json_that_is_no_object_is_refused(tmp_path, text) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ValueError, match=r"config.json: expected a JSON object"):
        read_json(file)


def test_a_network_is_filled_whole_or_not_at_all() -> None:
    network, before = torch.nn.Linear(3, 2), {}
    before |= {name: value.clone() for name, value in network.state_dict().items()}
    for tensors, message in (
        ({"weight": torch.ones(2, 3)}, "file: not the weights of this Linear: lacks bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2), "c": torch.ones(1)}, "has besides c"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, r"weight is \(3, 2\), expected \(2, 3\)"),
        ({f"w{i}": torch.ones(1) for i in range(9)}, "has besides w0, w1, w2 and 6 more"),
    ):
        with pytest.raises(ValueError, match=message):
            fill_network(network, tensors, Path("file"))
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    fill_network(network, {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2)}, Path("file"))
    assert network.weight.dtype == torch.float32 and (network.weight == 1).all()


# the hub and the extras ------------------------------------------------------------------------


def test_a_hub_out_of_reach_is_said_with_the_way_out(monkeypatch) -> None:
    def fail(repository: str, name: str) -> str:
        raise OSError("no route")

    monkeypatch.setattr(import_extra("huggingface_hub", "models"), "hf_hub_download", fail)
    with pytest.raises(
        ConnectionError, match=r'somebody/vae: config.json cannot be fetched .* path = "FOLDER"'
    ):
        fetch_file("somebody/vae", "config.json")
    with pytest.raises(ConnectionError):
        _ = PublishedModel("", "somebody/vae", ("model.safetensors",)).settings


def test_the_hub_gives_the_file(monkeypatch, tmp_path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "b.safetensors")
    hub = import_extra("huggingface_hub", "models")
    monkeypatch.setattr(hub, "hf_hub_download", lambda repository, name: str(tmp_path / name))
    model = PublishedModel("", "somebody/vae", ("b.safetensors", "c.safetensors"))
    assert list(read_tensors(model.file)) == ["a"]


def test_a_missing_extra_is_said_with_the_command(monkeypatch) -> None:
    with pytest.raises(MissingExtra, match=r"not_there is not installed; it comes with the extra 'models'"):
        import_extra("not_there.part", "models")
    monkeypatch.setattr(weights, "import_extra", extras.import_extra)
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"huggingface_hub .* pip install 'genmem\[models\]'"):
        fetch_file("somebody/vae", "config.json")


def test_libraries_that_look_for_torchvision_can_be_imported() -> None:
    import_torchvision()
    import torchvision

    assert torchvision.transforms.functional.normalize(torch.ones(3, 2, 2), [1.0] * 3, [2.0] * 3).sum() == 0
    assert import_extra("timm", "models").list_models("test_vit")


# conversion ------------------------------------------------------------------------------------


def convert(*words: object):
    return CliRunner().invoke(main, ["checkpoint", "convert", *map(str, words)])


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": w, "epoch": 3}])
def test_tensors_of_a_pickle_become_safetensors(tmp_path, wrap) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save(wrap({"a": shared, "b": shared.mT, "c": torch.ones(2).half(), "d": shared}), tmp_path / "w.pt")
    out = tmp_path / "w.safetensors"
    done = convert(tmp_path / "w.pt", out)
    assert done.exit_code == 0 and "4 tensors" in done.output, done.output
    found = read_tensors(out)
    assert (
        torch.equal(found["a"], shared)
        and torch.equal(found["b"], shared.mT)
        and torch.equal(found["d"], shared)
    )
    assert found["c"].dtype == torch.half and load_file(out).keys() == found.keys()
    again = convert(tmp_path / "w.pt", out)
    assert again.exit_code != 0 and "is there already" in again.output
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []


def test_code_in_a_pickle_is_not_run_by_the_conversion(tmp_path) -> None:
    torch.save({"w": Planted(tmp_path / "trap")}, tmp_path / "w.pt")
    done = convert(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert done.exit_code != 0 and "might run code" in done.output
    assert not (tmp_path / "trap").exists() and not (tmp_path / "w.safetensors").exists()
