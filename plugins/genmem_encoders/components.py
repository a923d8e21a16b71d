"""Principal components of rows cut from pictures, in float64.

Shapes: N pictures to fit on, B pictures, n rows, P numbers in a row, D components, H W C picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

MOST_NUMBERS = 4096
"""Largest P: a covariance of (P, P) is kept."""

_AT_ONCE = 1024


class Components(NamedTuple):
    """The leading eigenvectors of a covariance, and the mean it was taken about."""

    mean_P: np.ndarray
    components_DP: np.ndarray

    def project(self, rows_nP: np.ndarray) -> np.ndarray:
        """(n, D) float32: coordinates along the components; computed in float64."""
        coordinates_nD: np.ndarray = (rows_nP - self.mean_P) @ self.components_DP.T
        return coordinates_nD.astype(np.float32)


class ComponentEncoder:
    """What encoders of components share: their width, and a state of mean and components."""

    def __init__(self, name: str, width: int, weights: str | None = None) -> None:
        """Keep `width` components, found before if a file of them is named; `name` stands in messages."""
        self._name, self._width, self._weights = name, width, weights
        self._found: Components | None = None

    @property
    def width(self) -> int:
        """D."""
        return self._width

    def state(self) -> dict[str, np.ndarray]:
        """Mean and components, in float64."""
        if self._found is None:
            raise ValueError(f"{self._name}: there is no state before fit")
        return {"mean": self._found.mean_P, "components": self._found.components_DP}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state.

        Raises:
            ValueError: One of another width.
        """
        if len(state["components"]) != self._width:
            raise ValueError(
                f"{self._name} of width {self._width}: the state has {len(state['components'])} components"
            )
        self._found = Components(state["mean"], state["components"])

    def _settle(self, pictures_NHWC: np.ndarray, rows_of: Callable[[np.ndarray], np.ndarray]) -> None:
        if self._weights is None:
            self._found = fit_components(pictures_NHWC, rows_of, self._width, self._name)
            return
        self.load_state(_read(Path(self._weights), self._name))
        size, expected = len(self._fitted().mean_P), rows_of(pictures_NHWC[:1]).shape[1]
        if size != expected:
            raise ValueError(f"{self._weights}: components of {size} numbers, these rows have {expected}")

    def _fitted(self) -> Components:
        if self._found is None:
            raise ValueError(f"{self._name}: fit it, or load a state, before encoding")
        return self._found


def _read(file: Path, name: str) -> dict[str, np.ndarray]:
    """The state in a safetensors file."""
    try:
        state = load(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{name}: weights = {str(file)!r} cannot be read ({error}); name encoders/NAME.safetensors of "
            "a set that is prepared"
        ) from error
    shapes = {key: array.shape for key, array in state.items()}
    components, mean = shapes.get("components", ()), shapes.get("mean", ())
    if len(components) != 2 or mean != components[1:]:
        raise ValueError(f"{file}: expected mean (P,) and components (D, P), found {shapes or 'nothing'}")
    return state


def fit_components(
    pictures_NHWC: np.ndarray, rows_of: Callable[[np.ndarray], np.ndarray], width: int, name: str
) -> Components:
    """Eigenvectors of the covariance of the rows, largest eigenvalue first.

    The entry of largest magnitude of each is made positive, so that the sign is no accident.

    Args:
        pictures_NHWC: What to fit on.
        rows_of: From some of the pictures to their rows (n, P) in float64.
        width: Components wanted.
        name: Whose width it is, for the message.

    Raises:
        ValueError: Rows that are too long, or vary in fewer directions than asked for.
    """
    mean_P, covariance_PP = measure_rows(pictures_NHWC, rows_of)
    value_P, vector_PP = np.linalg.eigh(covariance_PP)
    rank = int((value_P > 1e-10 * value_P[-1]).sum()) if value_P[-1] > 0 else 0
    if width > rank:
        raise ValueError(
            f"{name} of width {width}: {len(pictures_NHWC)} pictures vary in {rank} directions only; "
            f"take a width of at most {rank}"
        )
    components_DP = vector_PP[:, ::-1][:, :width].T
    largest_D1 = np.abs(components_DP).argmax(1)[:, None]
    sign_D1 = np.sign(np.take_along_axis(components_DP, largest_D1, 1))
    return Components(mean_P, np.ascontiguousarray(components_DP * sign_D1))


def measure_rows(
    pictures_NHWC: np.ndarray, rows_of: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (P,) and covariance (P, P) of the rows, in float64, a part of the pictures at a time.

    Raises:
        ValueError: Rows that are too long for a covariance.
    """
    parts = [pictures_NHWC[start : start + _AT_ONCE] for start in range(0, len(pictures_NHWC), _AT_ONCE)]
    each, size = rows_of(pictures_NHWC[:1]).shape
    if size > MOST_NUMBERS:
        raise ValueError(f"components are sought of at most {MOST_NUMBERS} numbers, these have {size}")
    count = each * len(pictures_NHWC)
    mean_P, covariance_PP = np.zeros(size), np.zeros((size, size))
    for part in parts:
        mean_P += rows_of(part).sum(0) / count
    for part in parts:
        centred_nP = rows_of(part) - mean_P
        covariance_PP += centred_nP.T @ centred_nP / count
    return mean_P, covariance_PP
