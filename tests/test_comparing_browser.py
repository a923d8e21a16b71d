"""The page in headless Chromium: every section is seen, nothing is fetched.

pytest -m slow tests/test_comparing_browser.py
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from comparing_parts import make_memory_run, make_run
from PIL import Image

from genmem.comparing.comparison import compare
from genmem.comparing.page import POLICY, render
from genmem.scoring.table import Cell

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

WORDS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
]

PROBE = """<pre id="probe"></pre><script>
addEventListener("load", () => {
  const seen = [...document.querySelectorAll("section")].map(one => {
    const box = one.getBoundingClientRect();
    return [one.id, box.width > 100 && box.height > 40 && getComputedStyle(one).visibility === "visible"];
  });
  const images = [...document.images].map(one => one.complete && one.naturalWidth > 0);
  const fetched = performance.getEntriesByType("resource").map(one => one.name);
  const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
  const cut = [...document.querySelectorAll("svg.chart text")].filter(one => {
    const box = one.getBoundingClientRect(), all = one.ownerSVGElement.getBoundingClientRect();
    return box.width > 0 && (box.right > all.right + 1 || box.left < all.left - 1);
  }).map(one => one.textContent);
  document.getElementById("probe").textContent = JSON.stringify({seen, images, fetched, wide, cut});
});
</script></body>"""


def browse(tmp_path: Path, page: Path, *words: str) -> str:
    assert BROWSER, "Chromium is needed: apt-get install -y chromium"
    command = [BROWSER, *WORDS, f"--user-data-dir={tmp_path / 'profile'}", *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture
def page(tmp_path: Path) -> Path:
    runs = [
        make_run(tmp_path / "plain", Cell.of_several([1234.5, 1236.25])),
        make_run(tmp_path / "other", 1.0, "--optimizer.lr=0.002"),
        make_memory_run(tmp_path / "gmem", held_out=1.5, samples=1.0),
    ]
    file = tmp_path / "page.html"
    file.write_text(render(compare(runs), ["genmem", "compare"]))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_every_section_is_seen_and_nothing_is_fetched(tmp_path: Path, page: Path, width: int) -> None:
    """A probe beside the page measures it; for the probe alone the policy lets a script run."""
    policy = html.escape(POLICY).replace("&#x27;", "&#39;")
    text = page.read_text()
    assert text.count(policy) == 1
    text = text.replace(policy, f"{policy}; script-src &#39;unsafe-inline&#39;")
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", PROBE))
    dom = browse(tmp_path, probed, f"--window-size={width},900", "--dump-dom")
    found = re.search(r'<pre id="probe">(\{.*?\})</pre>', dom)
    assert found, dom[-2000:]
    told = json.loads(found.group(1).replace("&quot;", '"'))
    assert len(told["seen"]) == 9 and all(visible for _, visible in told["seen"]), told["seen"]
    assert len(told["images"]) == 6 and all(told["images"])
    assert not [name for name in told["fetched"] if not name.startswith("data:")]
    assert not told["wide"] and not told["cut"]


@pytest.mark.slow
def test_it_is_drawn(tmp_path: Path, page: Path) -> None:
    """The picture has the three colours of the curves, so the style sheet reached the drawings."""
    shot = tmp_path / "shot.png"
    browse(tmp_path, page, "--window-size=1280,3000", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    for colour in ((0x00, 0x67, 0xA5), (0xC2, 0x50, 0x0A), (0x00, 0x79, 0x5A)):
        assert (np.abs(pixels.astype(int) - colour).max(1) < 8).sum() > 200
