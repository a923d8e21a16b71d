"""sd-vae and dc-ae against diffusers' own networks in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from published_models import KL_FILE, change_bit, pictures, save_dc, save_kl
from safetensors.torch import load_file, save_file

from genmem import extras, testing, weights
from genmem.contracts import OnDevice, TokenizerConfig
from genmem.extras import MissingExtra
from genmem_diffusers import DcAeConfig, SdVaeConfig

GIVEN = pictures(5, 16)
WIDE = pictures(3, 24)[:, :16]


def as_float64(given: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(given.transpose(0, 3, 1, 2).astype(np.float64) / 127.5 - 1)


@pytest.fixture(scope="module")
def kl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kl")
    return folder, save_kl(folder).double()


@pytest.fixture(scope="module")
def dc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dc")
    return folder, save_dc(folder).double()


def decode_exactly(network, z: torch.Tensor) -> np.ndarray:
    grey = (network.decode(z.double()).sample.clamp(-1, 1) + 1) * 127.5
    return grey.permute(0, 2, 3, 1).detach().numpy()


def assert_rounds_to(found: np.ndarray, exact: np.ndarray) -> None:
    """The nearest grey, unless it is a matter of float32's rounding."""
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    assert found.dtype == np.uint8 and found.shape == exact.shape and clear.mean() > 0.98
    assert np.array_equal(found[clear], exact.round()[clear])


# what is stored --------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [GIVEN, WIDE], ids=["square", "wide"])
def test_moments_are_the_posteriors(kl, given) -> None:
    folder, network = kl
    tokenizer = SdVaeConfig(path=str(folder)).build()
    posterior = network.encode(as_float64(given)).latent_dist
    spec, stored = tokenizer.spec(given.shape[1:]), tokenizer.encode(given)
    assert spec.moments and spec.shape == (4, given.shape[1] // 2, given.shape[2] // 2)
    assert stored.dtype == np.float32 == np.dtype(spec.dtype) and stored.flags.c_contiguous
    np.testing.assert_allclose(stored[:, :4], posterior.mean.detach(), atol=2e-6, rtol=2e-5)
    np.testing.assert_allclose(stored[:, 4:], posterior.std.detach(), atol=2e-6, rtol=2e-5)
    assert stored[:, 4:].min() > 0


def test_the_mean_alone_is_the_first_half_of_the_moments(kl) -> None:
    both, mean = (SdVaeConfig(path=str(kl[0]), moments=m).build() for m in (True, False))
    assert not mean.spec(GIVEN.shape[1:]).moments
    assert np.array_equal(mean.encode(GIVEN), both.encode(GIVEN)[:, :4])


def test_dc_ae_is_its_encoder(dc) -> None:
    folder, network = dc
    tokenizer = DcAeConfig(path=str(folder)).build()
    spec, stored = tokenizer.spec(GIVEN.shape[1:]), tokenizer.encode(GIVEN)
    assert (spec.tokenizer, spec.shape, spec.scale, spec.shift) == ("dc-ae", (8, 8, 8), (0.4,), (0.0,))
    assert not spec.moments
    latent = network.encode(as_float64(GIVEN)).latent.detach()
    np.testing.assert_allclose(stored, latent, atol=5e-6, rtol=5e-5)


@pytest.mark.parametrize("config", [SdVaeConfig, DcAeConfig])
def test_batches_change_nothing_and_twice_is_the_same(config, kl, dc) -> None:
    folder = str(kl[0] if config is SdVaeConfig else dc[0])
    whole = config(path=folder).build()
    stored = whole.encode(GIVEN)
    x = torch.from_numpy(stored[:, : whole.spec(GIVEN.shape[1:]).shape[0]])
    decoded = whole.decode(x)
    assert np.array_equal(whole.encode(GIVEN), stored)
    assert np.array_equal(config(path=folder).build().encode(GIVEN), stored)
    for batch in (1, 2):
        parts = config(path=folder, batch=batch).build()
        np.testing.assert_allclose(parts.encode(GIVEN), stored, atol=2e-6, rtol=2e-5)
        gap = np.abs(parts.decode(x).astype(int) - decoded.astype(int))
        assert parts.decode(x).shape == decoded.shape and gap.max() <= 1 and gap.mean() < 0.01


def test_bfloat16_is_near_and_another_thing(kl) -> None:
    fine, coarse = (SdVaeConfig(path=str(kl[0]), precision=p).build() for p in ("fp32", "bf16"))
    exact, rough = fine.encode(GIVEN), coarse.encode(GIVEN)
    assert rough.dtype == np.float32 and not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.1)
    assert SdVaeConfig(precision="bf16") != SdVaeConfig()


# scale and shift -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "changes", "scale", "shift"),
    [
        ({}, {}, 0.18215, 0.0),
        ({"scaling_factor": 1.5305, "shift_factor": 0.0609}, {}, 1.5305, -0.0609 * 1.5305),
        ({"scaling_factor": 2.0, "shift_factor": 0.5}, {"scale": 3.0}, 3.0, -1.5),
        ({"scaling_factor": 2.0, "shift_factor": 0.5}, {"scale": 3.0, "shift": 0.25}, 3.0, 0.25),
    ],
)
def test_scale_and_shift_are_those_of_the_settings(tmp_path, settings, changes, scale, shift) -> None:
    network = save_kl(tmp_path, **settings).double()
    tokenizer = SdVaeConfig(path=str(tmp_path), **changes).build()
    spec = tokenizer.spec((16, 16, 3))
    assert spec.scale == pytest.approx((scale,)) and spec.shift == pytest.approx((shift,), abs=1e-12)
    z = torch.from_numpy(tokenizer.encode(GIVEN)[:, :4]).double()
    if not changes:
        # diffusers' own words: (z - shift_factor) * scaling_factor
        x = (z - (network.config.shift_factor or 0)) * network.config.scaling_factor
    else:
        x = z * scale + shift
    assert_rounds_to(tokenizer.decode(x.float()), decode_exactly(network, z))


def test_statistics_of_channels_in_the_settings(tmp_path) -> None:
    mean, std = [0.5, -1.0, 0.0, 2.0], [1.0, 2.0, 0.5, 4.0]
    network = save_kl(tmp_path, latents_mean=mean, latents_std=std, scaling_factor=0.5).double()
    tokenizer = SdVaeConfig(path=str(tmp_path)).build()
    spec = tokenizer.spec((16, 16, 3))
    assert spec.scale == (0.5, 0.25, 1.0, 0.125) and spec.shift == (-0.25, 0.25, 0.0, -0.25)
    z = torch.from_numpy(tokenizer.encode(GIVEN)[:, :4]).double()
    x = (z - torch.tensor(mean).view(4, 1, 1)) / torch.tensor(std).view(4, 1, 1) * 0.5
    assert_rounds_to(tokenizer.decode(x.float()), decode_exactly(network, z))


def test_decoding_clamps(kl) -> None:
    folder, network = kl
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 30
    exact = decode_exactly(network, z)
    assert (exact == 0).any() and (exact == 255).any()
    assert_rounds_to(SdVaeConfig(path=str(folder), scale=1.0).build().decode(z), exact)


# the hash --------------------------------------------------------------------------------------


def test_the_hash_is_of_the_tensors(kl, tmp_path) -> None:
    other = save_kl(tmp_path / "same", seed=0)
    (tmp_path / "same" / KL_FILE).rename(tmp_path / "same" / "renamed.safetensors")
    assert other.config.latent_channels == 4

    def found(path: Path) -> str:
        return SdVaeConfig(path=str(path)).build().spec((16, 16, 3)).weights

    sha256 = found(kl[0])
    assert len(sha256) == 64 and found(tmp_path / "same") == sha256
    change_bit(tmp_path / "same" / "renamed.safetensors", "decoder.conv_out.weight")
    assert found(tmp_path / "same") != sha256
    # In half precision they are other weights.
    save_file(
        {k: v.half() for k, v in load_file(kl[0] / KL_FILE).items()}, tmp_path / "same/renamed.safetensors"
    )
    assert found(tmp_path / "same") != sha256


def test_a_spec_needs_neither_diffusers_nor_the_network(kl, monkeypatch) -> None:
    def refuse(name: str, extra: str) -> None:
        raise AssertionError(f"{name} was imported")

    monkeypatch.setattr("genmem_diffusers.autoencoder.import_extra", refuse)
    assert SdVaeConfig(path=str(kl[0])).build().spec((64, 32, 3)).shape == (4, 32, 16)


def test_where_the_weights_lie_is_no_part_of_what_a_tokenizer_is(kl) -> None:
    assert SdVaeConfig(path="here", batch=3) == SdVaeConfig(hub="there/vae")
    assert DcAeConfig(path="here") == DcAeConfig(path="there")
    assert SdVaeConfig(moments=False) != SdVaeConfig()


def test_names_of_older_diffusers_are_read(kl, tmp_path) -> None:
    folder, _ = kl
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(folder / KL_FILE).items():
        part = next((part for part in old if f".{part}." in name), "")
        tensors[name.replace(part, old[part]) if part else name] = value.contiguous()
    assert any(".query." in name for name in tensors)
    save_file(tensors, tmp_path / KL_FILE)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    tokenizers = [SdVaeConfig(path=str(place)).build() for place in (folder, tmp_path)]
    assert np.array_equal(*(tokenizer.encode(GIVEN) for tokenizer in tokenizers))
    assert tokenizers[0].spec((16, 16, 3)) == tokenizers[1].spec((16, 16, 3))


# what is refused -------------------------------------------------------------------------------


def ruin(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (GIVEN.astype(np.float32), r"sd-vae: expected uint8 pictures .* got float32 \(5, 16, 16, 3\)"),
        (GIVEN[0], r"got uint8 \(16, 16, 3\)"),
        (GIVEN[..., :1], "pictures of 1 channels, the network takes 3"),
        (GIVEN[:, :15], "pictures of 15 x 16; both sides must be multiples of 2"),
    ],
)
def test_what_is_no_picture_for_it_is_refused(kl, given, message) -> None:
    with pytest.raises(ValueError, match=message):
        SdVaeConfig(path=str(kl[0])).build().encode(given)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: ruin(f, _class_name="AutoencoderDC"), "is of AutoencoderDC, expected AutoencoderKL"),
        (lambda f: ruin(f, latent_channels=None), "config.json lacks latent_channels"),
        (lambda f: ruin(f, novelty=1), "config.json has novelty, which AutoencoderKL .* does not know"),
        (lambda f: ruin(f, latent_channels=6), r"differs: .* is \(8, 16, 3, 3\), expected \(12, 16, 3, 3\)"),
        (lambda f: ruin(f, layers_per_block=2), "lacks .*decoder.up_blocks.0.resnets.2.conv1.bias"),
        (lambda f: ruin(f, use_quant_conv=False), "has besides quant_conv.bias, quant_conv.weight"),
        (lambda f: ruin(f, latents_mean=[1.0]), "latents_mean must be 4 finite numbers, found 1"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json: expected a JSON object"),
        (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
        (lambda f: (f / KL_FILE).unlink(), "expected diffusion_pytorch_model.safetensors or .* found no"),
        (lambda f: (f / KL_FILE).write_bytes(b"\x08" + bytes(7) + b"{}{{{{{{{"), "damaged safetensors file"),
    ],
)
def test_what_is_no_such_autoencoder_is_refused(tmp_path, spoil: Callable[[Path], object], message) -> None:
    save_kl(tmp_path)
    spoil(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        tokenizer = SdVaeConfig(path=str(tmp_path)).build()
        tokenizer.spec((16, 16, 3))
        tokenizer.encode(GIVEN)


def test_several_files_without_a_known_name_are_refused(tmp_path) -> None:
    save_kl(tmp_path)
    (tmp_path / KL_FILE).rename(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"found a.safetensors, b.safetensors; name the file itself"):
        SdVaeConfig(path=str(tmp_path)).build().spec((16, 16, 3))
    assert SdVaeConfig(path=str(tmp_path / "b.safetensors")).build().spec((16, 16, 3)).weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "a", "hub": "b"}, "give path or hub, not both"),
        ({"scale": 0.0}, "scale must be finite and not 0"),
        ({"batch": 0}, "batch must be 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        SdVaeConfig(**settings)


# the hub, the contract -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "repository"),
    [
        (SdVaeConfig(), "stabilityai/sd-vae-ft-ema"),
        (SdVaeConfig(variant="mse"), "stabilityai/sd-vae-ft-mse"),
        (SdVaeConfig(hub="somebody/vae"), "somebody/vae"),
        (DcAeConfig(), "mit-han-lab/dc-ae-f32c32-in-1.0-diffusers"),
    ],
)
def test_without_a_path_the_hub_is_asked(monkeypatch, kl, dc, config: TokenizerConfig, repository) -> None:
    folder, asked = (dc if isinstance(config, DcAeConfig) else kl)[0], []

    def fetch(found: str, name: str) -> Path:
        asked.append((found, name))
        return folder / name

    monkeypatch.setattr(weights, "fetch_file", fetch)
    assert config.build().encode(GIVEN).shape[0] == 5
    assert set(asked) == {(repository, "config.json"), (repository, KL_FILE)}


@pytest.mark.parametrize("config", [SdVaeConfig, DcAeConfig])
def test_it_keeps_the_contract(config, kl, dc) -> None:
    path = str(kl[0] if config is SdVaeConfig else dc[0])
    testing.check_tokenizer(config(path=path))
    assert isinstance(config(path=path).build(), OnDevice)


@pytest.mark.parametrize(
    ("told", "given", "somewhere_else"),
    [(None, "cpu", False), (None, "meta", True), ("meta", "cpu", True), ("cpu", "cpu", False)],
)
def test_it_decodes_where_it_is_put_or_where_samples_lie(kl, told, given, somewhere_else) -> None:
    tokenizer = SdVaeConfig(path=str(kl[0])).build()
    if told:
        tokenizer.to(torch.device(told))
    # Nothing comes back from the device "meta".
    with pytest.raises(NotImplementedError, match="meta") if somewhere_else else nullcontext():
        assert tokenizer.decode(torch.zeros(1, 4, 8, 8, device=given)).shape == (1, 16, 16, 3)


def test_it_encodes_where_it_is_put(kl) -> None:
    tokenizer = SdVaeConfig(path=str(kl[0])).build()
    tokenizer.to(torch.device("meta"))
    with pytest.raises(NotImplementedError, match="meta"):
        tokenizer.encode(GIVEN)


def test_a_missing_library_is_named_with_the_command(kl, monkeypatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    tokenizer = SdVaeConfig(path=str(kl[0])).build()
    assert tokenizer.spec((16, 16, 3)).weights
    with pytest.raises(MissingExtra, match=r"diffusers is not installed; .* pip install 'genmem\[models\]'"):
        tokenizer.encode(GIVEN)
