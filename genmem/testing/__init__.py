"""Contract checks that a plugin author runs on their own component, in three lines.

    from genmem.testing import check_objective
    def test_mine():
        check_objective(MyConfig(tap=2))

Each check raises AssertionError saying what the contract asks and what was found. genmem's own
components pass through the same functions.
"""

from genmem.testing.backbone import check_backbone
from genmem.testing.edges import check_encoder, check_source, check_tokenizer
from genmem.testing.interpolant import check_interpolant
from genmem.testing.memory import ListMemory, check_memory
from genmem.testing.notifier import check_notifier
from genmem.testing.objective import check_objective, example_step
from genmem.testing.plugin import check_plugin
from genmem.testing.sampler import check_guidance, check_sampler

__all__ = [
    "ListMemory",
    "check_backbone",
    "check_encoder",
    "check_guidance",
    "check_interpolant",
    "check_memory",
    "check_notifier",
    "check_objective",
    "check_plugin",
    "check_sampler",
    "check_source",
    "check_tokenizer",
    "example_step",
]
