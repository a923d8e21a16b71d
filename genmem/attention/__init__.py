"""One pass over the rows of a memory: log-sum-exp with its gradient, and the closest rows.

For L_i = log Σ_j exp(s·q_i·k_j) the gradient is s·Σ_j p_ij k_j: attention with the keys as values.
A single streaming pass gives both, so rows are read once in a step, never in the backward, and no
(B, rows) tensor exists. Any layout may use it: it hands over its rows in chunks.
"""

from genmem.attention.chunks import Chunk, rows_at_once
from genmem.attention.neighbours import closest
from genmem.attention.passes import log_sum_exp

__all__ = ["Chunk", "closest", "log_sum_exp", "rows_at_once"]
