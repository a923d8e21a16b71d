"""The patch-pca encoder against NumPy's singular values of windows cut by hand."""

from __future__ import annotations

import numpy as np
import pytest

from genmem_digits import DigitsConfig
from genmem_encoders import PatchPcaConfig, components


def pictures(shape: tuple[int, ...], count: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def cut(picture: np.ndarray, patch: int, context: int) -> np.ndarray:
    """(L, C · side · side) in [-1, 1]: pixel by pixel; outside, the nearest pixel of the picture."""
    height, width, channels = picture.shape
    side, rows = patch + 2 * context, []
    for top in range(0, height, patch):
        for left in range(0, width, patch):
            window = np.empty((channels, side, side))
            for i in range(side):
                for j in range(side):
                    y = min(max(top - context + i, 0), height - 1)
                    x = min(max(left - context + j, 0), width - 1)
                    window[:, i, j] = picture[y, x] / 127.5 - 1
            rows.append(window.ravel())
    return np.array(rows)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    source = DigitsConfig().build()
    return np.stack([source.picture("train", n)[0] for n in range(300)])


@pytest.mark.parametrize(("patch", "context", "width"), [(2, 0, 4), (2, 2, 16), (4, 1, 9)])
def test_tokens_are_the_singular_value_decomposition_of_windows(digits, patch, context, width):
    encoder = PatchPcaConfig(width=width, patch=patch, context=context).build()
    encoder.fit(digits)
    windows = np.stack([cut(picture, patch, context) for picture in digits])
    flat = windows.reshape(-1, windows.shape[2])
    _, singular, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    encoded = encoder.encode(digits)
    tokens = encoded.tokens_BLD
    assert tokens is not None and tokens.dtype == np.float32
    assert tokens.shape == (300, (8 // patch) ** 2, width)
    np.testing.assert_allclose(np.square(tokens.astype(float)).sum((0, 1)), singular[:width] ** 2, rtol=1e-4)
    np.testing.assert_allclose(np.abs((encoder.state()["components"] * right[:width]).sum(1)), 1, atol=1e-6)
    # Back in the windows: the best approximation of that rank there is.
    kept = (windows - flat.mean(0)) @ right[:width].T @ right[:width]
    np.testing.assert_allclose(tokens @ encoder.state()["components"], kept, atol=1e-4)
    np.testing.assert_allclose(encoded.pooled_BD, tokens.mean(1), atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 12, 3), (9, 15, 1)])
def test_tokens_stand_row_by_row_and_mirror_with_the_picture(shape):
    """A bright patch is seen at its own place; in the mirrored picture at the mirrored one."""
    patch, given = 2 if shape[0] % 2 == 0 else 3, pictures(shape, 40)
    encoder = PatchPcaConfig(width=3, patch=patch, context=0).build()
    encoder.fit(given)
    rows, columns = shape[0] // patch, shape[1] // patch
    dark = np.zeros((1, *shape), np.uint8)
    bright = dark.copy()
    bright[:, patch : 2 * patch, :patch] = 255

    def changed(picture: np.ndarray) -> list[int]:
        tokens, blank = encoder.encode(picture).tokens_BLD, encoder.encode(dark).tokens_BLD
        assert tokens is not None and blank is not None and tokens.shape == (1, rows * columns, 3)
        return np.flatnonzero((tokens != blank).any(-1)[0]).tolist()

    assert changed(bright) == [columns]
    assert changed(np.ascontiguousarray(bright[:, :, ::-1])) == [2 * columns - 1]


def test_it_fits_in_parts_as_in_one(digits, monkeypatch):
    whole, parts = (PatchPcaConfig(width=6, context=1).build() for _ in range(2))
    whole.fit(digits)
    monkeypatch.setattr(components, "_AT_ONCE", 7)
    parts.fit(digits)
    np.testing.assert_allclose(parts.state()["components"], whole.state()["components"], atol=1e-9)


def test_what_cannot_be_is_refused(digits):
    with pytest.raises(ValueError, match="pictures of 8 x 8 are not whole patches of 3; take a patch"):
        PatchPcaConfig(patch=3).build().fit(digits)
    with pytest.raises(ValueError, match=r"patch-pca of width 16: .* vary in 4 directions only"):
        PatchPcaConfig().build().fit(digits)
    with pytest.raises(ValueError, match="at most 4096 numbers, these have 12288"):
        PatchPcaConfig(patch=64).build().fit(pictures((64, 64, 3), 2))
    fitted = PatchPcaConfig(width=4).build()
    fitted.fit(digits)
    with pytest.raises(ValueError, match=r"windows of 4 numbers, .* have windows of 12"):
        fitted.encode(pictures((8, 8, 3)))
    with pytest.raises(ValueError, match="the state has 4 components"):
        PatchPcaConfig(width=3).build().load_state(fitted.state())
    for settings in ({"width": 0}, {"patch": 0}, {"context": -1}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            PatchPcaConfig(**settings)
