"""`genmem bank map`: the losses, what is learned, what is kept, what is refused; text to pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from running import QUICKSTART, SMALL, ready, small_recipe

import genmem
from genmem.cli.sample import command as sample
from genmem.data.picture_files import read_pictures
from genmem.sampling.snippets import Wanted, find_snippets
from genmem.training import session
from genmem_bank import genmem_commands
from genmem_bank.building.choosing import choose_samples
from genmem_bank.building.construction import Form, build_bank
from genmem_bank.building.features import Features
from genmem_bank.conditioning.store import SvdBank
from genmem_bank.looking.searching import config_of
from genmem_bank.mapping.held_out import score_rows, score_texts
from genmem_bank.mapping.losses import Contrast
from genmem_bank.mapping.network import RowMap
from genmem_bank.mapping.pairs import ClassTexts, Epochs, OtherFeatures
from genmem_bank.storage.card import read_card

NAMES = "zero,0\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"


def call(*words: object) -> str:
    """What a command printed; "refused: …" where it failed."""
    found = CliRunner().invoke(genmem_commands()["bank"], [str(word) for word in words])
    return found.output if found.exit_code == 0 else f"refused: {found.output}"


def open_bank(folder: Path) -> SvdBank:
    card = read_card(folder)
    return SvdBank(config_of(folder, card), card)


# the parts ----------------------------------------------------------------------------------


def test_the_contrastive_loss_is_clips() -> None:
    """Written out in float64, at the scale CLIP begins with; any larger one is held at 100."""
    draws = np.random.default_rng(0)
    found, rows = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in draws.normal(size=(2, 9, 5)))

    def expected(scale: float) -> float:
        odds = np.exp(scale * found @ rows.T)
        right = np.diag(odds)
        return float(-(np.log(right / odds.sum(0)) + np.log(right / odds.sum(1))).mean() / 2)

    loss = Contrast().double()
    given = torch.from_numpy(found), torch.from_numpy(rows)
    assert loss(*given).item() == pytest.approx(expected(1 / 0.07), rel=1e-6)
    with torch.no_grad():
        loss.log_scale.fill_(9.0)
    assert loss(*given).item() == pytest.approx(expected(100), rel=1e-6)


def test_rows_of_one_text_are_not_pushed_apart() -> None:
    """Where texts repeat, CLIP's gradient is that of targets shared among the rows of a text."""
    draws = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(8, 5, generator=draws).double(), dim=1)
    text = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2])
    ours, shared = (torch.randn(3, 5, generator=torch.Generator().manual_seed(2)).double() for _ in "ab")
    ours.requires_grad_(), shared.requires_grad_()
    Contrast().double()(ours[text], rows).backward()
    logits = shared[text] @ rows.T / 0.07
    target = (text[:, None] == text).double()
    target = target / target.sum(1, keepdim=True)
    either = [-(target * one.log_softmax(1)).sum(1).mean() for one in (logits, logits.T)]
    (sum(either) / 2).backward()
    torch.testing.assert_close(ours.grad, shared.grad, atol=1e-6, rtol=1e-5)


def test_the_network_is_two_layers_and_comes_back_as_stored() -> None:
    network = RowMap.drawn(3, torch.randn(6), 2.5, 7, 4).double()
    given = torch.randn(5, 6).double()
    values = {name: torch.tensor(value).double() for name, value in network.arrays().items()}
    inside = (given - values["origin"]) / values["spread"] @ values["first.weight"].T + values["first.bias"]
    outside = inside * inside.sigmoid() @ values["second.weight"].T + values["second.bias"]
    torch.testing.assert_close(network(given), outside / outside.norm(dim=1, keepdim=True))
    arrays = {name: value.astype(np.float32) for name, value in network.arrays().items()}
    torch.testing.assert_close(RowMap.of_arrays(arrays)(given.float()), network(given).float())
    assert all(float(p.detach().abs().max()) <= 6**-0.5 for p in network.first.parameters())


def test_every_row_comes_once_an_epoch_with_its_own_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another order in each; over pieces; texts are those of the row's class, all of them in time."""
    monkeypatch.setattr("genmem_bank.mapping.pairs.PIECE", 16)
    monkeypatch.setattr("genmem_bank.mapping.pairs.TOGETHER", 3)
    rows = torch.arange(100.0)[:, None]
    features = SimpleNamespace(rows=100, read=lambda start, stop: 5 * rows[start:stop].numpy() + 1)
    epochs = Epochs(lambda start, stop: rows[start:stop], 100, OtherFeatures(features), 7, 0)
    orders = []
    for epoch in range(2):
        batches = list(epochs(epoch, lambda done: None))
        assert all(
            torch.equal(one.feature_BD, 5 * one.row_BE + 1) and len(one.row_BE) <= 7 for one in batches
        )
        orders.append(torch.cat([one.row_BE for one in batches])[:, 0])
        assert torch.equal(orders[-1].sort().values, rows[:, 0])
    assert not torch.equal(*orders)
    mean, spread = OtherFeatures(features).moments()
    assert float(mean) == pytest.approx(5 * 49.5 + 1) and spread == pytest.approx(5 * np.arange(100).std())
    label = np.where(np.arange(100) % 5 == 4, -1, np.arange(100) % 2)
    texts = ClassTexts(torch.tensor([[10.0], [11.0], [20.0]]), np.array([0, 2, 3]), label)
    epochs = Epochs(lambda start, stop: rows[start:stop], 100, texts, 7, 0)
    pairs = [torch.cat([o.row_BE, o.feature_BD], 1) for e in range(3) for o in epochs(e, lambda done: None)]
    seen = torch.cat(pairs)
    assert len(seen) == 240 and set(seen[:, 1].tolist()) == {10.0, 11.0, 20.0}
    assert all(label[int(row)] == (0 if text < 20 else 1) for row, text in seen.tolist())


def test_what_is_said_of_held_out_pictures() -> None:
    """By hand: three pictures, one of which another's row is nearer to; five with two classes."""
    e = torch.eye(4)
    found = score_rows(e[[0, 2, 2]], e[[0, 1, 2]], torch.ones(4))
    assert found == {
        "cosine": pytest.approx(2 / 3),
        "mean_cosine": 0.5,
        "first": pytest.approx(2 / 3),
        "rank": 1,
        "pictures": 3,
    }
    texts, classes = e[[0, 1, 2]], torch.tensor([0, 0, 1])
    found = score_texts(texts, classes, e[[0, 1, 2, 0, 3]], torch.tensor([0, 0, 1, 1, 1]))
    assert found == {"cosine": pytest.approx(3 / 5), "right": 3 / 5, "chance": 3 / 5, "pictures": 5}


# the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with a bank of its own and two maps to it."""
    folder = tmp_path_factory.mktemp("maps")
    (folder / "names.txt").write_text(NAMES)
    paths = (f'--data.path="{data}/digits"', f'--memory.bank.path="{folder}/bank"')
    more = ("--train.images=64", "--evaluate.batch=8", "--sampler.steps=2", "--evaluate.samples=64")
    session.run(str(QUICKSTART), (*paths, *SMALL, *more), (), folder / "run", [])
    quick = ("--lr", 3e-3, "--epochs", 20, "--data", data / "digits", "--hidden", 64)
    before = read_card(folder / "bank")
    text = call("map", folder / "bank", *quick, "--names", folder / "names.txt", "--name", "words")
    assert "map words: 11 names by ngrams (width 512" in text and "clip, 20 epochs of 1,437 rows" in text
    picture = call("map", folder / "bank", *quick, "--encoder", "random-conv")
    assert "map random-conv: pictures by random-conv (width 64" in picture and ", mse," in picture
    after = read_card(folder / "bank")
    assert attrs.evolve(after, maps=()) == before, "a map changes neither identity nor rows"
    return folder / "run"


def test_maps_learn(run: Path) -> None:
    """On pictures they were not trained on: far above a map that knows nothing."""
    words, conv = read_card(run.parent / "bank").maps
    assert words.reads == "text" and words.held_out["right"] > 0.8 > 8 * words.held_out["chance"] - 0.1
    assert conv.held_out["cosine"] > 0.8 > conv.held_out["mean_cosine"] + 0.5 and conv.held_out["rank"] <= 3
    shown = call("info", run.parent / "bank")
    assert (
        shown.count("  map ") == 2
        and "held out: cosine" in shown
        and not (run.parent / "bank/.mapping").exists()
    )
    told = json.loads(call("info", run.parent / "bank", "--json"))["maps"]
    assert (
        told[0]["texts"][0] == ["zero", "0"] and told[1]["settings"]["width"] == 64 and told[1]["seed"] == 0
    )


def test_a_text_gives_rows_of_its_class(run: Path) -> None:
    """Through the run: the stored form (eq. 10) decodes to what the map found; near rows are threes."""
    opened = genmem.load(run)
    store = opened.generator().conditioner.store
    assert store is not None and store.maps() == {"words": "text", "random-conv": "pictures"}
    found = find_snippets(opened, store, Wanted(texts=("three", "nine")))
    labels = opened.dataset.labels("train")
    _, near = store.nearest(found.memory_SKE[:, 0], 20)
    assert (labels[near[0].numpy()] == 3).mean() > 0.9 and (labels[near[1].numpy()] == 9).mean() > 0.9
    assert found.name_S == ("text:three", "text:nine") and found.row_S == (-1, -1)


def test_a_picture_through_another_encoder(run: Path, tmp_path: Path) -> None:
    """Its row by the map is near its row by the bank's own encoder, and not the same."""
    opened = genmem.load(run)
    store = opened.generator().conditioner.store
    assert store is not None
    tokenizer = opened.recipe.data.tokenizer.config.build()
    Image.fromarray(opened.dataset.pictures("test", [5], tokenizer)[0, :, :, 0]).save(tmp_path / "5.png")
    own, other = (
        find_snippets(opened, store, Wanted(pictures=(tmp_path / "5.png",), map=name)).memory_SKE[0, 0]
        for name in (None, "random-conv")
    )
    assert 0.7 < float(own @ other) < 0.9999
    given = read_pictures([tmp_path / "5.png"], opened.dataset.picture_shape)
    torch.testing.assert_close(store.decode(store.translate("random-conv", given))[0, 0], other)


def test_sampling_from_text(run: Path, tmp_path: Path) -> None:
    """One line a text; between two texts; what is refused says what there is."""

    def ask(*words: str) -> str:
        found = CliRunner().invoke(
            sample, [str(run), *words, "--noises", "2", "--out", str(tmp_path / "out")]
        )
        return found.output if found.exit_code == 0 else f"refused: {found.output}{found.exception}"

    assert "2 rows × 2 noises" in ask("--text", "three", "--text", "eight")
    record = json.loads((tmp_path / "out" / "figure.json").read_text())
    assert record["texts"] == ["three", "eight"] and len(record["lines"][0]["nearest"]) == 5
    assert "3 rows" in ask("--interpolate", "text:three", "text:eight", "--steps", "1", "--map", "words")
    assert "no single map 'random-conv' of text: there are: words" in ask(
        "--text", "x", "--map", "random-conv"
    )
    assert "--map NAME goes with" in ask("--map", "words")
    assert "ngrams: a text is empty" in ask("--text", "")


# what is refused ----------------------------------------------------------------------------


def test_nothing_is_written_of_what_does_not_fit(run: Path, data: Path, tmp_path: Path) -> None:
    bank, set_ = run.parent / "bank", data / "digits"
    (tmp_path / "short.txt").write_text("zero\none\n")
    (tmp_path / "twice.txt").write_text(NAMES.replace("two", "one"))
    (tmp_path / "gap.txt").write_text(NAMES.replace("two", ""))
    before = sorted(path.name for path in bank.iterdir())
    for words, message in (
        (("--name", "words"), "there is a map 'words' already; say --name OTHER"),
        (("--names", tmp_path / "short.txt"), "2 lines of names, expected 10, one for each class"),
        (("--names", tmp_path / "twice.txt"), "'one' is the name of classes 1 and 2"),
        (("--names", tmp_path / "gap.txt"), "no name for class 2"),
        (("--encoder", "nogram"), "no encoder is called 'nogram', did you mean 'ngrams'"),
        (("--encoder", "ngrams", "--encoder.widht=3"), "unknown key 'widht'"),
        (("--encoder", "pixels", "--names", tmp_path / "gap.txt"), "--names is for an encoder of text"),
        (("--encoder", "pca", "--encoder.width=3"), "encoder 'pca' is as its set or recipe says"),
        (("--encoder", "bert", "--encoder.path=nowhere"), "nowhere: no such file or folder"),
        (("--lr", "1e30", "--epochs", "3", "--loss", "mse"), "take a smaller --lr"),
    ):
        said = call("map", bank, "--data", set_, *words).replace("\n", " ")
        assert said.startswith("refused") and message in said, said
    assert sorted(path.name for path in bank.iterdir()) == before
    build_bank(tmp_path / "other", Features(dataset=_Other(data), encoder="pca", count=9), Form(rank=4))
    said = call("map", tmp_path / "other", "--data", set_)
    assert "this is not the set that the bank was made of" in said
    with pytest.raises(ValueError, match="no map 'word', did you mean 'words'"):
        open_bank(bank).translate("word", np.array(["x"]))


class _Other:
    """The digits under another name."""

    views = 1

    def __init__(self, data: Path) -> None:
        self._set = ready(small_recipe(data))
        self.path, self.feature, self.count = self._set.path, self._set.feature, self._set.count

    def labels(self, split: str) -> np.ndarray:
        return np.full(9, -1)

    def provenance(self) -> dict[str, object]:
        return {"fingerprint": "another"}


def test_a_map_that_was_changed_is_refused(data: Path, tmp_path: Path) -> None:
    """A half-size bank whose samples were drawn, with an encoder that learns; each file is looked at."""
    dataset = ready(small_recipe(data))
    numbers = choose_samples(dataset.count("train"), 0, 600)
    features = Features(dataset=dataset, encoder="pca", count=600, numbers=numbers)
    build_bank(tmp_path / "bank", features, Form(rank=8))
    quick = ("--data", data / "digits", "--epochs", 60, "--lr", 3e-3)
    said = call("map", tmp_path / "bank", *quick, "--encoder", "patch-pca", "--encoder.width=4")
    assert "mse, 60 epochs of 600 rows" in said
    (mapped,) = read_card(tmp_path / "bank").maps
    assert mapped.settings["width"] == 4 and mapped.held_out["cosine"] > mapped.held_out["mean_cosine"] + 0.2
    given = np.zeros((1, 8, 8, 1), np.uint8)
    whole = open_bank(tmp_path / "bank").translate("patch-pca", given)
    assert torch.isfinite(whole).all() and "map" in call("info", tmp_path / "bank")
    assert mapped.encoder_file is not None
    for file in (mapped.file, mapped.encoder_file):
        path = tmp_path / "bank" / file
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(ValueError, match=f"{file}: changed since the map was made"):
            open_bank(tmp_path / "bank").translate("patch-pca", given)
        assert f"{file}: changed" in call("info", tmp_path / "bank").replace("\n", "")
        path.write_bytes(kept)
    torch.testing.assert_close(open_bank(tmp_path / "bank").translate("patch-pca", given), whole)


def test_killed_while_a_map_is_kept(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old bank stays, without the map; the next one to write removes what was left."""
    shutil.copytree(run.parent / "bank", tmp_path / "bank")
    before = read_card(tmp_path / "bank")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    words = ("map", tmp_path / "bank", "--data", data / "digits", "--epochs", 1, "--name")
    with monkeypatch.context() as context:
        context.setattr("genmem_bank.mapping.keeping.write_card", killed)
        assert call(*words, "late").startswith("refused")
    assert read_card(tmp_path / "bank") == before
    assert "map later" in call(*words, "later")
    after = read_card(tmp_path / "bank")
    assert [one.name for one in after.maps] == ["words", "random-conv", "later"]
    there = {path.name for path in (tmp_path / "bank").glob("map-*")}
    assert there == {one.file for one in after.maps}
