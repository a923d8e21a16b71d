"""Every hook a plugin may implement: one for each kind of component, and one for commands.

A hook takes nothing, returns a mapping. Examples begin: `import attrs`, `from genmem import hookimpl`.
"""

# ruff: noqa: F401

from genmem.host.hookspecs.data import (
    genmem_encoders,
    genmem_formats,
    genmem_sources,
    genmem_tokenizers,
)
from genmem.host.hookspecs.model import (
    genmem_backbones,
    genmem_guidances,
    genmem_interpolants,
    genmem_memories,
    genmem_objectives,
    genmem_samplers,
)
from genmem.host.hookspecs.session import (
    genmem_commands,
    genmem_notifiers,
)
