"""What a word on the command line is: a run, a folder, an .npz, shards, a prepared split."""

from __future__ import annotations

from pathlib import Path

from genmem.data.dataset import SPLITS
from genmem.data.format.manifest import MANIFEST
from genmem.data.peeking import open_with_tokenizer
from genmem.scoring.sets.archives import Archive, ArchivePictures
from genmem.scoring.sets.files import open_folder, open_shards
from genmem.scoring.sets.pictures import PictureSet
from genmem.scoring.sets.prepared import SplitPictures

RECIPE = "recipe.toml"


def is_run(path: Path) -> bool:
    """Whether this is the folder of a run."""
    return (path / RECIPE).is_file()


def open_pictures(path: Path, plugins: tuple[Path, ...] = ()) -> PictureSet:
    """The pictures at `path`.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: It holds no pictures, or they cannot be scored; what was found is named.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.suffix == ".npz":
        return ArchivePictures(Archive(path))
    if path.suffix == ".tar":
        return open_shards(path, [path])
    if not path.is_dir():
        raise ValueError(f"{path}: a folder, an .npz file or tar shards are expected")
    return _open_folder(path, plugins)


def _open_folder(path: Path, plugins: tuple[Path, ...]) -> PictureSet:
    if (path / MANIFEST).is_file():
        for split in SPLITS:
            if path.name == split and (path.parent / split / MANIFEST).is_file():
                dataset, tokenizer = open_with_tokenizer(str(path.parent), plugins=plugins)
                return SplitPictures(dataset, split, tokenizer)
        raise ValueError(f"{path}: a split of a prepared set is called {' or '.join(SPLITS)}")
    if any((path / split / MANIFEST).is_file() for split in SPLITS):
        names = " or ".join(str(path / split) for split in SPLITS)
        raise ValueError(f"{path}: a prepared set; name one of its splits: {names}")
    if is_run(path):
        raise ValueError(f"{path}: a run, not a set of pictures; genmem sample {path} makes one")
    tars = sorted(path.glob("*.tar"))
    return open_shards(path, tars) if tars else open_folder(path)
