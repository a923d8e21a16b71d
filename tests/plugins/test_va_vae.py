"""va-vae against the latent diffusion autoencoder written out in float64, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_models import KL_FILE, pictures, save_kl
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from genmem import testing
from genmem.exchange.converting import convert_weights
from genmem_diffusers import VaVaeConfig
from genmem_diffusers.names import rename_tensors

Weights = dict[str, Tensor]
MULTIPLIERS = (1, 2, 2)
SMALL = {"channels": 32, "multipliers": MULTIPLIERS, "latent_channels": 4}
"""Of groups of 32 channels there must be whole ones."""

GIVEN = pictures(3, 16)


# the autoencoder of the latent diffusion code, from its description -------------------------------


def convolve(x: Tensor, w: Weights, name: str, **how: int) -> Tensor:
    return functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)


def normalize(x: Tensor, w: Weights, name: str) -> Tensor:
    return functional.group_norm(x, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)


def swish(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def residual(x: Tensor, w: Weights, name: str) -> Tensor:
    h = convolve(swish(normalize(x, w, f"{name}.norm1")), w, f"{name}.conv1", padding=1)
    h = convolve(swish(normalize(h, w, f"{name}.norm2")), w, f"{name}.conv2", padding=1)
    if f"{name}.nin_shortcut.weight" in w:
        x = convolve(x, w, f"{name}.nin_shortcut")
    return x + h


def attend(x: Tensor, w: Weights, name: str) -> Tensor:
    h = normalize(x, w, f"{name}.norm")
    q, k, v = (convolve(h, w, f"{name}.{part}").flatten(2) for part in "qkv")
    weight = (q.mT @ k / q.shape[1] ** 0.5).softmax(-1)
    return x + convolve((v @ weight.mT).view_as(x), w, f"{name}.proj_out")


def level(x: Tensor, w: Weights, name: str, blocks: int) -> Tensor:
    for j in range(blocks):
        x = residual(x, w, f"{name}.block.{j}")
        if f"{name}.attn.{j}.q.weight" in w:
            x = attend(x, w, f"{name}.attn.{j}")
    return x


def middle(x: Tensor, w: Weights, half: str) -> Tensor:
    x = residual(x, w, f"{half}.mid.block_1")
    return residual(attend(x, w, f"{half}.mid.attn_1"), w, f"{half}.mid.block_2")


def encode(x: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
    """Mean and deviation."""
    x = convolve(x, w, "encoder.conv_in", padding=1)
    for i in range(len(MULTIPLIERS)):
        x = level(x, w, f"encoder.down.{i}", 2)
        if i < len(MULTIPLIERS) - 1:
            # One row and one column of zeros, at the far sides only.
            x = convolve(functional.pad(x, (0, 1, 0, 1)), w, f"encoder.down.{i}.downsample.conv", stride=2)
    x = swish(normalize(middle(x, w, "encoder"), w, "encoder.norm_out"))
    x = convolve(convolve(x, w, "encoder.conv_out", padding=1), w, "quant_conv")
    mean, log_variance = x.chunk(2, 1)
    return mean, (0.5 * log_variance.clamp(-30, 20)).exp()


def decode(z: Tensor, w: Weights) -> Tensor:
    x = convolve(convolve(z, w, "post_quant_conv"), w, "decoder.conv_in", padding=1)
    x = middle(x, w, "decoder")
    for i in reversed(range(len(MULTIPLIERS))):
        x = level(x, w, f"decoder.up.{i}", 3)
        if i:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = convolve(x, w, f"decoder.up.{i}.upsample.conv", padding=1)
    return convolve(swish(normalize(x, w, "decoder.norm_out")), w, "decoder.conv_out", padding=1)


def draw_weights() -> Weights:
    """Under the latent diffusion code's names; its decoder counts levels from the finest."""
    generator, w = torch.Generator().manual_seed(0), {}
    last = len(MULTIPLIERS) - 1
    channels = [32 * m for m in MULTIPLIERS]

    def conv(name: str, out: int, into: int, side: int = 3) -> None:
        scale = (into * side * side) ** -0.5
        w[f"{name}.weight"] = torch.randn(out, into, side, side, generator=generator) * scale
        w[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def norm(name: str, size: int) -> None:
        w[f"{name}.weight"] = 1 + torch.randn(size, generator=generator) * 0.1
        w[f"{name}.bias"] = torch.randn(size, generator=generator) * 0.1

    def block(name: str, into: int, out: int) -> None:
        norm(f"{name}.norm1", into)
        conv(f"{name}.conv1", out, into)
        norm(f"{name}.norm2", out)
        conv(f"{name}.conv2", out, out)
        if into != out:
            conv(f"{name}.nin_shortcut", out, into, 1)

    def attention(name: str, size: int) -> None:
        norm(f"{name}.norm", size)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", size, size, 1)

    def whole(half: str, way: str, blocks: int, order: list[int]) -> None:
        size = channels[order[0]]
        for i in order:
            for j in range(blocks):
                block(f"{half}.{way}.{i}.block.{j}", size, channels[i])
                size = channels[i]
                if i == last:
                    attention(f"{half}.{way}.{i}.attn.{j}", size)
            if i != order[-1]:
                conv(f"{half}.{way}.{i}.{way}sample.conv", size, size)
        norm(f"{half}.norm_out", size)
        for part in ("block_1", "block_2"):
            block(f"{half}.mid.{part}", channels[last], channels[last])
        attention(f"{half}.mid.attn_1", channels[last])

    whole("encoder", "down", 2, list(range(len(channels))))
    whole("decoder", "up", 3, list(reversed(range(len(channels)))))
    conv("encoder.conv_in", channels[0], 3)
    conv("encoder.conv_out", 8, channels[last])
    conv("decoder.conv_in", channels[last], 4)
    conv("decoder.conv_out", 3, channels[0])
    conv("quant_conv", 8, 8, 1)
    conv("post_quant_conv", 4, 4, 1)
    return w


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, Weights]:
    """Weights as published, but in safetensors: a loss and another network lie beside them."""
    file, w = tmp_path_factory.mktemp("va") / "vavae.safetensors", draw_weights()
    save_file(w | {"loss.logvar": torch.zeros(1), "foundation_model.norm.weight": torch.ones(3)}, file)
    return file, {name: value.double() for name, value in w.items()}


def tokenizer_of(file: Path, stats: Path | None = None, **changes: object):
    return VaVaeConfig(path=str(file), latents_stats=stats and str(stats), **(SMALL | changes)).build()


def as_float64(given: np.ndarray) -> Tensor:
    return torch.from_numpy(given.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1)


# tests -------------------------------------------------------------------------------------------


def test_it_is_the_latent_diffusion_autoencoder(published) -> None:
    file, w = published
    tokenizer = tokenizer_of(file)
    stored = tokenizer.encode(GIVEN)
    mean, std = encode(as_float64(GIVEN), w)
    np.testing.assert_allclose(stored[:, :4], mean, atol=5e-6, rtol=5e-5)
    np.testing.assert_allclose(stored[:, 4:], std, atol=5e-6, rtol=5e-5)
    z = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    exact = ((decode(z.double(), w).clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    assert clear.mean() > 0.98 and 10 < exact.mean() < 245
    assert np.array_equal(tokenizer.decode(z)[clear], exact.round()[clear])


def test_names_of_diffusers_are_the_same_weights(published, tmp_path) -> None:
    file, w = published
    renamed = rename_tensors({name: value.float() for name, value in w.items()})
    assert rename_tensors(renamed).keys() == renamed.keys() and not renamed.keys() & {"loss.logvar"}
    save_file({name: value.contiguous() for name, value in renamed.items()}, tmp_path / "new.safetensors")
    before, after = (tokenizer_of(place) for place in (file, tmp_path / "new.safetensors"))
    assert before.spec((16, 16, 3)) == after.spec((16, 16, 3))
    assert np.array_equal(before.encode(GIVEN), after.encode(GIVEN))


@pytest.mark.parametrize("form", ["json", "safetensors", "converted"])
def test_statistics_of_channels(published, tmp_path, form) -> None:
    file, w = published
    mean, std = torch.tensor([0.5, -1.0, 0.25, 2.0]), torch.tensor([1.0, 2.0, 0.5, 4.0])
    stats = tmp_path / f"latents_stats.{'json' if form == 'json' else 'safetensors'}"
    if form == "json":
        stats.write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    else:
        tables = {"mean": mean.view(1, 4, 1, 1), "std": std.view(1, 4, 1, 1)}
        if form == "safetensors":
            save_file(tables, stats)
        else:
            torch.save(tables, tmp_path / "latents_stats.pt")
            assert convert_weights(tmp_path / "latents_stats.pt", stats) == 2
    tokenizer = tokenizer_of(file, stats, multiplier=2.0)
    spec = tokenizer.spec((16, 16, 3))
    assert spec.scale == (2.0, 1.0, 4.0, 0.5) and spec.shift == (-1.0, 1.0, -1.0, -1.0)
    z = encode(as_float64(GIVEN), w)[0]
    x = (z - mean.view(4, 1, 1)) / std.view(4, 1, 1) * 2.0
    exact = ((decode(z, w).clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    clear = np.abs(exact % 1 - 0.5) > 2e-3
    assert np.array_equal(tokenizer.decode(x.float())[clear], exact.round()[clear])


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"mean": [0.0] * 4}, "std must be 4 numbers; it is missing"),
        ({"mean": [0.0] * 3, "std": [1.0] * 4}, "mean must be 4 finite numbers, found 3"),
        ({"mean": [0.0] * 4, "std": [1.0, 1.0, 0.0, 1.0]}, "std must be above 0 in every channel"),
        ({"mean": ["a"] * 4, "std": [1.0] * 4}, "mean must be 4 numbers; it is missing, or none"),
        ({"mean": [float("nan")] * 4, "std": [1.0] * 4}, "mean must be 4 finite numbers"),
    ],
)
def test_statistics_that_are_none_are_refused(published, tmp_path, tables, message) -> None:
    (tmp_path / "stats.json").write_text(json.dumps(tables))
    with pytest.raises(ValueError, match=message):
        tokenizer_of(published[0], tmp_path / "stats.json").spec((16, 16, 3))


def test_pickles_are_refused_with_the_way_to_convert_them(published, tmp_path) -> None:
    for name in ("vavae.pt", "stats.pt"):
        torch.save({"mean": torch.zeros(4)}, tmp_path / name)
    with pytest.raises(ValueError, match=r"genmem checkpoint convert \S+vavae.pt \S+vavae.safetensors"):
        tokenizer_of(tmp_path / "vavae.pt").spec((16, 16, 3))
    with pytest.raises(ValueError, match=r"genmem checkpoint convert \S+stats.pt \S+stats.safetensors"):
        tokenizer_of(published[0], tmp_path / "stats.pt").spec((16, 16, 3))


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    save_kl(tmp_path)
    assert "encoder.conv_in.weight" in load_file(tmp_path / KL_FILE)
    with pytest.raises(ValueError, match=r"not the weights of this AutoencoderKL: lacks .* more; .* differs"):
        tokenizer_of(tmp_path / KL_FILE).encode(GIVEN)
    with pytest.raises(ValueError, match="path must name the file"):
        VaVaeConfig(path="", latents_stats=None)


def test_it_keeps_the_contract(published) -> None:
    testing.check_tokenizer(VaVaeConfig(path=str(published[0]), latents_stats=None, **SMALL))


def test_f16d32_is_the_default(published) -> None:
    config = VaVaeConfig(path=str(published[0]), latents_stats=None)
    assert config.build().spec((256, 256, 3)).shape == (32, 16, 16)
