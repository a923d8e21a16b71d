"""Counter-based random numbers: row i depends on (seed, purpose, index[i], round[i]) alone.

No generator has a state, so no result depends on rank, batch split, worker count or restart.
The numbers are Philox4x32-10's (Salmon et al., SC 2011): the key is a hash of seed and purpose,
the counter is (block, round, index low, index high), so no two draws ever share a number.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_ROUNDS = 10


@lru_cache(maxsize=4096)
def key_of(seed: int, purpose: str) -> tuple[int, int]:
    """Two 32-bit key words from a seed and a purpose."""
    digest = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four 32-bit words (in int64 tensors) for each counter of four such words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap, but their low 64 bits are right, and only those are kept.
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _WORD) ^ c1 ^ k0,
            p1 & _WORD,
            ((p0 >> 32) & _WORD) ^ c3 ^ k1,
            p0 & _WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


class Draws:
    """Random numbers for B rows, each with its own identity."""

    def __init__(self, seed: int, index_B: Tensor, round_B: Tensor | None = None) -> None:
        """Draws of `seed` for rows `index_B` (int64), in their `round_B` (an epoch; 0 if absent)."""
        self.seed = seed
        self.index_B = index_B
        self.round_B = torch.zeros_like(index_B) if round_B is None else round_B

    def __len__(self) -> int:
        return len(self.index_B)

    def words(self, purpose: str, count: int) -> Tensor:
        """(B, count) 32-bit words in int64."""
        blocks = torch.arange((count + 3) // 4, device=self.index_B.device)[None, :]
        index = self.index_B[:, None]
        counter = (blocks, self.round_B[:, None] & _WORD, index & _WORD, (index >> 32) & _WORD)
        out = torch.stack(philox(counter, key_of(self.seed, purpose)), -1)
        return out.flatten(1)[:, :count]

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) fp32 in [0, 1): multiples of 2^-24."""
        return self._shaped(self.words(purpose, math.prod(shape)) >> 8, shape).float() * 2.0**-24

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) fp32, standard normal (Box and Muller's transform of two 32-bit words)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        words = self.words(purpose, 2 * half).view(len(self), 2, half)
        # (w + 1/2) / 2^32 lies in (0, 1), so the logarithm is finite: |normal| < 6.8.
        radius = ((words[:, 0].double() + 0.5) * 2.0**-32).log().mul(-2.0).sqrt().float()
        angle = words[:, 1].float() * (2.0 * math.pi * 2.0**-32)
        pair = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return self._shaped(pair[:, :count], shape)

    def integers(self, purpose: str, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
        """(B, *shape) int64 in 0 … high - 1; `high` up to 2^31, with a bias below high / 2^32."""
        if isinstance(high, int) and not 0 < high <= 2**31:
            raise ValueError(f"high must be in 1 … 2^31, got {high}")
        return (self._shaped(self.words(purpose, math.prod(shape)), shape) * high) >> 32

    def _shaped(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        return flat.reshape(len(self), *shape)
