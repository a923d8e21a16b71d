"""Tiny folders, archives and shards for the tests of sources."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

CLASSES = ("cat", "dog", "eel")


def pixels(number: int, height: int = 8, width: int = 8) -> np.ndarray:
    """A picture (H, W, 3) that its number names."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encode(picture: np.ndarray | Image.Image, form: str = "PNG", **settings: Any) -> bytes:
    """A picture as a file."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    stream = io.BytesIO()
    image.save(stream, form, **settings)
    return stream.getvalue()


def picture_files(per_class: int = 4, before: str = "", first: int = 0) -> dict[str, bytes]:
    """{CLASS/NAME.png: bytes}, numbered through."""
    names = [f"{before}{name}/{i}.png" for name in CLASSES for i in range(per_class)]
    return {name: encode(pixels(first + number)) for number, name in enumerate(names)}


def split_files() -> dict[str, bytes]:
    """Four of each class to train on, two to test."""
    return picture_files(4, "train/") | picture_files(2, "test/", 100)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files, as files."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    """The files, as a tar, in the order given."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar; compressed by xz where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = tar_bytes(files)
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_cifar(folder: Path, per_file: int = 4) -> np.ndarray:
    """CIFAR-10's six files with few records; returns them all, (N, 3073)."""
    folder.mkdir(parents=True, exist_ok=True)
    records = np.random.default_rng(3).integers(0, 256, (6 * per_file, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(len(records)) % 10
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for i, name in enumerate(names):
        (folder / name).write_bytes(records[i * per_file : (i + 1) * per_file].tobytes())
    return records


def write_repa(folder: Path, count: int = 12, side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """REPA's layout with pictures; returns moments (N, 8, H, W) and labels (N,)."""
    rng = np.random.default_rng(5)
    moments = rng.normal(size=(count, 8, side, side)).astype(np.float32)
    moments[:, 4:] = np.abs(moments[:, 4:]) * 0.1
    labels = np.arange(count) % 3
    listed: dict[str, list[list[Any]]] = {"vae-sd": [], "images": []}
    for i in range(count):
        latent, image = f"00000/img-mean-std-{i:08d}.npy", f"00000/img{i:08d}.png"
        (folder / "vae-sd" / latent).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "vae-sd" / latent, moments[i])
        write_folder(folder / "images", {image: encode(pixels(i, 8 * side, 8 * side))})
        listed["vae-sd"].append([latent, int(labels[i])])
        listed["images"].append([image, int(labels[i])])
    for name, entries in listed.items():
        (folder / name / "dataset.json").write_text(json.dumps({"labels": entries}))
    return moments, labels


def write_latents(folder: Path, counts: tuple[int, ...] = (7, 5), **changes: Any) -> dict[str, np.ndarray]:
    """LightningDiT's shards with GMem's class tokens; returns every tensor, shards joined."""
    folder.mkdir(parents=True, exist_ok=True)
    total, rng = sum(counts), np.random.default_rng(6)
    tensors: dict[str, np.ndarray] = {
        "latents": rng.normal(size=(total, 4, 2, 2)).astype(np.float32),
        "latents_flip": rng.normal(size=(total, 4, 2, 2)).astype(np.float32),
        "cls_tokens": rng.normal(size=(total, 6)).astype(np.float32),
        "cls_tokens_flip": rng.normal(size=(total, 6)).astype(np.float32),
        "labels": np.arange(total) % 3,
    }
    tensors = {name: value for name, value in (tensors | changes).items() if value is not None}
    first = 0
    for i, count in enumerate(counts):
        part = {name: np.ascontiguousarray(value[first : first + count]) for name, value in tensors.items()}
        save_file(part, folder / f"latents_rank00_shard{i:03d}.safetensors")
        first += count
    return tensors
