"""Inception's weights: a file on this machine, or torch-fidelity's published one where asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from genmem.data.files import hash_file
from genmem.exchange.files import read_weights
from genmem.scoring.fidelity import fidelity
from genmem.weights import hash_tensors
from genmem_vision import InceptionConfig
from genmem_vision.inception_network import WIDTH


class InceptionWeights:
    """Read when they are first needed; nothing in the file is run."""

    width = WIDTH

    def __init__(self, config: InceptionConfig) -> None:
        """Nothing is read yet."""
        self._config = config

    @cached_property
    def path(self) -> Path:
        """The file.

        Raises:
            ConnectionError: It is to be fetched, and cannot be.
        """
        return Path(self._config.weights) if self._config.weights else _fetch()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Under the network's names; the auxiliary classifier of the training is left out.

        Raises:
            FileNotFoundError: No such file.
            ValueError: It is damaged, holds code, or is another than `sha256` says.
        """
        found = read_weights(self.path).average
        asked = self._config.sha256
        if asked and asked not in (hash_file(self.path), hash_tensors(found)):
            raise ValueError(
                f"{self.path}: sha256 of the file is {hash_file(self.path)}, of its tensors "
                f"{hash_tensors(found)}; sha256 = {asked!r} is neither"
            )
        return found

    @cached_property
    def sha256(self) -> str:
        """Hash of the tensors: the same for the published file and for a safetensors file of it."""
        return hash_tensors(self.tensors)


def _fetch() -> Path:
    """torch-fidelity's published file, in torch's own cache; compared with the hash in its name."""
    url: str = fidelity("feature_extractor_inceptionv3").URL_INCEPTION_V3
    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), Path(name).stem.rpartition("-")[2], progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise ConnectionError(
            f"{name} cannot be fetched ({type(error).__name__}: {error}); where there is no network, copy "
            'it to this machine and set weights = "FILE"'
        ) from error
    return path
