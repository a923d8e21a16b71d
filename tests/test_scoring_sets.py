"""Sets of pictures against references: every kind of set, ranks, files, and what is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file
from set_ranks import WANTED, ThreeOutputs, measure_together, pictures

from genmem.cli import main
from genmem.scoring.measuring import Wanted, look, measure
from genmem.scoring.metrics.frechet import frechet
from genmem.scoring.moments import Moments
from genmem.scoring.sets.opening import open_pictures
from genmem.scoring.sets.pictures import ArrayPictures, ColouredPictures
from genmem.training.launch import spawn

PLUGIN = """
from typing import ClassVar
import attrs
from genmem import hookimpl
from genmem.contracts import EncoderConfig

@attrs.frozen(kw_only=True)
class ThreeConfig(EncoderConfig):
    "Three outputs."
    learns: ClassVar[bool] = False
    level: int = 1

    def build(self):
        from set_ranks import ThreeOutputs
        return ThreeOutputs()

@hookimpl
def genmem_encoders():
    return {"three": ThreeConfig}
"""


def save_folder(path: Path, given: np.ndarray) -> Path:
    """Half of them in a folder, half in one below."""
    for number, picture in enumerate(given):
        file = path / ("a" if number < len(given) // 2 else "b/c") / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.squeeze()).save(file)
    return path


def save_npz(path: Path, given: np.ndarray) -> Path:
    np.savez(path, arr_0=given)
    return path


def save_tar(path: Path, given: np.ndarray) -> Path:
    folder = save_folder(path.parent / "loose", given)
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.rglob("*.png")):
            tar.add(file, file.name)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Samples and real pictures in files, and a plugin with an encoder of three outputs."""
    monkeypatch.chdir(tmp_path)
    Path("three.py").write_text(PLUGIN)
    save_folder(Path("samples"), pictures(20))
    save_npz(Path("real.npz"), pictures(24, seed=1))
    return tmp_path


def run(*words: str) -> str:
    """The error that the command ends with, or what it prints."""
    result = CliRunner().invoke(main, ["evaluate", *words, "--plugin", "three.py"], catch_exceptions=True)
    return result.output if not result.exception else f"{result.exception} {result.output}"


def scores(*words: str) -> dict:
    return json.loads(run(*words, "--json"))


REAL = ("--reference", "real.npz")
THREE = ("--encoder", "three", "--device", "cpu")
SMALL = ("--kid-subset", "10", "--is-splits", "2")
ALL = "fid,sfid,kid,is,precision,recall,energy"


# what is measured ----------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [save_folder, save_npz, save_tar])
def test_every_kind_of_set_gives_the_same_pictures(tmp_path, save) -> None:
    given = pictures(21)
    path = save(tmp_path / {save_folder: "set", save_npz: "set.npz", save_tar: "set.tar"}[save], given)
    opened = open_pictures(path)
    assert len(opened) == 21 and opened.shape == (8, 8, 3)
    assert np.array_equal(opened.read(np.array([20, 3, 11])), given[[20, 3, 11]])
    found, expected = (
        measure(one, {"": (ThreeOutputs(), WANTED)})[""] for one in (opened, ArrayPictures(given))
    )
    assert found.sha256 == expected.sha256
    assert np.array_equal(found.rows["pooled"], expected.rows["pooled"])


def test_the_hash_sees_every_pixel_and_the_order() -> None:
    given = pictures(5)
    other = given.copy()
    other[4, 0, 0, 0] ^= 1
    found = [
        measure(ArrayPictures(one), {"": (ThreeOutputs(), Wanted())})[""].sha256
        for one in (given, other, given[::-1])
    ]
    assert len(set(found)) == 3


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_agree_with_numpy(tmp_path, world) -> None:
    given = pictures(29)
    features = ThreeOutputs().encode_outputs(given, ("pooled", "logits", "spatial"))
    spawn(measure_together, (tmp_path,), world)
    ranks = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(world)]
    for found in ranks:
        for name in ("pooled", "spatial"):
            x = features[name].astype(np.float64)
            np.testing.assert_allclose(found[f"mean/{name}"], x.mean(0), rtol=1e-12)
            np.testing.assert_allclose(found[f"covariance/{name}"], np.cov(x.T), rtol=1e-9, atol=1e-12)
        assert torch.equal(found["sha256"], ranks[0]["sha256"])
        torch.testing.assert_close(found["score"], ranks[0]["score"])
    assert np.array_equal(ranks[0]["rows"], features["pooled"])
    alone = measure(ArrayPictures(given), {"": (ThreeOutputs(), WANTED)})[""]
    for name, part in alone.moments.items():
        np.testing.assert_allclose(part.covariance(), ranks[0][f"covariance/{name}"], rtol=1e-9, atol=1e-12)
    assert bytes(ranks[0]["sha256"].tolist()).hex() == alone.sha256
    assert ranks[0]["score"].tolist() == pytest.approx(list(alone.splits.score()), rel=1e-6)


def test_an_encoder_must_keep_its_promise() -> None:
    class Liar(ThreeOutputs):
        def encode_outputs(self, pictures_BHWC, names):
            found = super().encode_outputs(pictures_BHWC, names)
            return {
                name: values[1:] if name == "spatial" else values[:, 1:] for name, values in found.items()
            }

    with pytest.raises(ValueError, match="pooled of Liar: features of width 3 where width 4"):
        look(Liar(), pictures(3), ("pooled",))
    with pytest.raises(ValueError, match="spatial of Liar: 2 rows for 3 pictures"):
        look(Liar(), pictures(3), ("spatial",))


def test_grey_beside_colours_is_three_equal_colours() -> None:
    grey = pictures(3, channels=1)
    coloured = ColouredPictures(ArrayPictures(grey))
    assert coloured.shape == (8, 8, 3)
    assert np.array_equal(coloured.read(np.array([2])), np.repeat(grey[2:], 3, 3))


# the command ---------------------------------------------------------------------------------------


def test_the_command_scores_files_and_keeps_a_reference(here) -> None:
    found = scores(
        "samples", "--reference", "real.npz", *THREE, *SMALL, "--metrics", ALL, "--save-reference", "r.npz"
    )
    x, y = (ThreeOutputs().encode(pictures(n, seed)).pooled_BD for n, seed in ((20, 0), (24, 1)))
    assert found["scores"]["fd"]["value"] == pytest.approx(frechet(Moments.of(x), Moments.of(y)), rel=1e-9)
    assert list(found["scores"]) == ["fd", "sfid", "kid", "is", "precision", "recall", "energy"]
    assert found["reference"] == {"name": "real.npz", "origin": "measured", "count": 24}
    digests = {name: one["protocol"] for name, one in found["scores"].items()}
    assert len(set(digests.values())) == 7 and set(digests.values()) == set(found["protocols"])
    # The file alone is as good as the pictures, and of the same protocol.
    again = scores("samples", "--reference", "r.npz", *THREE, *SMALL, "--metrics", ALL)
    assert again["scores"] == found["scores"]
    with np.load("r.npz") as file:
        np.testing.assert_allclose(file["mu"], y.mean(0), rtol=1e-6)
        np.testing.assert_allclose(file["sigma"], np.cov(y.T), rtol=1e-5)
        assert file["mu_s"].shape == (6,) and file["rows"].shape == (24, 4)
    # Another setting is another protocol; others keep theirs.
    other = scores("samples", "--reference", "r.npz", *THREE, "--kid-subset", "12", "--metrics", "fd,kid")
    assert other["scores"]["fd"]["protocol"] == digests["fd"]
    assert other["scores"]["kid"]["protocol"] != digests["kid"]


def test_statistics_of_adm_stand_beside_its_pictures(here) -> None:
    """FD by the statistics, of a larger set; precision and recall by the pictures."""
    y = ThreeOutputs().encode(pictures(60, seed=3)).pooled_BD.astype(np.float64)
    np.savez("adm.npz", arr_0=pictures(24, seed=1), mu=y.mean(0), sigma=np.cov(y.T))
    found = scores("samples", "--reference", "adm.npz", *THREE, "--metrics", "fid,precision")
    x = ThreeOutputs().encode(pictures(20)).pooled_BD
    assert found["scores"]["fd"]["value"] == pytest.approx(frechet(Moments.of(x), Moments.of(y)), rel=1e-9)
    plain = scores("samples", "--reference", "real.npz", *THREE, "--metrics", "precision")
    assert found["scores"]["precision"]["value"] == plain["scores"]["precision"]["value"]
    assert found["reference"] == {"name": "adm.npz", "origin": "custom", "count": None}
    assert "does not say whose features" in run(
        "samples", "--reference", "adm.npz", *THREE, "--metrics", "fid"
    )


def test_a_set_is_kept_as_a_reference(here) -> None:
    assert "reference kept in kept.npz" in run("real.npz", "--save-reference", "kept.npz", *THREE)
    found = scores("samples", "--reference", "kept.npz", *THREE, "--metrics", "fd")
    assert (
        found["scores"] == scores("samples", "--reference", "real.npz", *THREE, "--metrics", "fd")["scores"]
    )
    assert "nothing is overwritten" in run("real.npz", "--save-reference", "kept.npz", *THREE)


def change(name: str, **arrays: np.ndarray) -> None:
    with np.load("kept.npz") as file:
        np.savez(name, **{**{key: file[key] for key in file}, **arrays})


def test_statistics_that_do_not_fit_are_refused(here) -> None:
    run("real.npz", "--save-reference", "kept.npz", *THREE, "--metrics", "fd")
    eye = np.eye(4)
    against = lambda name, *more: run("samples", "--reference", name, *THREE, *(more or ("--metrics", "fid")))  # noqa: E731
    assert "statistics of other features" in against("kept.npz", "--encoder.level=2")
    change("changed.npz", mu=np.zeros(4))
    assert "changed since it was saved" in against("changed.npz")
    np.savez("wide.npz", mu=np.zeros(7), sigma=np.eye(7))
    assert "mu is (7,), the encoder gives 4 numbers" in against("wide.npz")
    np.savez("nan.npz", mu=np.zeros(4), sigma=eye * np.nan)
    assert "statistics are not finite" in against("nan.npz")
    np.savez("half.npz", mu=np.zeros(4))
    assert "has 'mu' but no 'sigma'" in against("half.npz")
    np.savez("whole.npz", mu=np.zeros(4, int), sigma=eye)
    assert "floating-point numbers are expected" in against("whole.npz")
    assert "was given as statistics (of " in against("kept.npz", "--metrics", "kid", *SMALL[:2])
    assert "has no 'spatial' statistics" in against("kept.npz", "--metrics", "sfid")
    save_npz(Path("large.npz"), pictures(20, size=16))
    assert "16 × 16, the reference real.npz is of 8 × 8" in run(
        "large.npz", "--reference", "kept.npz", *THREE
    )


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("float", {"arr_0": np.zeros((9, 8, 8, 3), np.float32)}, "arr_0 is float32, pictures are uint8"),
        ("flat", {"arr_0": np.zeros((9, 64), np.uint8)}, r"arr_0 is (9, 64), expected (N, H, W, 1 or 3)"),
        ("other", {"images": pictures(9)}, "has ['images'], no 'arr_0'"),
        ("objects", {"arr_0": np.array([{}], object)}, "holds Python objects, which are never unpickled"),
        ("one", {"arr_0": pictures(1)}, "fd: one.npz has 1 pictures, it needs 2 or more"),
        ("large", {"arr_0": pictures(9, size=16)}, "large.npz: pictures of 16 × 16, the reference"),
    ],
)
def test_archives_that_are_no_pictures_are_refused(here, name, given, message) -> None:
    np.savez(f"{name}.npz", **given)
    assert message in run(f"{name}.npz", "--reference", "real.npz", *THREE, "--metrics", "fd")


def test_files_that_are_no_pictures_are_refused(here) -> None:
    against = lambda name: run(name, "--reference", "real.npz", *THREE, "--metrics", "fd")  # noqa: E731
    Path("torn.npz").write_bytes(Path("real.npz").read_bytes()[:400])
    assert "no .npz file, or a damaged one" in against("torn.npz")
    Path("empty").mkdir()
    assert "no pictures in it or below it" in against("empty")
    assert "no such file or folder" in against("nowhere")
    Image.fromarray(pictures(1, size=9)[0]).save("samples/b/z.png")
    assert "9 × 9, the first picture of samples is 8 × 8" in against("samples")
    Path("samples/b/z.png").write_bytes(b"\x89PNG nothing")
    assert "no picture that can be scored" in against("samples")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save("samples/b/z.png")
    assert "pixels are 'RGBA'" in against("samples")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--metrics", "fod"), "no score 'fod', did you mean"),
        (("--metrics", "fd,fid"), "the score 'fd' is named twice"),
        (
            ("--metrics", "kid"),
            "kid: samples has 20 pictures, it needs 1,000 or more",
        ),
        (("--metrics", "is", "--is-splits", "21"), "is: samples has 20 pictures, it needs 21 or more"),
        (("--metrics", "fd", "--kid-subset", "5"), "--kid-subset goes with --metrics kid"),
        (("--samples", "5"), "--samples is for runs"),
        (("--sampler.steps=5",), "--sampler.steps=5 is for runs"),
        (("--encoder.nothing=5",), "nothing"),
        (("--budget", "5"), "do not go with --reference"),
    ],
)
def test_options_that_mean_nothing_are_refused(here, words, message) -> None:
    assert message in run("samples", "--reference", "real.npz", *THREE, *words)


def test_a_metric_that_the_encoder_cannot_serve_is_refused(here) -> None:
    words = ("--reference", "real.npz", "--encoder", "random-conv", "--metrics", "fd,is")
    assert "is needs 'logits' of the encoder, which has pooled" in run("samples", *words)


def test_options_of_a_reference_want_one(here) -> None:
    assert "--metrics goes with --reference or --save-reference" in run("samples", "--metrics", "fd")
    assert "--encoder is missing" in run("samples", "--reference", "real.npz")
    assert "pictures want --reference REF" in run("samples")
