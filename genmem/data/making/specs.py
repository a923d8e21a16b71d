"""How x follows from what is stored: settled when a set is prepared, compared when it is used."""

from __future__ import annotations

import numpy as np

from genmem.contracts import LatentSpec, TokenizerConfig
from genmem.data.errors import DataError

DTYPES = {"fp32": "float32", "fp16": "float16"}


def stored_dtype(dtype: str, precision: str | None) -> str:
    """The type that values of `dtype` are stored in: integers stay, floats follow `data.precision`."""
    return DTYPES[precision] if precision and np.dtype(dtype).kind == "f" else dtype


def settle_spec(
    tokenizer: TokenizerConfig, decoder: LatentSpec, given: LatentSpec | None, precision: str | None
) -> LatentSpec:
    """The spec of a set about to be prepared.

    Args:
        tokenizer: The recipe's.
        decoder: What it says of pictures of this size.
        given: What a source of latents says of them; None where pictures are encoded.
        precision: The recipe's.

    Raises:
        DataError: Latents that the tokenizer does not decode, or whose scale nobody knows.
    """
    spec = decoder if given is None else _settle_given(tokenizer, decoder, given)
    return spec._replace(dtype=stored_dtype(spec.dtype, precision))


def _settle_given(tokenizer: TokenizerConfig, decoder: LatentSpec, given: LatentSpec) -> LatentSpec:
    if tokenizer.shows_any:
        if not given.scale:
            raise DataError(
                "data.source: the scale of these latents is not known; give scale and shift, or a tokenizer "
                "that decodes them"
            )
        return given
    pairs: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {"shape": (given.shape, decoder.shape)}
    if given.scale:
        pairs |= {"scale": (given.scale, decoder.scale), "shift": (given.shift, decoder.shift)}
    for key, (of_source, of_decoder) in pairs.items():
        if not _alike(of_source, of_decoder):
            raise DataError(
                f"data.source gives latents of {key} {of_source}, data.tokenizer decodes {key} {of_decoder}; "
                "name the tokenizer they were made with"
            )
    return given._replace(
        tokenizer=decoder.tokenizer, weights=decoder.weights, scale=decoder.scale, shift=decoder.shift
    )


def find_difference(stored: LatentSpec, tokenizer: TokenizerConfig, decoder: LatentSpec) -> str:
    """Why a recipe's tokenizer is not the one of a prepared set; empty where it is.

    What is stored (a precision, moments or a draw) is the set's own affair; how x is decoded is not.
    """
    if tokenizer.shows_any:
        return ""
    keys = ("tokenizer", "shape", "scale", "shift", "weights")
    return next((key for key in keys if getattr(stored, key) != getattr(decoder, key)), "")


def _alike(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    lengths = {len(first), len(second)}
    return (len(lengths) == 1 or 1 in lengths) and bool(np.allclose(first, second, rtol=1e-5, atol=1e-7))
