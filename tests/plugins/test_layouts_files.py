"""Files of weights that are damaged, are none, or would run code."""

from __future__ import annotations

import argparse
import collections
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from published import TINY, filled
from safetensors.torch import save_file

from genmem.exchange.files import read_weights
from genmem.exchange.importing import import_weights


class Planted:
    """What runs a command when it is unpickled by somebody careless."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def hide(planted: Planted, place: str) -> Any:
    weights = collections.OrderedDict(filled(TINY["sit"]))
    match place:
        case "top":
            return planted
        case "beside":
            return weights | {"extra": planted}
        case "args":
            return {"ema": weights, "args": argparse.Namespace(data=planted)}
    return {"ema": weights, "opt": {"state": [planted]}}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["top", "beside", "args", "opt"])
def test_nothing_in_a_file_is_run(tmp_path: Path, place: str, zipped: bool) -> None:
    mark = tmp_path / "ran"
    file = tmp_path / "weights.pt"
    torch.save(hide(Planted(mark), place), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"holds (posix|nt)\.system, which is no tensor and might run code"):
        import_weights(file, tmp_path / "run", "sit")
    assert not mark.exists() and not (tmp_path / "run").exists()
    torch.load(file, weights_only=False)
    assert mark.exists(), "the file is harmless, so the test says nothing"


def test_options_are_data_only_while_one_file_is_read(tmp_path: Path) -> None:
    torch.save({"ema": {"a": torch.ones(1)}, "args": argparse.Namespace(lr=1.0)}, tmp_path / "a.pt")
    assert read_weights(tmp_path / "a.pt").ignored == ("args",)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_legacy_files_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(tmp_path / "old.pt").average["a"], torch.ones(2))


REFUSED: dict[str, tuple[Any, str]] = {
    "no weights": ({"opt": {}, "args": 3}, "holds args, opt, and no weights"),
    "a list": ([torch.ones(1)], "holds a list, not a dict of tensors"),
    "twice": ({"a": torch.ones(1), "module.a": torch.ones(1)}, "has a twice, with and without a prefix"),
    "foreign names": ({"conv.weight": torch.ones(1)}, "is not in layout 'sit': the file has conv.weight"),
    "nothing of it": ({"pos_embed": torch.ones(1, 4, 8)}, "the file lacks x_embedder.proj.weight"),
    "another layout": (filled(TINY["lightningdit"]), "the file has blocks.0.mlp.w12.bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(tmp_path: Path, name: str) -> None:
    content, message = REFUSED[name]
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message):
        import_weights(tmp_path / "weights.pt", tmp_path / "run", "sit")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    weights = {"a": torch.ones(1000)}
    torch.save(weights, tmp_path / name) if name == "a.pt" else save_file(weights, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"{name}.*(cannot be read|damaged)"):
        read_weights(tmp_path / name)
