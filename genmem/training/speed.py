"""How fast a run is: images, the share of what the devices can do, and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import torch

from genmem import collectives
from genmem.devices import DTYPES

SIDE = {"cpu": 1024, "cuda": 8192, "mps": 4096}
"""Of the square matrices whose product is the ceiling: large enough to be at the device's best."""

SECONDS = 0.2
"""That the measurement takes, after a first product that warms up."""


@attrs.frozen
class Speed:
    """What a rate of images means for this run."""

    images: int
    """To see in all."""

    flops_per_image: float | None
    """Of training, forward and backward of everything; None where it is not known."""

    ceiling: float
    """FLOPs a second of matrix products in the run's precision, on all processes together."""

    def rates(self, images_seen: int, images_per_s: float) -> dict[str, float]:
        """images_per_s, seconds_left, and mfu where the FLOPs of an image are known.

        mfu = images/s · FLOPs an image / ceiling, 1 where training does nothing but the fastest
        matrix products the devices are capable of.
        """
        found = {"images_per_s": images_per_s}
        if images_per_s > 0:
            found["seconds_left"] = (self.images - images_seen) / images_per_s
        if self.flops_per_image is not None:
            found["mfu"] = images_per_s * self.flops_per_image / self.ceiling
        return found


def measure_ceiling(device: torch.device, precision: str) -> float:
    """FLOPs a second of square matrix products, on all processes of the run at once.

    Args:
        device: This process's.
        precision: The recipe's: fp32, bf16, fp16.
    """
    side = SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=DTYPES[precision]) for _ in range(2))
    collectives.barrier()  # processes that share a machine's cores share its ceiling
    seconds = _shortest(lambda: left @ right, device)
    mine = torch.tensor(2 * side**3 / seconds, dtype=torch.float64)
    on = device if device.type == "cuda" else torch.device("cpu")
    return float(collectives.add(mine.to(on)))


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several."""
    work()
    _settle(device)
    shortest, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end or shortest == float("inf"):
        start = time.perf_counter()
        work()
        _settle(device)
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def _settle(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
