"""What the processes of `test_scoring_sets.py` run, and an encoder with several outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from genmem import collectives
from genmem.contracts import Encoded
from genmem.scoring import measuring
from genmem.scoring.measuring import Wanted, measure
from genmem.scoring.sets.pictures import ArrayPictures
from genmem.training.launch import process_group

WANTED = Wanted(frozenset({"pooled", "spatial"}), frozenset({"pooled"}), 4)


class ThreeOutputs:
    """Mean of each quarter of a picture; grey values of its corner; three classes by brightness."""

    width = 4
    outputs: Mapping[str, int] = {"pooled": 4, "logits": 3, "spatial": 6}

    def encode(self, pictures_BHWC: np.ndarray) -> Encoded:
        return Encoded(self.encode_outputs(pictures_BHWC, ("pooled",))["pooled"])

    def encode_outputs(self, pictures_BHWC: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        x = pictures_BHWC.astype(np.float32) / 255
        half = x.shape[1] // 2
        quarters = [x[:, i : i + half, j : j + half].mean((1, 2, 3)) for i in (0, half) for j in (0, half)]
        pooled = np.stack(quarters, 1)
        found = {
            "pooled": pooled,
            "logits": 20 * pooled[:, :3],
            "spatial": x.reshape(len(x), -1)[:, :6].copy(),
        }
        return {name: found[name] for name in names}

    def fit(self, pictures_BHWC: np.ndarray) -> None: ...

    def state(self) -> dict[str, np.ndarray]:
        return {"version": np.array([1])}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None: ...


def pictures(count: int, seed: int = 0, size: int = 8, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bright = rng.uniform(0.2, 1, (count, 1, 1, 1))
    return (bright * rng.integers(0, 256, (count, size, size, channels))).astype(np.uint8)


def measure_together(out: Path) -> None:
    """Every rank's findings on 29 pictures, a few at a time."""
    torch.set_num_threads(1)
    measuring._AT_ONCE = 4
    with process_group(torch.device("cpu")):
        found = measure(ArrayPictures(pictures(29)), {"": (ThreeOutputs(), WANTED)})[""]
        assert found.splits is not None
        tensors = {
            **{f"mean/{name}": part.mean_D for name, part in found.moments.items()},
            **{f"covariance/{name}": part.covariance() for name, part in found.moments.items()},
            "rows": torch.from_numpy(np.array(found.rows["pooled"])),
            "score": torch.tensor(found.splits.score()),
            "sha256": torch.tensor(list(bytes.fromhex(found.sha256))),
        }
        save_file(tensors, out / f"{collectives.rank()}.safetensors")
