"""Inception against torch-fidelity's own extractor, with random weights of the published form."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from published_models import pictures
from safetensors.torch import save_file

from genmem import testing
from genmem.contracts import ManyOutputs, OnDevice
from genmem.data.files import hash_file
from genmem.scoring.fidelity import fidelity
from genmem.weights import hash_tensors
from genmem_vision import InceptionConfig, inception_weights
from genmem_vision.inception_network import Inception

GIVEN = pictures(3, 48)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The state dict in a pickle, as torch-fidelity publishes it."""
    torch.manual_seed(0)
    network = Inception()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.add_(0.1 * torch.randn_like(value))
            elif name.endswith("conv.weight"):
                value.mul_(6**0.5)  # He's variance: torch's own lets pictures fade from layer to layer
    file = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def found(weights):
    return (
        InceptionConfig(weights=str(weights)).build().encode_outputs(GIVEN, ("pooled", "logits", "spatial"))
    )


def test_it_is_torch_fidelitys_network(weights, found) -> None:
    extractor = fidelity("feature_extractor_inceptionv3").FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights)
    )
    maps = []
    extractor.Mixed_6d.branch1x1.register_forward_hook(lambda *call: maps.append(call[2]))
    with torch.no_grad():
        features = dict(
            zip(extractor.features_list, extractor(torch.from_numpy(GIVEN).permute(0, 3, 1, 2)), strict=True)
        )
    for name, expected in (("pooled", features["2048"]), ("logits", features["logits_unbiased"])):
        assert found[name].dtype == np.float32 and found[name].std(0).mean() > 1e-2
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    # What ADM calls mixed_6/conv: the first branch of the block, its first 7 channels, 17 × 17 places.
    expected = maps[0][:, :7].permute(0, 2, 3, 1).reshape(3, 17 * 17 * 7)
    np.testing.assert_allclose(found["spatial"], expected, rtol=1e-4, atol=1e-5)


def test_it_keeps_the_contract(weights) -> None:
    config = InceptionConfig(weights=str(weights), batch=2)
    testing.check_encoder(config, channels=1, count=2)
    assert isinstance(config.build(), OnDevice) and isinstance(config.build(), ManyOutputs)
    assert not type(config).learns and config == attrs.evolve(config, batch=7, weights="elsewhere")


def test_a_safetensors_file_of_the_same_weights_has_the_same_hash(weights, tmp_path, found) -> None:
    tensors = torch.load(weights, weights_only=True)
    save_file(tensors, tmp_path / "w.safetensors")
    configs = [
        InceptionConfig(weights=str(weights), sha256=hash_file(weights)),
        InceptionConfig(weights=str(tmp_path / "w.safetensors"), sha256=hash_tensors(tensors)),
    ]
    first, second = (config.build() for config in configs)
    second.load_state(first.state())
    grey = np.repeat(GIVEN[:1, ..., :1], 3, 3)
    assert np.array_equal(second.encode(grey).pooled_BD, first.encode(grey[..., :1]).pooled_BD)


def test_other_weights_are_refused(weights, tmp_path) -> None:
    wrong = InceptionConfig(weights=str(weights), sha256="0" * 64).build()
    with pytest.raises(ValueError, match=rf"sha256 of the file is {hash_file(weights)}, .* is neither"):
        wrong.encode(GIVEN)
    tensors = torch.load(weights, weights_only=True)
    torch.save({k: v for k, v in tensors.items() if k != "fc.weight"}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w.pth: not the weights of this Inception: lacks fc.weight"):
        InceptionConfig(weights=str(tmp_path / "w.pth")).build().encode(GIVEN)
    torch.save({"fc.weight": Exception}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match="might run code, so it was not read"):
        InceptionConfig(weights=str(tmp_path / "code.pth")).build().encode(GIVEN)
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file"):
        InceptionConfig(weights=str(tmp_path / "nothing.pth")).build().encode(GIVEN)


def test_what_is_no_picture_is_refused(weights) -> None:
    for given in (GIVEN.astype(np.float32) / 255, GIVEN[0], np.zeros((2, 48, 48, 4), np.uint8)):
        with pytest.raises(ValueError, match="inception: expected uint8 pictures"):
            InceptionConfig(weights=str(weights)).build().encode(given)


def test_weights_are_fetched_only_where_asked_for(weights, tmp_path, monkeypatch) -> None:
    for settings in ({}, {"weights": "a", "pretrained": True}):
        with pytest.raises(ValueError, match=r"give weights = .* or pretrained = true"):
            InceptionConfig(**settings)
    asked = []

    def refuse(url: str, to: str, prefix: str, progress: bool) -> None:
        asked.append((url.rpartition("/")[2], prefix))
        raise OSError("no network")

    monkeypatch.setattr(inception_weights.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception_weights.torch.hub, "download_url_to_file", refuse)
    encoder = InceptionConfig(pretrained=True).build()
    assert encoder.width == 2048 and not asked
    with pytest.raises(ConnectionError, match=r"cannot be fetched \(OSError: no network\); .* weights = "):
        encoder.encode(GIVEN)
    assert asked == [("weights-inception-2015-12-05-6726825d.pth", "6726825d")]
    # Once it is there it is not asked for again.
    (tmp_path / "checkpoints" / asked[0][0]).write_bytes(weights.read_bytes())
    assert InceptionConfig(pretrained=True).build().encode(GIVEN[:1]).pooled_BD.shape == (1, 2048)
