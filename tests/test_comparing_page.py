"""The page: well-formed, needs nothing beside it, and escapes what comes from files."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from comparing_parts import CURVE, make_memory_run, make_run

from genmem.comparing.comparison import compare
from genmem.comparing.page import render

HOSTILE = "<img src=x onerror=alert('x')>&\"'"

SECTIONS = ("verdict", "scores", "curves", "pictures", "costs", "spectrum", "recipes", "protocol", "words")

ADDRESSES = {"src", "href", "srcset", "action", "data", "poster", "background", "xlink:href", "style"}


class Reader(HTMLParser):
    """Collects tags and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    runs = [
        make_run(folder / "plain", 2.0),
        make_run(folder / HOSTILE, 1.0, "--optimizer.lr=0.002", "--description=a & b < c"),
        make_memory_run(folder / "gmem", held_out=1.5, samples=1.0),
    ]
    recipe = runs[1] / "recipe.toml"
    recipe.write_text(
        recipe.read_text().replace("[train]", f"[notes]\nsaid = {json.dumps(HOSTILE)}\n\n[train]")
    )
    (runs[2] / "samples" / "final.png").write_text(HOSTILE)
    return render(compare(runs), ["genmem", "compare", HOSTILE])


def test_it_is_well_formed(page: str) -> None:
    """An XML parser takes it: every element is closed, every attribute quoted, every sign escaped."""
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    found = {element.get("id") for element in root.iter("section")}
    assert found == set(SECTIONS)
    linked = {element.get("href") for element in root.iter("a")}
    assert linked == {f"#{name}" for name in SECTIONS}


def test_it_fetches_nothing_and_runs_nothing(page: str) -> None:
    reader = Reader(page)
    addresses = [
        value or "" for _, given in reader.tags for name, value in given.items() if name in ADDRESSES
    ]
    assert addresses and all(value.startswith(("#", "data:image/png;base64,")) for value in addresses)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert not re.search(
        r"(https?:)?//\w", re.sub(r'base64,[^"]*', "", page).replace("http://www.w3.org", "")
    )
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert not [name for _, given in reader.tags for name in given if name.startswith("on")]
    policy = next(
        g["content"] for g in reader.all("meta") if g.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_text_from_files_is_escaped(page: str) -> None:
    assert "<img src=x" not in page and "a & b" not in page
    told = " ".join(Reader(page).words)
    # The name of the folder, the recipe's value and the command line all say it, as text.
    assert told.count("alert('x')") >= 5


def test_pictures_are_pixels_of_their_files_and_the_broken_one_is_told(page: str) -> None:
    reader = Reader(page)
    images = reader.all("img")
    assert len(images) == 5 and all(given["alt"] for given in images)
    assert {(given["width"], given["height"]) for given in images} == {("30", "20")}
    assert any("is no PNG that can be read" in word for word in reader.words)


def test_charts_say_what_they_show(page: str) -> None:
    charts = [given for given in Reader(page).all("svg") if given.get("class") == "chart"]
    said = [given.get("aria-label") or "" for given in charts]
    assert all(given.get("role") == "img" for given in charts) and all(said)
    assert any(f"against images seen. plain ends at {CURVE[-1][1]:.4g}" in one for one in said)
    assert any("gmem from 4 to 0.5 over 3" in one for one in said)


def test_differences_are_marked(page: str) -> None:
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    marked = {"".join(element.itertext()) for element in root.iter("mark")}
    assert "0.002" in marked and "0.004" not in marked and HOSTILE in marked


def test_the_verdict_names_the_best_and_its_protocol(page: str) -> None:
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    articles = [one for one in root.iter("article") if one.get("class") == "verdict"]
    told, second = (" ".join("".join(one.itertext()).split()) for one in articles)
    assert (
        "best" in told and "has the best FD pixels of 2, 1.000" in told and "Next is plain with 2.000" in told
    )
    assert "another task" in second and "held-out rows" in second


def test_what_a_reader_must_know_of_memories_and_real_pictures(tmp_path: Path) -> None:
    plain, memory = make_run(tmp_path / "a", 2.0), make_memory_run(tmp_path / "m", held_out=1.5, samples=1.0)
    alone, both = (render(compare(runs), ["genmem"]) for runs in ([plain], [plain, memory]))
    said = "networks with a memory are scored on rows of the bank"
    assert said in both and said not in alone
    assert "Real pictures score 0.250." in both
