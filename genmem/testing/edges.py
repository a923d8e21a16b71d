"""Contract checks of sources, tokenizers and encoders.

Pictures are uint8 (B, H, W, C).
"""

from __future__ import annotations

import numpy as np
import torch

from genmem.contracts import (
    Encoder,
    EncoderConfig,
    ManyOutputs,
    Source,
    SourceConfig,
    Split,
    StoredSource,
    TokenizerConfig,
)

SPLITS: tuple[Split, ...] = ("train", "test")


def check_source(config: SourceConfig) -> None:
    """A source counts what it has, and gives the same picture or sample every time.

    Raises:
        AssertionError: What does not hold.
    """
    source = config.build()
    assert source.count("train") > 0, "a source must have something to train on"
    assert source.provenance, "a source must say where its pictures come from"
    assert isinstance(source, (Source, StoredSource)), "a source gives pictures, or samples that are stored"
    if isinstance(source, Source):
        _check_pictures(source)
    if isinstance(source, StoredSource):
        _check_stored(source)


def _check_pictures(source: Source) -> None:
    classes = len(source.class_names)
    for split in SPLITS:
        for number in {0, source.count(split) - 1} if source.count(split) else set():
            picture, label = source.picture(split, number)
            again, _ = source.picture(split, number)
            assert picture.dtype == np.uint8 and picture.ndim == 3, "a picture must be uint8 (H, W, C)"
            assert picture.shape[2] in (1, 3), f"a picture must have 1 or 3 channels, got {picture.shape[2]}"
            assert np.array_equal(picture, again), "a picture must be the same every time"
            assert -1 <= label < max(classes, 1), f"label {label} is outside the {classes} classes"


def _check_stored(source: StoredSource) -> None:
    channels, *sides = source.spec.shape
    stored_shape = (channels * (2 if source.spec.moments else 1), *sides)
    for split in SPLITS:
        stop = min(2, source.count(split))
        first, again = (source.stored(split, 0, stop) for _ in range(2))
        assert len(first.label_B) == stop, f"{len(first.label_B)} labels for {stop} samples"
        for view, other in zip(first.views, again.views, strict=True):
            assert view["x"].shape == (stop, *stored_shape), (
                f"stored shape {view['x'].shape}, the spec says {(stop, *stored_shape)}"
            )
            assert np.array_equal(view["x"], other["x"]), "a sample must be the same every time"


def check_tokenizer(
    config: TokenizerConfig, *, size: int = 16, channels: int = 3, tolerance: float = 255.0
) -> None:
    """A tokenizer stores what its spec says and gives back uint8 pictures of the same shape.

    Args:
        config: Its settings.
        size: Height and width to try.
        channels: Channels to try.
        tolerance: Largest mean difference in grey levels after encoding and decoding.

    Raises:
        AssertionError: What does not hold.
    """
    tokenizer = config.build()
    pictures = _pictures(3, size, channels)
    spec = tokenizer.spec((size, size, channels))
    stored = tokenizer.encode(pictures)
    expected = (3, spec.shape[0] * (2 if spec.moments else 1), *spec.shape[1:])
    assert stored.shape == expected, f"stored shape {stored.shape}, the spec says {expected}"
    assert str(stored.dtype) == spec.dtype, f"stored dtype {stored.dtype}, the spec says {spec.dtype}"
    scale, shift = (np.asarray(part, np.float32).reshape(1, -1, 1, 1) for part in (spec.scale, spec.shift))
    mean = stored[:, : spec.shape[0]].astype(np.float32)
    decoded = tokenizer.decode(torch.from_numpy(mean * scale + shift))
    assert decoded.dtype == np.uint8 and decoded.shape == pictures.shape, (
        "decode must give uint8 (B, H, W, C)"
    )
    gap = float(np.abs(decoded.astype(int) - pictures.astype(int)).mean())
    assert gap <= tolerance, f"decoded pictures are off by {gap:.1f} grey levels on average"


def check_encoder(config: EncoderConfig, *, size: int = 16, channels: int = 3, count: int = 64) -> None:
    """An encoder gives fp32 features of its width, row by row, and its state round-trips.

    Args:
        config: Its settings.
        size: Height and width of pictures to try.
        channels: Channels to try.
        count: How many; an encoder that learns may want more.

    Raises:
        AssertionError: What does not hold.
    """
    encoder = config.build()
    given = _texts(count) if config.reads == "text" else _pictures(count, size, channels)
    encoder.fit(given)
    features = encoder.encode(given).pooled_BD
    assert features.dtype == np.float32, f"features must be float32, got {features.dtype}"
    assert features.shape == (count, encoder.width), (
        f"features are {features.shape}, width is {encoder.width}"
    )
    assert np.isfinite(features).all(), "features must be finite"
    alone = encoder.encode(given[1:2]).pooled_BD
    assert np.allclose(alone, features[1:2], atol=1e-4), "a feature must not depend on its batch mates"
    if isinstance(encoder, ManyOutputs):
        _check_outputs(encoder, encoder, given, features)
    again = config.build()
    again.load_state(encoder.state())
    assert np.allclose(again.encode(given).pooled_BD, features, atol=1e-6), "the state does not round-trip"
    for other in (_pictures(2, size, channels).astype(np.float32), _other(config, size, channels)):
        try:
            encoder.encode(other)
        except (TypeError, ValueError):
            continue
        raise AssertionError(f"an encoder of {config.reads} must refuse {other.dtype} {other.shape}")


def _other(config: EncoderConfig, size: int, channels: int) -> np.ndarray:
    """What the encoder does not read."""
    return _pictures(2, size, channels) if config.reads == "text" else _texts(2)


def _texts(count: int) -> np.ndarray:
    return np.array([f"picture {number} of {count}" for number in range(count)])


def _check_outputs(encoder: Encoder, many: ManyOutputs, pictures: np.ndarray, pooled_BD: np.ndarray) -> None:
    assert many.outputs.get("pooled") == encoder.width, (
        f'outputs must have "pooled" of width {encoder.width}, got {dict(many.outputs)}'
    )
    found = many.encode_outputs(pictures, tuple(many.outputs))
    for name, width in many.outputs.items():
        values = found[name]
        assert values.dtype == np.float32, f"{name} must be float32, got {values.dtype}"
        assert values.shape == (len(pictures), width), f"{name} is {values.shape}, its width is {width}"
    assert np.allclose(found["pooled"], pooled_BD, atol=1e-4), "pooled must be what encode gives"
    alone = many.encode_outputs(pictures[:1], ("pooled",))
    assert list(alone) == ["pooled"], f"only pooled was asked for, got {sorted(alone)}"


def _pictures(count: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)
