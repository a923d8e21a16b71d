"""npy arrays in memory: a header is parsed once a field, and pickle never runs."""

from __future__ import annotations

import io
import math
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy_format

from genmem.data.errors import DataError
from genmem.data.format.manifest import Form

_LONGEST_HEADER = 4096


def npy_header(form: Form) -> bytes:
    """The bytes in front of a sample's values."""
    stream = io.BytesIO()
    described = {"descr": np.dtype(form.dtype).str, "fortran_order": False, "shape": form.shape}
    npy_format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def split_header(record: memoryview, where: str, kinds: str = "iuf") -> tuple[bytes, Form]:
    """The header of an npy file, and the array it announces.

    Args:
        record: The whole file.
        where: Names it in errors.
        kinds: NumPy's letters for the types that are read.

    Raises:
        DataError: No npy, another type, Fortran order, or another length than announced.
    """
    stream = io.BytesIO(bytes(record[:_LONGEST_HEADER]))
    try:
        version = npy_format.read_magic(stream)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not an npy array: {error}") from error
    if min(shape, default=0) < 0:
        raise DataError(f"{where}: not an npy array: its shape is {shape}")
    if dtype.kind not in kinds:
        raise DataError(f"{where}: an array of {dtype}; only plain numbers are read")
    if fortran and len(shape) > 1:
        raise DataError(f"{where}: an array in Fortran order; store it in C order")
    header = bytes(record[: stream.tell()])
    expected = len(header) + math.prod(shape) * dtype.itemsize
    if len(record) != expected:
        raise DataError(f"{where}: {len(record)} bytes, but its header announces {expected}")
    return header, Form(dtype.str, tuple(shape))
