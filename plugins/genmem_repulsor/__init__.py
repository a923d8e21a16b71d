"""Repulsor: repulsion from a queue of the network's own past features.

Memory `queue` and objective `repulsor`. What is the paper's and what is ours: README.md.
"""

from genmem import hookimpl
from genmem.contracts import MemoryConfig, ObjectiveConfig
from genmem_repulsor.objective_config import RepulsorConfig
from genmem_repulsor.queue_config import QueueConfig

__all__ = ["QueueConfig", "RepulsorConfig"]


@hookimpl
def genmem_memories() -> dict[str, type[MemoryConfig]]:
    """The memories of this plugin."""
    return {"queue": QueueConfig}


@hookimpl
def genmem_objectives() -> dict[str, type[ObjectiveConfig]]:
    """The objectives of this plugin."""
    return {"repulsor": RepulsorConfig}
