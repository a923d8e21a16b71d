"""Attention over a bank's rows without decoding them.

Shapes: B queries, E width, F coordinates (R + 1 in a low-rank bank, E in a raw one).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from genmem.attention import Chunk, log_sum_exp
from genmem.contracts import Attended, Hide, Metric
from genmem_bank.conditioning.frame import Frame


def attend_rows(
    frame: Frame | None,
    q_BE: Tensor,
    chunks: Iterable[Chunk],
    scale: float,
    hide: Hide | None,
    metric: Metric,
) -> Attended:
    """log-sum-exp over rows that come as coordinates in the frame, or as they are without one.

    Raises:
        ValueError: To hide by what the chunks do not say.
    """
    with torch.autocast(q_BE.device.type, enabled=False):
        q_BE = q_BE.float()
        if frame is None:
            return log_sum_exp(q_BE, chunks, scale, hide, metric)
        inside_BF = frame.project(q_BE)
        found = log_sum_exp(inside_BF, chunks, scale, hide, metric)
        if metric == "dot":
            return found
        # Rows have no part outside the frame, so what a query has there is as far from all of them.
        apart_B = (q_BE - frame.restore(inside_BF)).square().sum(1)
        return Attended(found.lse_B - scale * apart_B * (found.count_B > 0), found.count_B)
