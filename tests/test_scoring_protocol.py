"""The protocol of a score and its hash."""

import hashlib
import json
import math
from types import SimpleNamespace
from typing import Any, ClassVar

import attrs
import numpy as np
import pytest

from genmem.contracts import EncoderConfig
from genmem.recipe.tables import Seat
from genmem.scoring.protocol import VERSION, Protocol, ProtocolMismatch, check_comparable, difference
from genmem.scoring.spaces import describe, describe_space

GIVEN: dict[str, Any] = {
    "sampler": {"use": "steady", "grid": [1.0, 0.5, 0.25], "last": "plain"},
    "steps": 25,
    "guidance": {"use": "twofold", "scale": 1.5, "interval": (0.0, 0.75)},
    "conditions": {"rule": "one row each, uniformly"},
    "seeds": (0,),
    "samples": 1437,
    "rounding": "clamp, round half to even",
    "decoder": {"use": "plain", "weights": ""},
    "features": {"use": "plain", "size": 8, "weights": ""},
    "reference": {"name": "held-out", "count": 360, "hash": "ab12"},
    "weights": "ema",
    "memory": {"identity": "f00d", "rows": 1437, "drawn": "uniform"},
    "precision": "fp32",
}


def protocol(**changes: Any) -> Protocol:
    return Protocol(**{**GIVEN, **changes})


def test_the_digest_is_of_canonical_json() -> None:
    plain = json.loads(json.dumps(GIVEN | {"version": VERSION}))
    plain["sampler"]["grid"][0], plain["guidance"]["interval"][0] = 1, 0
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert protocol().digest == hashlib.sha256(text.encode()).hexdigest()[:8]


def test_the_digest_does_not_see_order_or_the_spelling_of_a_number() -> None:
    turned = {key: GIVEN[key] for key in reversed(GIVEN)}
    turned["guidance"] = {"interval": [0, 0.75], "scale": 1.5, "use": "twofold"}
    assert Protocol(**turned).digest == protocol().digest
    assert protocol(steps=25.0) == protocol(steps=25)
    assert hash(protocol(steps=25.0)) == hash(protocol())


OTHERS: dict[str, Any] = {
    "sampler": GIVEN["sampler"] | {"last": "none"},
    "steps": None,
    "guidance": None,
    "conditions": {"rule": "equal labels"},
    "seeds": (0, 1),
    "samples": 1436,
    "rounding": "truncate",
    "decoder": {"use": "plain", "weights": "1"},
    "features": GIVEN["features"] | {"size": 16},
    "reference": GIVEN["reference"] | {"hash": "ab13"},
    "weights": "online",
    "memory": GIVEN["memory"] | {"rows": 100},
    "precision": "bf16",
    "version": VERSION + 1,
}


@pytest.mark.parametrize("key", [field.name for field in attrs.fields(Protocol)])
def test_everything_in_it_moves_the_digest(key: str) -> None:
    other = protocol(**{key: OTHERS[key]})
    assert other.digest != protocol().digest
    assert other != protocol()
    assert {path.partition(".")[0] for path in difference(protocol(), other)} == {key}


def test_json_and_back() -> None:
    for given in (protocol(), protocol(guidance=None, memory=None, steps=None)):
        back = Protocol.from_json(json.loads(json.dumps(given.to_json(), allow_nan=False)))
        assert back == given and back.digest == given.digest


def test_it_cannot_be_changed() -> None:
    settings = {"use": "steady", "grid": [1.0]}
    given = protocol(sampler=settings)
    settings["grid"].append(2.0)
    assert given.to_json()["sampler"]["grid"] == [1]
    with pytest.raises(TypeError):
        given.sampler["use"] = "other"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        given.steps = 5


def test_difference_names_key_paths_and_values() -> None:
    other = protocol(sampler={"use": "steady", "grid": [1.0]}, steps=50, memory=None)
    assert difference(protocol(), other) == {
        "memory": ("(absent)", None),
        "memory.drawn": ("uniform", "(absent)"),
        "memory.identity": ("f00d", "(absent)"),
        "memory.rows": (1437, "(absent)"),
        "sampler.grid": ([1, 0.5, 0.25], [1]),
        "sampler.last": ("plain", "(absent)"),
        "steps": (25, 50),
    }
    assert difference(protocol(), protocol()) == {}


@pytest.mark.parametrize("value", [None, {}, []])
def test_a_key_that_says_nothing_is_a_difference_all_the_same(value: object) -> None:
    other = protocol(sampler=GIVEN["sampler"] | {"noise": value})
    assert other.digest != protocol().digest
    assert list(difference(protocol(), other)) == ["sampler.noise"]


def test_different_protocols_are_not_compared_unless_forced() -> None:
    check_comparable(protocol(), protocol())
    other = protocol(steps=50)
    with pytest.raises(ProtocolMismatch) as caught:
        check_comparable(protocol(), other)
    assert str(caught.value) == (
        f"scores of protocols {protocol().digest} and {other.digest} are not comparable:\n  steps: 25 and 50"
    )
    check_comparable(protocol(), other, force=True)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"sampler": {"use": "steady", "eps": math.nan}},
            ValueError,
            r"protocol\.sampler\.eps: nan is no number",
        ),
        (
            {"sampler": {"use": "steady", "grid": [1, {2}]}},
            TypeError,
            r"protocol\.sampler\.grid\.1: set is not plain",
        ),
        ({"sampler": {"use": "steady", 3: 4}}, TypeError, r"protocol\.sampler: keys must be text, got 3"),
        ({"sampler": "steady"}, TypeError, r"protocol\.sampler must be a table, got 'steady'"),
        ({"guidance": {"scale": 2.0}}, ValueError, r"protocol\.guidance has \['scale'\], lacks \['use'\]"),
        ({"reference": {"name": "held-out"}}, ValueError, r"lacks \['count', 'hash'\]"),
        ({"memory": {"rows": 3}}, ValueError, r"lacks \['identity', 'drawn'\]"),
    ],
)
def test_refused_by_key_path(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        protocol(**changes)


def test_a_file_of_another_form_is_refused() -> None:
    data = protocol().to_json()
    data["step"] = data.pop("steps")
    with pytest.raises(ValueError, match=r"unknown keys \['step'\], missing keys \['steps'\]"):
        Protocol.from_json(data)


@attrs.frozen(kw_only=True)
class _Published(EncoderConfig):
    """An encoder whose weights come from a file."""

    learns: ClassVar[bool] = False

    size: int = 8
    path: str = attrs.field(default="here", eq=False)
    weights: tuple[float, ...] = attrs.field(default=(1.0,), eq=False)

    def build(self) -> Any:
        return SimpleNamespace(state=lambda: {"w": np.array(self.weights)})


def test_an_encoders_weights_move_the_protocol_and_their_place_does_not() -> None:
    here, moved, other, larger = (
        describe_space(Seat("published", config))
        for config in (
            _Published(),
            _Published(path="there"),
            _Published(weights=(1.5,)),
            _Published(size=9),
        )
    )
    assert here == moved
    assert here != other and here != larger
    assert "weights" not in describe(Seat("published", _Published()))
