"""Files at URLs: fetched whole, checked, and complete or absent."""

from __future__ import annotations

import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, TypeVar

from genmem.data.errors import DamagedFile, DataError
from genmem.data.files import replace_file

T = TypeVar("T")

SCHEMES = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "hf", "sftp", "file", "memory")
ATTEMPTS = 4
_URL = re.compile(r"([a-z0-9]+)://[^:]\S*")
_PATIENCE_S = 60.0
_CHUNK = 1 << 20


def is_remote(path: str) -> bool:
    """Whether this is a URL.

    Raises:
        DataError: One of a kind that is not read.
    """
    if "://" not in path and not path.startswith("pipe:"):
        return False
    match = _URL.fullmatch(path)
    if match is None or match[1] not in SCHEMES:
        raise DataError(f"data.path = {path!r}: URLs that are read begin with {', '.join(SCHEMES)}, then ://")
    return True


def read_url(url: str, most: int, wait_s: float = 1.0) -> bytes:
    """A small file.

    Raises:
        DamagedFile: It is not there, or has more than `most` bytes.
        DataError: It cannot be had.
    """
    return _retry(lambda: _read_once(url, most), url, wait_s)


def download(url: str, path: Path, size: int | None, sha256: str, most: int, wait_s: float = 1.0) -> None:
    """Put the file at `url` under the name `path`, if it is the one meant.

    Args:
        url: Where it lies.
        path: Its name, taken only when it is whole and right.
        size: Its bytes; None: not known.
        sha256: In hex.
        most: Bytes it may have at most, where the size is not known.
        wait_s: Seconds before the second attempt; twice that before the third, and so on.

    Raises:
        DamagedFile: It is not there, or it is another one, after `ATTEMPTS` attempts.
        DataError: It cannot be had, after as many.
    """
    _retry(lambda: _download_once(url, path, size, sha256, most), url, wait_s)


def _retry(call: Callable[[], T], url: str, wait_s: float) -> T:
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except FileNotFoundError as error:
            raise DamagedFile(f"{url}: not there: {error}; upload it again, or mend data.path") from error
        except ImportError as error:
            raise DataError(f"{url}: {error}: pip install 'genmem[remote]'") from error
        except (OSError, HTTPException, DamagedFile) as error:
            last = error
        if attempt + 1 < ATTEMPTS:
            time.sleep(wait_s * 2**attempt)
    if isinstance(last, DamagedFile):
        raise last
    raise DataError(
        f"{url}: {ATTEMPTS} attempts failed, the last with: {last!r}; check the network and the address, "
        "then run the same command again"
    ) from last


def _read_once(url: str, most: int) -> bytes:
    with _open(url) as stream:
        content: bytes = stream.read(most + 1)
    if len(content) > most:
        raise DamagedFile(f"{url}: more than {most} bytes")
    return content


def _download_once(url: str, path: Path, size: int | None, sha256: str, most: int) -> None:
    limit, digest, found = most if size is None else size, hashlib.sha256(), 0
    with _open(url) as stream, replace_file(path) as file:
        while chunk := stream.read(_CHUNK):
            found += len(chunk)
            if found > limit:
                raise DamagedFile(f"{url}: more than {limit} bytes, which is not the file that is meant")
            digest.update(chunk)
            file.write(chunk)
        if size is not None and found != size:
            raise DamagedFile(f"{url}: {found} bytes, the manifest says {size}: truncated, or another file")
        if digest.hexdigest() != sha256:
            raise DamagedFile(
                f"{url}: sha256 {digest.hexdigest()}, the manifest says {sha256}: damaged, or another file; "
                "upload it again"
            )


@contextmanager
def _open(url: str) -> Iterator[IO[bytes]]:
    if url.startswith(("http://", "https://")):
        # The standard library, so that no extra is needed; fsspec's needs two.
        try:
            with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise FileNotFoundError(f"the server says {error}") from error
            raise
        return
    import fsspec

    with fsspec.open(url, "rb") as stream:
        yield stream
