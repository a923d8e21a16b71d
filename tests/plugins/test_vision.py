"""timm and clip against the libraries' own networks in float64."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from published_models import change_bit, pictures, save_clip, save_timm
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from genmem import extras, testing, weights
from genmem.contracts import OnDevice
from genmem.extras import MissingExtra, import_extra
from genmem_vision import ClipConfig, TimmConfig, timm_network
from genmem_vision.clip_network import MEAN, STD
from genmem_vision.timm_network import TimmNetwork

GIVEN = pictures(5, 48)
SIZE = 64


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A class token, and a last norm over all tokens, as DINOv2 has them."""
    file = tmp_path_factory.mktemp("vit") / "model.safetensors"
    return file, save_timm(file, "test_vit", SIZE).double()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    return folder, save_clip(folder).double()


def prepare(given: np.ndarray, side: int, mean: tuple, std: tuple, antialias: bool = False) -> Tensor:
    """REPA's order: normalise, then resize."""
    x = torch.from_numpy(given.transpose(0, 3, 1, 2).astype(np.float64) / 255).expand(-1, 3, -1, -1)
    x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    return functional.interpolate(x, (side, side), mode="bicubic", antialias=antialias)


def half(value: float) -> tuple[float, float, float]:
    return (value,) * 3


# timm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(48, 48), (80, 96), (SIZE, SIZE)])
def test_timm_is_the_network_on_prepared_pictures(vit, shape, antialias) -> None:
    file, network = vit
    given = pictures(3, 96)[:, : shape[0], : shape[1]]
    encoder = TimmConfig(
        name="test_vit", weights=str(file), size=SIZE, tokens=True, antialias=antialias
    ).build()
    tokens = network.forward_features(prepare(given, SIZE, half(0.5), half(0.5), antialias)).detach()
    encoded = encoder.encode(given)
    assert encoder.width == 64 and encoded.tokens_BLD.shape == (3, 16, 64)
    assert encoded.pooled_BD.dtype == encoded.tokens_BLD.dtype == np.float32
    np.testing.assert_allclose(encoded.pooled_BD, tokens[:, 0], atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(encoded.tokens_BLD, tokens[:, 1:], atol=2e-5, rtol=2e-5)


def test_the_mean_is_over_patches_and_tokens_only_where_asked(vit) -> None:
    file, network = vit
    encoder = TimmConfig(name="test_vit", weights=str(file), size=SIZE, pooled="mean").build()
    tokens = network.forward_features(prepare(GIVEN, SIZE, half(0.5), half(0.5))).detach()
    encoded = encoder.encode(GIVEN)
    np.testing.assert_allclose(encoded.pooled_BD, tokens[:, 1:].mean(1), atol=2e-5, rtol=2e-5)
    assert encoded.tokens_BLD is None


def test_registers_are_no_patches_and_the_norm_behind_the_mean_is_kept(tmp_path) -> None:
    """This network has a register in place of a class token, and its last norm after pooling."""
    network = save_timm(tmp_path / "w.safetensors", "test_vit2", SIZE).double()
    settings = {"name": "test_vit2", "weights": str(tmp_path / "w.safetensors"), "size": SIZE}
    encoded = TimmConfig(**settings, pooled="mean", tokens=True).build().encode(GIVEN)
    tokens = network.forward_features(prepare(GIVEN, SIZE, half(0.5), half(0.5))).detach()
    assert tokens.shape[1] == 17 and encoded.tokens_BLD.shape == (5, 16, 64)
    np.testing.assert_allclose(encoded.tokens_BLD, tokens[:, 1:], atol=2e-5, rtol=2e-5)
    mean = functional.layer_norm(
        tokens[:, 1:].mean(1), (64,), network.fc_norm.weight, network.fc_norm.bias, network.fc_norm.eps
    )
    np.testing.assert_allclose(encoded.pooled_BD, mean.detach(), atol=2e-5, rtol=2e-5)
    with pytest.raises(ValueError, match='test_vit2 has no class token; set pooled = "mean"'):
        TimmConfig(**settings).build().encode(GIVEN)


@pytest.mark.parametrize("side", [32, 96])
def test_positions_are_resampled_to_the_grid_asked_for(vit, side) -> None:
    """Bicubic, smoothed, in fp32, without the class token's: what REPA does to DINOv2."""
    file, _ = vit
    encoder = TimmConfig(name="test_vit", weights=str(file), size=side, tokens=True).build()
    own = load_file(file)
    prefix, grid = own["pos_embed"][:, :1], own["pos_embed"][:, 1:].view(1, 4, 4, 64).permute(0, 3, 1, 2)
    count = side // 16
    grid = functional.interpolate(grid, (count, count), mode="bicubic", antialias=True)
    own["pos_embed"] = torch.cat([prefix, grid.permute(0, 2, 3, 1).reshape(1, -1, 64)], 1)
    network = import_extra("timm", "models").create_model("test_vit", img_size=side)
    network.load_state_dict(own)
    x = prepare(GIVEN, side, half(0.5), half(0.5))
    tokens = network.double().eval().forward_features(x).detach()
    np.testing.assert_allclose(encoder.encode(GIVEN).tokens_BLD, tokens[:, 1:], atol=2e-5, rtol=2e-5)


def test_dinov2_at_224_has_a_token_for_each_of_repas(monkeypatch, vit) -> None:
    """ImageNet's mean and deviation, and 16 x 16 patches; as it is published, but of no weights."""
    monkeypatch.setattr(timm_network, "read_tensors", lambda file: {})
    monkeypatch.setattr(timm_network, "fill_network", lambda network, tensors, file: None)
    with torch.device("meta"):
        found = TimmNetwork(TimmConfig(name="vit_base_patch14_dinov2.lvd142m", weights=str(vit[0])))
        assert found.preparation == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False)
        pooled_BD, tokens_BLD = found.features(torch.zeros(2, 3, 224, 224))
    assert pooled_BD.shape == (2, 768) == (2, found.width) and tokens_BLD.shape == (2, 256, 768)


def test_dinov2_as_its_authors_keep_it(vit, tmp_path) -> None:
    """With a token for masked patches, which is no part of the network here."""
    save_file(load_file(vit[0]) | {"mask_token": torch.zeros(1, 64)}, tmp_path / "w.safetensors")
    both = [
        TimmConfig(name="test_vit", weights=str(f), size=SIZE) for f in (vit[0], tmp_path / "w.safetensors")
    ]
    assert np.array_equal(*(config.build().encode(GIVEN).pooled_BD for config in both))


# clip ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [GIVEN, GIVEN[:, :32, :32], GIVEN[..., :1]], ids=["48", "32", "grey"])
def test_clip_is_the_network_on_prepared_pictures(clip, given) -> None:
    folder, network = clip
    encoder = ClipConfig(path=str(folder), tokens=True).build()
    seen = network.vision_model(pixel_values=prepare(given, 32, MEAN, STD))
    encoded = encoder.encode(given)
    assert encoder.width == 12 and encoded.tokens_BLD.shape == (5, 16, 16)
    projected = network.visual_projection(seen.pooler_output).detach()
    np.testing.assert_allclose(encoded.pooled_BD, projected, atol=2e-5, rtol=2e-5)
    tokens = seen.last_hidden_state[:, 1:].detach()
    np.testing.assert_allclose(encoded.tokens_BLD, tokens, atol=2e-5, rtol=2e-5)


def test_the_half_that_reads_is_no_part_of_clips_hash(clip, tmp_path) -> None:
    folder, network = clip
    state = {name: value.float().contiguous() for name, value in network.state_dict().items()}
    seen = {k: v for k, v in state.items() if k.startswith(("vision_model.", "visual_projection."))}
    assert len(seen) < len(state)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    # Older files keep the numbers of the positions beside the weights.
    save_file(
        seen | {"vision_model.embeddings.position_ids": torch.arange(17)[None]},
        tmp_path / "model.safetensors",
    )
    whole, part = (ClipConfig(path=str(place)).build() for place in (folder, tmp_path))
    assert np.array_equal(whole.encode(GIVEN).pooled_BD, part.encode(GIVEN).pooled_BD)
    part.load_state(whole.state())
    change_bit(tmp_path / "model.safetensors", "visual_projection.weight")
    with pytest.raises(ValueError, match=r"made by weights of sha256 \w{64}, these are \w{64}"):
        ClipConfig(path=str(tmp_path)).build().load_state(whole.state())


# what both share -------------------------------------------------------------------------------


@pytest.fixture(params=["timm", "clip"])
def config(request, vit, clip):
    if request.param == "timm":
        return TimmConfig(name="test_vit", weights=str(vit[0]), size=SIZE, tokens=True)
    return ClipConfig(path=str(clip[0]), tokens=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_keeps_the_contract(config, channels) -> None:
    testing.check_encoder(config, channels=channels)
    assert isinstance(config.build(), OnDevice) and not type(config).learns


def test_batches_change_nothing_and_twice_is_the_same(config) -> None:
    whole = config.build().encode(GIVEN)
    again = config.build().encode(GIVEN)
    parts = attrs.evolve(config, batch=2).build().encode(GIVEN)
    for a, b, c in zip(whole, again, parts, strict=True):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-5, rtol=1e-4)


def test_bfloat16_is_near_and_another_thing(config) -> None:
    fine, coarse = config.build(), attrs.evolve(config, precision="bf16").build()
    exact, rough = fine.encode(GIVEN).pooled_BD, coarse.encode(GIVEN).pooled_BD
    assert rough.dtype == np.float32 and not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.1 * np.abs(exact).max())
    assert attrs.evolve(config, precision="bf16") != config == attrs.evolve(config, batch=3)


def test_a_state_is_a_hash_and_not_the_weights(config) -> None:
    state = config.build().state()
    assert {name: (value.dtype, value.shape) for name, value in state.items()} == {
        "sha256": (np.dtype(np.uint8), (32,))
    }


def test_what_is_no_picture_is_refused(config) -> None:
    for given in (GIVEN.astype(np.float32), GIVEN[0], np.zeros((2, 48, 48, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8 pictures"):
            config.build().encode(given)


def test_it_computes_where_it_is_put(config) -> None:
    encoder = config.build()
    encoder.to(torch.device("meta"))
    with pytest.raises((NotImplementedError, RuntimeError)):
        encoder.encode(GIVEN)


def test_a_missing_library_is_named_with_the_command(config, monkeypatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    assert config.build().state()
    with pytest.raises(MissingExtra, match=r"t\w+ is not installed; .* pip install 'genmem\[models\]'"):
        config.build().encode(GIVEN)


@pytest.mark.parametrize(
    ("config", "repository"),
    [
        (TimmConfig(name="test_vit.r160_in1k", pretrained=True, size=SIZE), "timm/test_vit.r160_in1k"),
        (ClipConfig(hub="somebody/clip"), "somebody/clip"),
    ],
)
def test_without_a_file_the_hub_is_asked(config, repository, vit, clip, monkeypatch) -> None:
    asked = set()

    def fetch(found: str, name: str) -> Path:
        asked.add(found)
        return vit[0] if isinstance(config, TimmConfig) else clip[0] / name

    monkeypatch.setattr(weights, "fetch_file", fetch)
    config.build().encode(GIVEN)
    assert asked == {repository}


# what timm refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "test_vot"}, "no network 'test_vot', did you mean 'test_vit'"),
        ({"name": "test_vit.nothing"}, "no tag 'test_vit.nothing'; there are test_vit.r160_in1k"),
        ({"name": "test_resnet"}, "test_resnet takes no img_size|is a ResNet, expected a vision transformer"),
        ({"name": "flexivit_small"}, "resamples its positions by a rule of its own"),
        ({"size": 60}, "size = 60 is not whole patches of 16; take 48 or 64"),
        ({"size": 9}, "size = 9 is not whole patches of 16; take 16$"),
    ],
)
def test_networks_that_cannot_be_are_refused(vit, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        TimmConfig(**({"name": "test_vit", "weights": str(vit[0])} | settings)).build().encode(GIVEN)


@pytest.mark.parametrize("settings", [{}, {"weights": "a", "pretrained": True}])
def test_weights_come_from_one_place(settings) -> None:
    with pytest.raises(ValueError, match=r"give weights = .* or pretrained = true"):
        TimmConfig(name="test_vit", **settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("norm.weight"), "lacks norm.weight"),
        (lambda w: w.update(extra=torch.zeros(2)), "has besides extra"),
        (lambda w: w.update({"norm.weight": torch.zeros(3)}), r"norm.weight is \(3,\), expected \(64,\)"),
    ],
)
def test_weights_of_another_network_are_refused(vit, tmp_path, change, message) -> None:
    tensors = load_file(vit[0])
    change(tensors)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=message):
        TimmConfig(name="test_vit", weights=str(tmp_path / "w.safetensors"), size=SIZE).build().encode(GIVEN)


def test_a_bare_config_is_refused_by_clip(clip, tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="lacks hidden_size or projection_dim"):
        ClipConfig(path=str(tmp_path)).build().encode(GIVEN)
