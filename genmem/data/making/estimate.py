"""What a set will take on the disk, from the form of one sample."""

from __future__ import annotations

from collections.abc import Mapping

from genmem.data.format.inspection import record_size
from genmem.data.format.manifest import Form
from genmem.data.format.npy import npy_header

_BLOCK = 512


def member_bytes(content: int) -> int:
    """Bytes of a file inside a tar: a header of one block, and the content filled up to whole ones."""
    return _BLOCK + -(-content // _BLOCK) * _BLOCK


def sample_bytes(forms: Mapping[str, Form], views: int, *, label: bool) -> int:
    """Bytes of one sample in its tar."""
    arrays = sum(member_bytes(len(npy_header(form)) + record_size(form)) for form in forms.values())
    return views * arrays + (member_bytes(1) if label else 0)


def describe_size(forms: Mapping[str, Form], views: int, samples: int, *, label: bool) -> str:
    """Lines for a person: every field of a sample, the sample, the whole set."""
    rows = [(name, form.dtype, str(form.shape), f"{record_size(form):,}") for name, form in forms.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:>{widths[3]}} bytes"
        for row in rows
    ]
    each = sample_bytes(forms, views, label=label)
    twins = "each in 2 views, " if views == 2 else ""
    lines.append(
        f"{twins}{each:,} bytes a sample in its tar, {show_bytes(each * samples)} for {samples:,} samples"
    )
    return "\n".join(lines)


def show_bytes(count: float) -> str:
    """Bytes in the unit that suits them, powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
