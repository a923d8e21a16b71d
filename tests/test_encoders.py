"""The tokenizer and encoders that need no weights, against formulas in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genmem.contracts import EncoderConfig
from genmem.data.states import save_state
from genmem.draws import Draws
from genmem_digits import DigitsConfig
from genmem_encoders import (
    PatchPcaConfig,
    PcaConfig,
    PixelEncoderConfig,
    PixelTokenizerConfig,
    RandomConvConfig,
    components,
)

SHAPES = [(8, 8, 1), (8, 8, 3), (9, 17, 1), (32, 32, 3), (64, 80, 3)]
ENCODERS = [
    PixelEncoderConfig(),
    PcaConfig(width=3),
    PatchPcaConfig(width=3, patch=1, context=1),
    RandomConvConfig(),
]


def pictures(shape: tuple[int, ...], count: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    source = DigitsConfig().build()
    train = np.stack([source.picture("train", n)[0] for n in range(source.count("train"))])
    test = np.stack([source.picture("test", n)[0] for n in range(source.count("test"))])
    return train, test


# components found on other pictures -------------------------------------------------------------


@pytest.mark.parametrize("form", [PcaConfig, lambda **keys: PatchPcaConfig(patch=4, **keys)])
def test_components_found_elsewhere_are_taken_and_known_by_their_content(form, tmp_path: Path) -> None:
    first, other = pictures((8, 8, 1)), pictures((8, 8, 1), seed=1)
    found = form(width=3).build()
    found.fit(first)
    for name in ("a", "b"):
        save_state(tmp_path / name, found.state())
    config = form(width=3, weights=str(tmp_path / "a"))
    taken = config.build()
    taken.fit(other)
    assert np.array_equal(taken.encode(other).pooled_BD, found.encode(other).pooled_BD)
    assert config == form(width=3, weights=str(tmp_path / "b")) != form(width=3)
    own = form(width=3).build()
    own.fit(other)
    save_state(tmp_path / "b", own.state())
    assert config != form(width=3, weights=str(tmp_path / "b"))


def test_components_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    found = PcaConfig(width=3).build()
    found.fit(pictures((8, 8, 1)))
    save_state(tmp_path / "good", found.state())
    save_state(tmp_path / "foreign", {"layer0": np.zeros((4, 4))})
    (tmp_path / "pickle").write_bytes(b"\x80\x04N.")
    for name, width, shape, message in (
        ("good", 2, (8, 8, 1), "width 2: the state has 3 components"),
        ("good", 3, (9, 9, 1), "components of 64 numbers, these rows have 81"),
        ("foreign", 3, (8, 8, 1), r"expected mean \(P,\) and components \(D, P\), found .*layer0"),
        ("pickle", 3, (8, 8, 1), "cannot be read"),
        ("absent", 3, (8, 8, 1), "cannot be read .*; name encoders/NAME.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            PcaConfig(width=width, weights=str(tmp_path / name)).build().fit(pictures(shape))


# the tokenizer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_go_to_samples_and_back_exactly(shape: tuple[int, int, int]) -> None:
    tokenizer, given = PixelTokenizerConfig().build(), pictures(shape)
    given.reshape(-1)[:256] = np.resize(np.arange(256), given.reshape(-1)[:256].shape)
    spec, stored = tokenizer.spec(shape), tokenizer.encode(given)
    assert (spec.shape, spec.dtype, stored.dtype.name) == ((shape[2], shape[0], shape[1]), "uint8", "uint8")
    assert spec.scale == (1 / 127.5,) and spec.shift == (-1.0,)
    x = torch.from_numpy(stored).float() * spec.scale[0] + spec.shift[0]
    np.testing.assert_allclose(x.numpy(), given.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)
    assert np.array_equal(tokenizer.decode(x), given)


def test_decoding_clamps_and_rounds_to_the_nearest_grey() -> None:
    grey = np.array([-50, -0.4, 0.4, 0.6, 127.4, 127.5, 127.6, 254.4, 254.6, 256, 999, 1.5001])
    x = torch.from_numpy(grey / 127.5 - 1).float().view(1, 1, 3, 4)
    found = PixelTokenizerConfig().build().decode(x)
    assert found.dtype == np.uint8 and found.shape == (1, 3, 4, 1)
    assert found.ravel().tolist() == [0, 0, 0, 1, 127, 128, 128, 254, 255, 255, 255, 2]


# what all encoders share -----------------------------------------------------------------------


@pytest.mark.parametrize("config", ENCODERS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_states_carry_over_and_splitting_a_batch_changes_nothing(
    config: EncoderConfig, shape: tuple[int, int, int]
) -> None:
    encoder, given = config.build(), pictures(shape)
    encoder.fit(given)
    whole = encoder.encode(given).pooled_BD
    assert whole.dtype == np.float32
    assert whole.shape == (12, encoder.width)
    other = config.build()
    other.load_state(encoder.state())
    assert other.width == encoder.width
    assert np.array_equal(other.encode(given).pooled_BD, whole)
    for size in (1, 5):
        parts = [encoder.encode(given[i : i + size]).pooled_BD for i in range(0, 12, size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=2e-6)
    assert np.array_equal(encoder.encode(given[:, :, ::-1][:, :, ::-1]).pooled_BD, whole)


@pytest.mark.parametrize("config", ENCODERS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 8, 8, 1), np.float32), r"expected uint8 pictures .* got float32 \(2, 8, 8, 1\)"),
        (np.zeros((2, 8, 8), np.uint8), r"got uint8 \(2, 8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got uint8 \(2, 8, 8, 4\)"),
        (np.zeros((2, 7, 8, 1), np.uint8), "expected pictures of 8 x 8 or more, got 7 x 8"),
    ],
)
def test_what_is_no_picture_is_refused(config: EncoderConfig, given: np.ndarray, message: str) -> None:
    encoder = config.build()
    encoder.fit(pictures((8, 8, 1)))
    with pytest.raises(ValueError, match=message):
        encoder.encode(given)
    with pytest.raises(ValueError, match=message):
        PixelTokenizerConfig().build().encode(given)


@pytest.mark.parametrize("config", ENCODERS, ids=lambda c: type(c).__name__)
def test_pictures_of_another_kind_than_fitted_are_refused(config: EncoderConfig) -> None:
    encoder = config.build()
    encoder.fit(pictures((8, 8, 1)))
    with pytest.raises(ValueError, match=r"pictures|channels"):
        encoder.encode(pictures((8, 8, 3)))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: PixelEncoderConfig().build().width, "fit it first"),
        (lambda: PcaConfig().build().state(), "no state before fit"),
        (lambda: PcaConfig().build().encode(pictures((8, 8, 1))), "fit it, or load a state"),
        (lambda: RandomConvConfig().build().state(), "fit it first"),
        (lambda: PatchPcaConfig().build().state(), "no state before fit"),
        (lambda: PatchPcaConfig().build().encode(pictures((8, 8, 1))), "fit it, or load a state"),
        (lambda: PcaConfig(width=0), "width must be 1 or more, got 0"),
        (lambda: RandomConvConfig(layers=0), "layers must be 1 or more, got 0"),
        (lambda: RandomConvConfig(width=50), r"multiple of grid \* grid = 4, got 50; take 48 or 52"),
        (lambda: RandomConvConfig(width=3), r"take 4$"),
    ],
)
def test_what_cannot_be_is_refused(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask()


# pixels, pca -----------------------------------------------------------------------------------


def test_pixels_are_the_pictures_in_a_row() -> None:
    given = pictures((9, 17, 3))
    found = PixelEncoderConfig().build().encode(given).pooled_BD
    np.testing.assert_allclose(found, given.reshape(12, -1).astype(np.float64) / 127.5 - 1, atol=1e-6)


def test_pca_is_the_singular_value_decomposition(digits: tuple[np.ndarray, np.ndarray]) -> None:
    train, test = digits
    encoder = PcaConfig(width=16).build()
    encoder.fit(train)
    flat = train.reshape(len(train), -1).astype(np.float64) / 127.5 - 1
    _, singular, right = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    components = encoder.state()["components"]
    assert components.dtype == np.float64
    np.testing.assert_allclose(np.abs((components * right[:16]).sum(1)), 1, atol=1e-9)
    np.testing.assert_allclose(components @ components.T, np.eye(16), atol=1e-12)
    features = encoder.encode(train).pooled_BD.astype(np.float64)
    np.testing.assert_allclose((features**2).sum(0), singular[:16] ** 2, rtol=1e-5)
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    # The best reconstruction there is: its error is what the other directions hold.
    held = test.reshape(len(test), -1).astype(np.float64) / 127.5 - 1 - flat.mean(0)
    error = held - encoder.encode(test).pooled_BD @ components
    np.testing.assert_allclose(error, held - held @ right[:16].T @ right[:16], atol=1e-5)


def test_pca_fits_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pictures((8, 8, 1), count=50)
    flat = given.reshape(50, -1) / 127.5 - 1
    monkeypatch.setattr(components, "_AT_ONCE", 7)
    mean, covariance = components.measure_rows(given, lambda part: part.reshape(len(part), -1) / 127.5 - 1)
    np.testing.assert_allclose(mean, flat.mean(0), atol=1e-13)
    np.testing.assert_allclose(covariance, np.cov(flat.T, bias=True), atol=1e-13)


def test_pca_signs_are_fixed() -> None:
    given = pictures((8, 8, 1), count=200)
    one, two = PcaConfig(width=8).build(), PcaConfig(width=8).build()
    one.fit(given)
    two.fit(given[::-1].copy())
    components = one.state()["components"]
    largest = np.abs(components).argmax(1)
    assert (components[np.arange(8), largest] > 0).all()
    np.testing.assert_allclose(components, two.state()["components"], atol=1e-9)


def test_pca_refuses_more_directions_than_there_are(digits: tuple[np.ndarray, np.ndarray]) -> None:
    # Three of the 64 places are blank in every digit.
    with pytest.raises(ValueError, match="vary in 61 directions only; take a width of at most 61"):
        PcaConfig(width=62).build().fit(digits[0])
    with pytest.raises(ValueError, match="5 pictures vary in 4 directions only"):
        PcaConfig(width=5).build().fit(pictures((8, 8, 1), 5))
    with pytest.raises(ValueError, match="at most 0"):
        PcaConfig(width=1).build().fit(np.zeros((5, 8, 8, 1), np.uint8))
    with pytest.raises(ValueError, match="at most 4096 numbers, these have 12288"):
        PcaConfig().build().fit(pictures((64, 64, 3), 20))
    with pytest.raises(ValueError, match="the state has 4 components"):
        fitted = PcaConfig(width=4).build()
        fitted.fit(pictures((8, 8, 1)))
        PcaConfig(width=3).build().load_state(fitted.state())


# random-conv -----------------------------------------------------------------------------------


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(C, H, W) with (O, C, 3, 3), zeros around, in float64; one product a tap."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(weight), height, width))
    for i in range(3):
        for j in range(3):
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + height, j : j + width])
    return out


def halve(x: np.ndarray) -> np.ndarray:
    summed: np.ndarray = x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]
    return summed / 4


def test_random_conv_is_its_formula(digits: tuple[np.ndarray, np.ndarray]) -> None:
    given = digits[1][:5]
    encoder = RandomConvConfig(tokens=True).build()
    encoded = encoder.encode(given)
    assert encoded.tokens_BLD is not None
    weights = [encoder.state()[f"layer{i}"].astype(np.float64) for i in range(3)]
    assert [w.shape for w in weights] == [(32, 1, 3, 3), (32, 32, 3, 3), (16, 32, 3, 3)]
    for picture, pooled, tokens in zip(given, encoded.pooled_BD, encoded.tokens_BLD, strict=True):
        x = picture.astype(np.float64).transpose(2, 0, 1) / 127.5 - 1
        x = np.maximum(convolve(x, weights[0]), 0)
        x = halve(np.maximum(convolve(x, weights[1]), 0))
        x = np.maximum(convolve(x, weights[2]), 0)
        np.testing.assert_allclose(tokens, x.reshape(16, 16).T, atol=1e-5)
        np.testing.assert_allclose(pooled, halve(x).ravel(), atol=1e-5)


def test_random_conv_weights_come_from_the_seed_with_hes_variance() -> None:
    encoder = RandomConvConfig(hidden=64, width=256, seed=4).build()
    encoder.fit(pictures((16, 16, 3)))
    layers = encoder.state()
    for i, fan_in in enumerate((3, 64, 64)):
        weight = layers[f"layer{i}"]
        assert abs(weight.var() * 9 * fan_in / 2 - 1) < 0.1
        unit = Draws(4, torch.arange(64)).uniform(f"random-conv/{i}", (fan_in, 3, 3)) * 2 - 1
        np.testing.assert_allclose(weight, unit.double().numpy() * np.sqrt(6 / (9 * fan_in)), rtol=1e-6)
    other = RandomConvConfig(hidden=64, width=256, seed=5).build()
    other.fit(pictures((16, 16, 3)))
    assert not np.array_equal(other.state()["layer0"], layers["layer0"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "config", [RandomConvConfig(), RandomConvConfig(width=18, grid=3, layers=5, tokens=True)]
)
def test_random_conv_takes_any_size(shape: tuple[int, int, int], config: RandomConvConfig) -> None:
    encoded = config.build().encode(pictures(shape))
    assert encoded.pooled_BD.shape == (12, config.width)
    assert np.isfinite(encoded.pooled_BD).all() and encoded.pooled_BD.std() > 0
    assert (encoded.tokens_BLD is not None) == config.tokens


def test_random_conv_refuses_weights_of_another_network() -> None:
    encoder = RandomConvConfig(width=8).build()
    encoder.fit(pictures((8, 8, 1)))
    with pytest.raises(ValueError, match=r"layers of \[32, 32, 2\] channels, expected \[32, 32, 16\]"):
        RandomConvConfig().build().load_state(encoder.state())


def test_random_conv_tells_digits_from_a_gaussian_with_their_moments(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    """Pixels hardly do: the reason this encoder exists."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        a, b = a.astype(np.float64), b.astype(np.float64)
        value, vector = np.linalg.eigh(np.cov(a.T))
        root = (vector * np.sqrt(value.clip(0))) @ vector.T
        cross = np.sqrt(np.linalg.eigvalsh(root @ np.cov(b.T) @ root).clip(0)).sum()
        both = np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * cross
        return float(np.square(a.mean(0) - b.mean(0)).sum() + both)

    train, test = digits
    flat = train.reshape(len(train), -1) / 127.5 - 1
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(flat.mean(0), np.cov(flat.T), len(train)).clip(-1, 1)
    gaussian = np.rint((drawn + 1) * 127.5).astype(np.uint8).reshape(train.shape)
    ratios = {}
    for config in (PixelEncoderConfig(), RandomConvConfig()):
        encoder = config.build()
        a, b, c = (encoder.encode(p).pooled_BD for p in (train, test, gaussian))
        ratios[type(config)] = distance(c, b) / distance(a, b)
    assert ratios[PixelEncoderConfig] < 5
    assert ratios[RandomConvConfig] > 15
