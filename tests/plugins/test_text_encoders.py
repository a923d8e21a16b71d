"""Encoders of text: what n-grams see; BERT and CLIP against the libraries' own networks in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_models import change_bit, save_clip

from genmem import testing
from genmem.extras import import_extra
from genmem.recipe import RecipeError, load_encoder, loads
from genmem_text import BertConfig, ClipTextConfig, NgramsConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "a", "pic", "##ture", "of"]
TEXTS = np.array(["three", "a picture of two", "one one one of three"])


def test_ngrams_are_runs_of_characters() -> None:
    """The feature is the sum over runs, of norm 1; spelling makes texts near, and nothing else does."""
    encoder = NgramsConfig(width=4096).build()
    three, upper, thre, seven = encoder.encode(np.array(["three", " THREE ", "thre", "seven"])).pooled_BD
    assert np.array_equal(three, upper) and np.linalg.norm(three) == pytest.approx(1)
    assert three @ thre > 0.7 > 0.3 > three @ seven
    # "ab" has the runs a, b, " a", ab, "b ": five places, each ±1/√5.
    ab = NgramsConfig(width=4096, longest=2).build().encode(np.array(["ab"])).pooled_BD[0]
    assert np.count_nonzero(ab) == 5 and np.allclose(np.abs(ab[ab != 0]), 5**-0.5)


def test_ngrams_refuse() -> None:
    encoder = NgramsConfig().build()
    for given in (np.array(["x", " "]), np.array([], str), np.array([1.0]), np.array([["x"]])):
        with pytest.raises(ValueError, match=r"ngrams: (expected texts|a text is empty)"):
            encoder.encode(given)


def test_a_text_encoder_sits_in_no_table() -> None:
    """Sets and scores hold pictures; the recipe says so before anything is prepared."""
    more = '\n[evaluate.encoder.words]\nuse = "ngrams"\n'
    with pytest.raises(RecipeError, match="'ngrams' reads text, and a set holds pictures"):
        loads('extends = "quickstart"\n' + more, "mine")


def test_an_encoder_alone() -> None:
    """A command names it, with settings in overrides; every fault is told."""
    assert load_encoder({"use": "ngrams"}, ["--encoder.width=8"]).config == NgramsConfig(width=8)
    with pytest.raises(RecipeError, match="unknown key 'widht', did you mean 'width'"):
        load_encoder({"use": "ngrams"}, ["--encoder.widht=8"])
    with pytest.raises(RecipeError, match="missing key 'path'"):
        load_encoder({"use": "bert"})


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory):
    """A small BERT with its pooler and a prefix, as published ones have."""
    transformers = import_extra("transformers", "models")
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=12, **size)
    network = transformers.BertForPreTraining(config)
    network.save_pretrained(folder)
    return folder, network.bert.double().eval()


def test_bert_is_the_first_token(bert) -> None:
    """One text at a time, without padding, in float64."""
    folder, network = bert
    testing.check_encoder(BertConfig(path=str(folder)))
    found = BertConfig(path=str(folder), batch=2).build().encode(TEXTS).pooled_BD
    ids = [[2, 7, 3], [2, 8, 9, 10, 11, 6, 3], [2, 5, 5, 5, 11, 7, 3]]
    for one, row in zip(ids, found, strict=True):
        expected = network(torch.tensor([one])).last_hidden_state[0, 0].detach()
        np.testing.assert_allclose(row, expected, atol=2e-5)
    long = np.array([" ".join(["one"] * 40)])
    cut = network(torch.tensor([[2, *[5] * 10, 3]])).last_hidden_state[0, 0].detach()
    np.testing.assert_allclose(BertConfig(path=str(folder)).build().encode(long).pooled_BD[0], cut, atol=2e-5)


def test_other_weights_are_refused(bert, tmp_path: Path) -> None:
    folder, _ = bert
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = BertConfig(path=str(folder)).build().state()
    change_bit(tmp_path / "model.safetensors", "bert.embeddings.LayerNorm.weight")
    with pytest.raises(ValueError, match="these are"):
        BertConfig(path=str(tmp_path)).build().load_state(state)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(FileNotFoundError, match="genmem checkpoint convert"):
        BertConfig(path=str(tmp_path)).build().state()


def test_clip_reads(tmp_path: Path) -> None:
    """The projection of the half that reads, against the whole CLIP."""
    network = save_clip(tmp_path).double().eval()
    letters = ["<|startoftext|>", "<|endoftext|>", *"abcdefg", *(f"{one}</w>" for one in "abcdefg")]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers = import_extra("transformers", "models")
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["text_config"] |= {"eos_token_id": 1, "bos_token_id": 0}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    files = {"vocab": str(tmp_path / "vocab.json"), "merges": str(tmp_path / "merges.txt")}
    transformers.CLIPTokenizer(**files).save_pretrained(tmp_path)
    encoder = ClipTextConfig(path=str(tmp_path)).build()
    found = encoder.encode(np.array(["ab", "c"])).pooled_BD
    network.text_model.config.eos_token_id = network.text_model.eos_token_id = 1
    for row, ids in zip(found, ([0, 2, 10, 1], [0, 11, 1]), strict=True):
        hidden = network.text_model(input_ids=torch.tensor([ids])).pooler_output
        np.testing.assert_allclose(row, network.text_projection(hidden)[0].detach(), atol=2e-5)
