"""What SitConfig refuses, and what it declares without being built."""

import subprocess
import sys

import pytest

from genmem.contracts import Facts
from genmem_dit import SIZES, SitConfig

TINY = {"depth": 4, "width": 64, "heads": 4}


@pytest.mark.parametrize(
    "options", [{}, {"depth": 4}, {"depth": 4, "width": 64}, {"size": "S"} | TINY, {"size": "S", "heads": 6}]
)
def test_size_is_given_exactly_one_way(options):
    with pytest.raises(
        ValueError, match=r"give either size \(S, B, L, XL\) or all of depth, width and heads"
    ):
        SitConfig(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, r"multiple of 4 and of heads \(3\), got 64"),
        ({"width": 66, "heads": 2}, "multiple of 4"),
        ({"depth": 0}, "'depth' must be >= 1"),
        ({"patch": 0}, "'patch' must be >= 1"),
        ({"time_scale": 0.0}, "'time_scale' must be > 0"),
        ({"table_std": -1.0}, "'table_std' must be > 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SitConfig(**(TINY | change))


def test_patch_that_does_not_divide_is_refused():
    config = SitConfig(**TINY, patch=4)
    with pytest.raises(ValueError, match="patch = 4 does not divide samples of 8 x 6"):
        config.build(Facts(sample_shape=(1, 8, 6), output_channels=1))


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_every_patch_that_divides(patch):
    net = SitConfig(**TINY, patch=patch).build(Facts(sample_shape=(1, 8, 16), output_channels=1))
    assert net.grid == (8 // patch, 16 // patch)


def test_declarations():
    for name, size in SIZES.items():
        assert dict(SitConfig(size=name).tap_widths) == {k: size.width for k in range(1, size.depth + 1)}
    assert SitConfig(**TINY).consumes == {"label", "memory", "token-times"}
    assert SitConfig(**TINY, span=True).consumes == {"label", "memory", "token-times", "span"}


@pytest.mark.parametrize("plugin", ["genmem_dit", "genmem_flow", "genmem_solvers", "genmem_dispersive"])
def test_importing_the_plugin_does_not_import_torch(plugin):
    code = f"import {plugin}, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
