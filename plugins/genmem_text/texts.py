"""What every encoder here asks of its texts.

Shapes: B texts.
"""

from __future__ import annotations

import numpy as np


def check_texts(name: str, text_B: np.ndarray) -> None:
    """Refuse what is no batch of texts.

    Raises:
        ValueError: No NumPy array of strings (B,), or a text of blanks alone.
    """
    if text_B.dtype.kind != "U" or text_B.ndim != 1 or not len(text_B):
        raise ValueError(f"{name}: expected texts, (B,) of NumPy strings, got {text_B.dtype} {text_B.shape}")
    if any(not text.strip() for text in text_B.tolist()):
        raise ValueError(f"{name}: a text is empty")
