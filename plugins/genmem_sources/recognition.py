"""Which kind of source a path looks like, by its name and by the names in it."""

from __future__ import annotations

import os
from pathlib import Path

_ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2", ".zip")


def kind_of(path: Path) -> str:
    """The name of a source; empty where the path looks like none.

    A file whose name ends like an archive is an image-archive, or cifar10 if it is called like CIFAR's
    binary one. A folder is repa-latents if it has vae-sd/dataset.json, cifar10 if it has
    data_batch_1.bin, latent-safetensors or webdataset if it has such files, and else an image-folder.
    """
    name = path.name.lower()
    if path.is_file() and name.endswith(_ARCHIVES):
        return "cifar10" if name.startswith("cifar-10-binary.") else "image-archive"
    return _kind_of_folder(path) if path.is_dir() else ""


def _kind_of_folder(path: Path) -> str:
    if (path / "vae-sd" / "dataset.json").is_file():
        return "repa-latents"
    if (path / "data_batch_1.bin").is_file() or (path / "cifar-10-batches-bin").is_dir():
        return "cifar10"
    suffixes = {Path(name).suffix for name in _some_names(path)}
    if ".safetensors" in suffixes:
        return "latent-safetensors"
    if ".tar" in suffixes:
        return "webdataset"
    return "image-folder"


def _some_names(path: Path) -> list[str]:
    """Names in the folder and in its train/."""
    folders = [folder for folder in (path, path / "train") if folder.is_dir()]
    return [name for folder in folders for name in os.listdir(folder)]
