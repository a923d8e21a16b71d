"""The proof from outside: a foreign distribution, installed by pip, is seen and used like our own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from distributions import ROOT, genmem_command, pip_install, python

SOURCE = ROOT / "tests" / "third_party"
RECIPE = SOURCE / "recipe.toml"


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `sys.path` with the foreign distribution installed."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip_install(folder / "source", folder / "site")
    return folder / "site"


def test_it_is_listed_with_its_distribution(third_party: Path) -> None:
    done = genmem_command("plugins", "--json", path=third_party)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["components"]
    assert [
        (row["kind"], row["name"], row["description"], row["status"])
        for row in rows
        if row["provider"] == "genmem-example-slots 0.3.0 (example-slots)"
    ] == [
        (
            "objective",
            "example-apart",
            "Keep the hidden state of a sample apart from those that a memory holds.",
            "active",
        ),
        ("memory", "example-slots", "The latest row of each sample, in the slot of its number.", "active"),
    ]


def test_a_recipe_may_use_it(third_party: Path) -> None:
    done = genmem_command("check", str(RECIPE), path=third_party)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{RECIPE}: ok\n", "")


def test_its_settings_are_checked_like_our_own(third_party: Path) -> None:
    done = genmem_command(
        "check", str(RECIPE), "--memory.negatives.rows=0", "--objective.repel.tap=9", path=third_party
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{RECIPE} --memory.negatives.rows=0: 'rows' must be > 0: 0 @ memory.negatives.rows",
        f"{RECIPE} --objective.repel.tap=9: there is no tap 9; the backbone has 4 blocks, taps 1 to 4"
        " @ objective.repel.tap",
    ]


def test_without_it_the_recipe_is_refused() -> None:
    done = genmem_command("check", str(RECIPE))
    assert done.returncode == 1
    assert "no memory is called 'example-slots'" in done.stderr
    assert "no objective is called 'example-apart'" in done.stderr


def test_it_is_in_the_schema(third_party: Path) -> None:
    done = genmem_command("recipe", "schema", path=third_party)
    definition = json.loads(done.stdout)["$defs"]["memory.example-slots"]
    assert definition["properties"]["rows"] == {
        "description": "Slots; sample n has slot n modulo this.",
        "type": "integer",
        "default": 1024,
    }


CONTRACT = """
from genmem.contracts import Facts
from genmem.testing import check_memory, check_objective, check_plugin
from genmem_example_slots import ApartConfig, SlotsConfig
facts = Facts(sample_shape=(1, 8, 8), output_channels=1)
check_plugin("example-slots")
check_memory(SlotsConfig(rows=64, width=8).build(facts))
check_objective(ApartConfig(memory="m", tap=2))
"""


def test_it_keeps_the_contracts(third_party: Path) -> None:
    done = python("-c", CONTRACT, path=third_party)
    assert done.returncode == 0, done.stderr


def test_a_new_plugin_installs_and_passes_its_own_test(tmp_path: Path) -> None:
    made = genmem_command("plugins", "new", "soft-edge", "--dir", "fresh", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    pip_install(tmp_path / "fresh", tmp_path / "site")
    assert "Mean p-th power of a hidden state." in genmem_command("plugins", path=tmp_path / "site").stdout
    tested = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "fresh"), path=tmp_path / "site"
    )
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Soft", "a plugin's name is made of a-z, 0-9 and single dashes"),
        ("a--b", "single dashes"),
        ("full", "is something in"),
    ],
)
def test_a_new_plugin_needs_a_name_and_an_empty_place(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "genmem-full").mkdir()
    (tmp_path / "genmem-full" / "notes").write_text("mine")
    done = genmem_command("plugins", "new", name, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_recipe_trains_with_it(third_party: Path, tmp_path: Path) -> None:
    """Its objective learns, its memory fills and is part of the checkpoint."""
    overrides = ["--train.images=640", "--evaluate.every=640", "--train.log_every=128"]
    done = genmem_command("train", str(RECIPE), *overrides, path=third_party, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = [line["objective/repel"] for line in lines if "objective/repel" in line]
    assert len(values) == 5 and len(set(values)) == 5
    checkpoint = max((run / "checkpoints").iterdir())
    assert (checkpoint / "memory.negatives" / "00000.safetensors").stat().st_size > 512
    environment = json.loads((run / "environment.json").read_text())
    assert {"genmem", "genmem-example-slots"} == {p["distribution"] for p in environment["plugins"]}
