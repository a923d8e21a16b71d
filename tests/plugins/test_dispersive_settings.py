"""Settings of the dispersive losses: presets, taps, what is refused and why, the warning, the contract."""

import attrs
import pytest
import torch
from dispersive_parts import FACTS, FORMS, dispersive, run, states

from genmem.contracts import Facts
from genmem.testing import check_objective, example_step
from genmem_dispersive import DispersiveConfig, forms


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("positive", ["none", "restricted"])
def test_several_taps_are_a_mean(form, positive):
    def measure(tap: object):
        config = dispersive(form=form, positive=positive, group=8, tap=tap)
        return config.build(facts)(step)

    facts = attrs.evolve(FACTS, tap_widths=dict.fromkeys(range(1, 5), 16))
    step = example_step(dispersive(tap="all"))
    result, alone = measure("all"), [measure(tap) for tap in (1, 2, 3, 4)]
    torch.testing.assert_close(result.value, torch.stack([one.value for one in alone]).mean())
    for name in alone[0].metrics.keys() - {"rms"}:
        mean = torch.stack([one.metrics[name] for one in alone]).mean()
        torch.testing.assert_close(result.metrics[name], mean)
    for tap, one in enumerate(alone, 1):
        assert torch.equal(result.metrics[f"rms/{tap}"], one.metrics["rms"])
    assert "rms" not in result.metrics


@pytest.mark.parametrize(
    ("options", "resolved"),
    [
        ({}, (16, 0.5)),
        ({"preset": "torch"}, (32, 1.0)),
        ({"group": 8}, (8, 0.5)),
        ({"preset": "torch", "temperature": 0.25}, (32, 0.25)),
        ({"group": "global"}, ("global", 0.5)),
    ],
)
def test_presets_and_what_overrides_them(options, resolved):
    config = dispersive(**options)
    assert config.resolved == resolved
    assert config.coupling == resolved[0]


@pytest.mark.parametrize(
    ("form", "group", "least"),
    [*((form, 1, 2) for form in FORMS[:3]), ("hinge", -16, 2), ("covariance", 2, 3)],
)
def test_group_too_small_is_refused(form, group, least):
    with pytest.raises(
        ValueError, match=rf"group = {group} leaves fewer than {least} .* a memory of negatives"
    ):
        dispersive(form=form, group=group)


def test_two_standardised_samples_have_a_constant_loss():
    """Why covariance asks for 3."""
    values = [forms.Covariance().disperse(states(2, seed=seed).flatten(1)[None]) for seed in range(3)]
    torch.testing.assert_close(torch.stack(values), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"form": "hinge", "temperature": 0.5},
            r'form = "hinge" does not read temperature, got temperature = 0.5; leave it out, or take '
            r'form = "infonce-l2" or "infonce-cos"',
        ),
        ({"form": "covariance", "temperature": 0.5}, 'form = "covariance" does not read temperature'),
        ({"margin": 1.0}, 'form = "infonce-l2" does not read margin.* or take form = "hinge"'),
        ({"form": "covariance", "margin": 1.0}, 'form = "covariance" does not read margin'),
        ({"positive_gap": 0.1}, 'positive = "none" does not read positive_gap.* positive = "restricted"'),
        ({"positive": "independent", "positive_gap": 0.1}, 'positive = "independent" does not read'),
        ({"positive": "restricted", "positive_gap": -0.1}, "'positive_gap' must be >= 0"),
        ({"form": "hinge", "margin": 0.0}, "'margin' must be > 0"),
    ],
)
def test_keys_that_would_not_be_read_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dispersive(**options)


def test_defaults_of_the_forms():
    assert dispersive(form="hinge").resolved_margin == 1.0
    assert dispersive(positive="restricted").resolved_gap == 0.005
    assert dispersive(form="hinge", margin=0.5).resolved_margin == 0.5
    assert dispersive(positive="restricted", positive_gap=0.0).resolved_gap == 0.0


@pytest.mark.parametrize("form", FORMS)
def test_a_loss_at_its_floor_is_told_of(form):
    config = dispersive(form=form)
    assert config.warn({"above_floor": 0.5, "rms": 1.0}) is None
    assert f"the {form} loss is at its floor" in (config.warn({"above_floor": 1e-5}) or "")
    assert dispersive(form=form, positive="restricted").warn({"above_floor": 1e-5}) is None


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="'temperature' must be > 0"):
        dispersive(temperature=0.0)
    with pytest.raises(ValueError, match="give either tap"):
        DispersiveConfig()
    one = Facts(sample_shape=(1, 8, 8), output_channels=1, batch=1)
    with pytest.raises(ValueError, match='group = "global" with a global batch of 1 leaves fewer than 2'):
        dispersive(group="global").build(one)
    forty = Facts(sample_shape=(1, 8, 8), output_channels=1, batch=40)
    with pytest.raises(ValueError, match="a global batch of 40 is not whole groups of 16"):
        dispersive().build(forty)
    with pytest.raises(ValueError, match="a micro-batch of 24 is not whole groups of 16"):
        run(dispersive(), states(24))


def test_tap_fraction_finds_the_paper_block():
    config = DispersiveConfig(tap_fraction=0.25)
    assert run(config, states()).value < 0
    assert config.build(FACTS).taps == (3,)


CASES = [
    {},
    {"preset": "torch", "tap": "all"},
    {"group": "global"},
    *(
        {"form": form, "positive": positive} | ({"margin": 4.0} if form == "hinge" else {})
        for form in FORMS
        for positive in ("none", "independent", "restricted")
    ),
    {"form": "covariance", "pool": "mean"},
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_contract(options):
    check_objective(dispersive(**options))
