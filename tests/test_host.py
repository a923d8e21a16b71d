"""The plugin host on real distributions: active, blocked, broken, clashing; and never silent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import pytest
from broken_plugins import BROKEN
from distributions import genmem_command, install, listing, objective, python
from fakes import OFFERS, fake_catalog, loaded, plugin

from genmem import hookimpl
from genmem.contracts import ObjectiveConfig
from genmem.host import (
    Catalog,
    ClashingComponent,
    PluginError,
    UnknownComponent,
    load_catalog,
)
from genmem.host.offers import inspect_plugin


def row(said: dict[str, Any], name: str) -> dict[str, Any]:
    """The one plugin of this name."""
    (found,) = [one for one in said["plugins"] if one["name"] == name]
    return dict(found)


def test_a_stranger_is_found_like_a_built_in(tmp_path: Path) -> None:
    install(tmp_path, "genmem-blur", objective("blur", "Blurs."), version="0.2", plugin="blur")
    said = listing(tmp_path)
    assert row(said, "blur") == {
        "name": "blur",
        "module": "genmem_blur",
        "distribution": "genmem-blur",
        "version": "0.2",
        "status": "active",
        "error": "",
        "sha256": "",
    }
    assert {
        "kind": "objective",
        "name": "blur",
        "description": "Blurs.",
        "provider": "genmem-blur 0.2 (blur)",
        "status": "active",
    } in said["components"]


def test_broken_plugins_are_named_with_their_causes_and_hide_nobody(tmp_path: Path) -> None:
    for name, (source, _) in BROKEN.items():
        install(tmp_path, name, source, version="3.1")
    install(tmp_path, "whole", objective("whole"))
    said = listing(tmp_path)
    for name, (_, cause) in BROKEN.items():
        found = row(said, name)
        assert (found["status"], found["distribution"], found["version"]) == ("broken", name, "3.1"), found
        assert cause.format(file=tmp_path / f"{name.replace('-', '_')}.py") in found["error"]
    assert row(said, "whole")["status"] == "active"
    names = [one["name"] for one in said["plugins"]]
    assert names == sorted(names)


def test_the_table_shows_broken_plugins_too(tmp_path: Path) -> None:
    install(tmp_path, "sick", "import not_there", version="3.1")
    done = genmem_command("plugins", path=tmp_path)
    assert done.returncode == 0
    (line,) = [line for line in done.stdout.splitlines() if "sick" in line]
    assert "sick 3.1" in line
    assert "broken" in line
    assert "No module named 'not_there'" in line


def test_two_distributions_with_one_plugin_name(tmp_path: Path) -> None:
    for distribution in ("east", "west"):
        install(tmp_path, distribution, objective(distribution), plugin="wind")
    said = listing(tmp_path)
    rows = [one for one in said["plugins"] if one["name"] == "wind"]
    assert [one["distribution"] for one in rows] == ["east", "west"]
    for one in rows:
        assert one["status"] == "broken"
        assert one["error"] == (
            "the plugin name 'wind' is claimed by east 1.0 and by west 1.0; "
            "uninstall one, or block it by its distribution: GENMEM_BLOCK=west"
        )
    said = listing(tmp_path, GENMEM_BLOCK="west")
    statuses = {one["distribution"]: one["status"] for one in said["plugins"] if one["name"] == "wind"}
    assert statuses == {"east": "active", "west": "blocked"}


def test_two_plugins_with_one_component(tmp_path: Path) -> None:
    install(tmp_path, "east", objective("wind"))
    install(tmp_path, "west", objective("wind"), version="2.0")
    clashing = [one for one in listing(tmp_path)["components"] if one["name"] == "wind"]
    assert [(one["provider"], one["status"]) for one in clashing] == [
        ("east 1.0 (east)", "clash"),
        ("west 2.0 (west)", "clash"),
    ]
    error = (
        "by plugin 'east' (east 1.0) and by plugin 'west' (west 2.0); "
        "block all but one with GENMEM_BLOCK=west"
    )
    assert all(error in one["description"] for one in clashing)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('extends = "quickstart"\n[objective.wind]\nuse = "wind"\nweight = 1.0\n')
    done = genmem_command("check", str(recipe), path=tmp_path)
    assert done.returncode == 1
    assert error in done.stderr
    assert genmem_command("check", str(recipe), path=tmp_path, env={"GENMEM_BLOCK": "west"}).returncode == 0


def test_a_blocked_plugin_is_not_even_imported(tmp_path: Path) -> None:
    install(tmp_path, "loud", f"open({str(tmp_path / 'imported')!r}, 'w')\n" + objective("loud"))
    said = listing(tmp_path, GENMEM_BLOCK=" other, loud,")
    assert row(said, "loud")["status"] == "blocked"
    assert not (tmp_path / "imported").exists()
    assert row(listing(tmp_path), "loud")["status"] == "active"
    assert (tmp_path / "imported").exists()


@pytest.mark.parametrize(("source", "said"), [("import not_there", "not_there"), ("", "contributes nothing")])
def test_strict_raises_at_once_with_the_traceback(tmp_path: Path, source: str, said: str) -> None:
    install(tmp_path, "sick", source)
    done = genmem_command("plugins", path=tmp_path, env={"GENMEM_STRICT": "1"})
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert said in done.stderr.splitlines()[-1]


def test_metadata_seen_twice_counts_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        install(tmp_path / folder, "twin", objective("twin"))
    code = (
        f"import sys; sys.path.append({str(tmp_path / 'b')!r})\n"
        "from genmem.host import load_catalog\n"
        "print([one.status for one in load_catalog().plugins if one.name == 'twin'])"
    )
    done = python("-c", code, path=tmp_path / "a")
    assert done.stdout == "['active']\n", done.stderr


def test_each_of_two_plugins_that_import_torch_is_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        install(tmp_path, name, "import torch")
    said = listing(tmp_path)
    assert all("imports torch" in row(said, name)["error"] for name in ("one", "two"))


def test_a_library_that_asks_whether_torch_is_there_gets_its_answer(tmp_path: Path) -> None:
    source = "import importlib.util\nassert importlib.util.find_spec('torch')\n" + objective("polite")
    install(tmp_path, "polite", source)
    assert row(listing(tmp_path), "polite")["status"] == "active"


def test_only_exceptions_are_caught(tmp_path: Path) -> None:
    install(tmp_path, "leaving", "raise KeyboardInterrupt")
    assert genmem_command("plugins", path=tmp_path).returncode != 0


def test_find_tells_the_nearest_name_and_all_names() -> None:
    catalog = fake_catalog()
    assert catalog.find("memory", "ring").config is OFFERS["genmem_memories"]["ring"]
    with pytest.raises(UnknownComponent) as caught:
        catalog.find("memory", "rings")
    assert str(caught.value) == "no memory is called 'rings', did you mean 'ring'? (there are: ring, shelf)"
    with pytest.raises(UnknownComponent, match=r"no source is called 'x' \(no plugin offers sources\)"):
        Catalog.of([]).find("source", "x")


def test_find_refuses_a_clash() -> None:
    catalog = Catalog.of([loaded(OFFERS), loaded(OFFERS, plugin("rival"))])
    with pytest.raises(ClashingComponent, match="GENMEM_BLOCK=rival"):
        catalog.find("memory", "ring")
    assert catalog.components() == ()
    assert len(catalog.clashes()) == sum(map(len, OFFERS.values()))


def test_an_entry_point_that_names_a_class_is_refused() -> None:
    class Plugin:
        @hookimpl
        def genmem_objectives(self) -> dict[str, type[ObjectiveConfig]]:
            return {}

    with pytest.raises(PluginError, match="names the class Plugin; it must name a module"):
        inspect_plugin(plugin(), Plugin)


def test_a_single_file_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(objective("mine"))
    catalog = load_catalog([file])
    (mine,) = [one for one in catalog.plugins if one.name == "mine"]
    assert (mine.status, mine.distribution, mine.file) == ("active", "file", file.resolve())
    assert mine.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert mine.provider == "file mine.py"
    component = catalog.find("objective", "mine")
    assert load_catalog([file]).find("objective", "mine").config is component.config, "loading is idempotent"
    file.write_text(objective("mine", "Changed."))
    assert load_catalog([file]).find("objective", "mine").description == "Changed."
    assert load_catalog().with_files([file]).find("objective", "mine").description == "Changed."
    with pytest.raises(FileNotFoundError):
        load_catalog([tmp_path / "other.py"])


def test_a_single_file_can_be_broken_or_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import not_there")
    (mine,) = [one for one in load_catalog([file]).plugins if one.name == "mine"]
    assert (mine.status, mine.error) == ("broken", "ModuleNotFoundError: No module named 'not_there'")
    monkeypatch.setenv("GENMEM_BLOCK", "mine")
    (mine,) = [one for one in load_catalog([file]).plugins if one.name == "mine"]
    assert mine.status == "blocked"


def test_reserved_keys_are_those_of_the_tables() -> None:
    from genmem.host.kinds import IN_OBJECTIVE_TABLE
    from genmem.recipe.tables import ObjectiveTable

    own = {field.name for field in attrs.fields(ObjectiveTable) if not field.metadata.get("inline")}
    assert own | {"use"} == IN_OBJECTIVE_TABLE
