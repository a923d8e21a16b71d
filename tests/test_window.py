"""The means of a line of the log."""

from __future__ import annotations

import math

import torch
from synchronisation import no_host_synchronisation

from genmem.training.window import Line, Window


def add(window: Window, kept: bool, **values: float) -> None:
    tensors, flag = {name: torch.tensor(value) for name, value in values.items()}, torch.tensor(kept)
    with no_host_synchronisation():
        window.add(tensors, flag)


def close(window: Window) -> Line:
    return window.close(32)._replace(rate=0.0)


def test_means_are_of_steps_that_were_kept_and_of_numbers_that_are_finite():
    window = Window()
    add(window, True, loss=1.0, norm=2.0)
    add(window, False, loss=50.0, norm=math.inf)
    add(window, True, loss=3.0, norm=math.nan, late=4.0)
    assert close(window) == Line({"late": 4.0, "loss": 2.0, "norm": 2.0}, 0.0, skipped=1)
    add(window, False, loss=math.nan, norm=1.0)
    assert close(window) == Line({}, 0.0, skipped=1)
    add(window, True, loss=7.0)
    assert close(window) == Line({"loss": 7.0}, 0.0, skipped=0)
