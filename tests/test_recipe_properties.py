"""Properties of recipes over generated ones: what is written out is read back the same."""

from __future__ import annotations

import attrs
import pytest
import tomli
import tomli_w
from fakes import RECIPE, SpreadConfig, WalkConfig, fake_catalog
from hypothesis import given, settings
from hypothesis import strategies as st

from genmem.recipe import Images, Seat, dump, loads
from genmem.recipe.overrides import parse_value
from genmem.recipe.tables import EmaTable, ObjectiveTable
from genmem.recipe.values import SUFFIXES, make_converter

GOOD = loads(RECIPE, "good", catalog=fake_catalog())
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
ABOVE = st.floats(min_value=1e-300, allow_nan=False, allow_infinity=False)
NAME = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True).filter(lambda name: name not in ("online", "use"))

SPREAD = st.builds(
    SpreadConfig,
    tap=st.integers(1, 4),
    form=st.sampled_from(["near", "far"]),
    group=st.sampled_from([1, 16, 64, "global"]),
    temperature=ABOVE,
    range=st.tuples(NUMBER, NUMBER),
    layers=st.lists(st.integers(), max_size=3).map(tuple),
)
OBJECTIVES = st.dictionaries(
    NAME,
    st.builds(
        ObjectiveTable,
        weight=st.floats(0, 1e300),
        start=st.integers(0, 10**9).map(Images),
        ramp=st.integers(0, 10**12).map(Images),
        stop=st.none() | st.integers(10**9 + 1, 10**12).map(Images),
        objective=SPREAD.map(lambda config: Seat("spread", config)),
    ),
    max_size=3,
)
RECIPES = st.builds(
    lambda **parts: attrs.evolve(GOOD, memory={"bank": GOOD.memory["bank"]}, **parts),
    name=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True),
    description=st.text(),
    objective=OBJECTIVES,
    sampler=st.builds(WalkConfig, steps=st.integers(), stop=st.none() | NUMBER).map(
        lambda c: Seat("walk", c)
    ),
    guidance=st.none() | st.just(GOOD.guidance),
    ema=st.dictionaries(NAME, st.builds(EmaTable, decay=st.floats(0, 0.999), ramp=st.booleans())).map(
        lambda tables: {**tables, "ema": EmaTable()}
    ),
)


@settings(max_examples=30, deadline=None)
@given(RECIPES)
def test_a_dump_is_read_back_the_same(recipe: object) -> None:
    text = dump(recipe)  # type: ignore[arg-type]
    again = loads(text, "other", catalog=fake_catalog())
    assert again == recipe
    assert dump(again) == text


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([suffix for suffix in SUFFIXES if suffix]), st.integers(0, 3))
def test_images_are_exact(number: int, suffix: str, decimals: int) -> None:
    text = f"{number}.{number % 10**decimals:0{decimals}}{suffix}" if decimals else f"{number}{suffix}"
    digits = int(text.removesuffix(suffix).replace(".", ""))
    exact, rest = divmod(digits * SUFFIXES[suffix], 10**decimals)
    if rest:
        with pytest.raises(ValueError, match="no whole number of images"):
            make_converter().structure(text, Images)
    else:
        assert make_converter().structure(text, Images) == exact


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), NUMBER, st.booleans(), st.text()))
def test_an_override_is_what_toml_says(value: object) -> None:
    text = tomli_w.dumps({"value": value}).removeprefix("value = ").removesuffix("\n")
    assert parse_value(text) == tomli.loads(f"value = {text}")["value"] == value


@given(st.text())
def test_no_text_breaks_the_parser_of_overrides(text: str) -> None:
    parse_value(text)
