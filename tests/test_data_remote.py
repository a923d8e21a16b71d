"""Sets at a URL: fetched whole, checked, kept in a bounded cache, read like any other."""

from __future__ import annotations

import functools
import http.server
import multiprocessing
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import fsspec
import numpy as np
import pytest
import torch
from data_fakes import SEVEN, FakeSourceConfig, fill, shape_latent, table, write_split

from genmem.data.dataset import Dataset, is_prepared, open_dataset
from genmem.data.errors import DataError
from genmem.data.format.manifest import Shard
from genmem.data.preparation import prepare
from genmem.data.streaming import remote
from genmem.data.streaming.cache import Cache
from genmem.data.streaming.mirror import Mirror
from genmem.data.streaming.remote import download, is_remote, read_url
from genmem.data.streaming.shards import ShardSet
from genmem.data.streaming.stream import Stream

SPEC = shape_latent()
TOTAL = sum(SEVEN)
LARGE = 1 << 30


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made")
    write_split(path / "train", SEVEN, views=2)
    write_split(path / "test", (4, 3), views=2, split="test")
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; what it is asked for is written down, and some of it answered badly."""

    asked: list[str]
    bad: dict[str, list[str]]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        kinds = self.bad.get(self.path.rsplit("/", 1)[-1], [])
        kind = kinds.pop(0) if kinds else ""
        if kind == "fail":
            self.send_error(503)
        elif kind in ("short", "other", "long"):
            body = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body[:700] if kind == "short" else bytes([body[0] ^ 1]) + body[1:]
            self.wfile.write(body + bytes(10) if kind == "long" else body)
        else:
            super().do_GET()


@pytest.fixture
def served(made: Path, tmp_path: Path) -> Iterator[tuple[str, type[Quiet], Path]]:
    folder = Path(shutil.copytree(made, tmp_path / "served"))
    handler = type("Handler", (Quiet,), {"asked": [], "bad": {}})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler, folder
    server.shutdown(), server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)


def tars(cache: Cache) -> list[Path]:
    return sorted((cache.folder / "shards").iterdir())


def open_train(url: str, cache: Cache, **more: Any) -> ShardSet:
    mirror = Mirror(url, cache, ("train", "test"))
    return ShardSet.open(mirror.folder / "train", storage=mirror.storage("train"), **more)


def test_a_set_at_a_url_is_the_set(served: tuple[str, type[Quiet], Path], made: Path, tmp_path: Path) -> None:
    url, handler, _ = served
    here, there = Dataset(made), Dataset(url, cache=Cache(tmp_path / "cache", LARGE))
    assert there.fingerprint() == here.fingerprint()
    assert not [path for path in handler.asked if path.endswith(".tar")]
    numbers, views = np.arange(TOTAL)[::-1], np.arange(TOTAL) % 2
    for field in ("x", "near"):
        a, b = (d.shards("train").read(field, numbers, views) for d in (here, there))
        assert np.array_equal(a, b)
    assert np.array_equal(here.feature("test", "near", 2, 6, 1), there.feature("test", "near", 2, 6, 1))
    fetched = [path for path in handler.asked if path.endswith(".tar")]
    assert len(fetched) == len(set(fetched)) == 9
    # Another run finds everything in the cache but the manifests, which are always asked for.
    handler.asked.clear()
    Dataset(url, cache=Cache(tmp_path / "cache", LARGE)).shards("train").read("x", numbers)
    assert sorted(handler.asked) == ["/test/manifest.json", "/train/manifest.json"]


def test_fsspec_reads_what_is_no_http(made: Path, tmp_path: Path) -> None:
    bucket = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(str(made), bucket, recursive=True)
    dataset = Dataset(bucket, cache=Cache(tmp_path / "cache", LARGE))
    x = dataset.shards("train").read("x", np.arange(TOTAL))
    assert np.array_equal(x, fill(TOTAL, SPEC, 2)["x"])
    dataset = Dataset(made.as_uri() + "/", cache=Cache(tmp_path / "other", LARGE))
    assert np.array_equal(dataset.shards("train").read("x", np.arange(TOTAL)), x)


def test_a_recipe_may_name_a_url(served: tuple[str, type[Quiet], Path], tmp_path: Path) -> None:
    url, _, folder = served
    shutil.rmtree(folder / "train"), shutil.rmtree(folder / "test")
    prepare(table(folder, FakeSourceConfig(train=30)))
    data = table(Path(), FakeSourceConfig(train=30), cache=str(tmp_path / "cache"))
    data = attrs.evolve(data, path=url)
    assert is_prepared(data.path)
    assert prepare(data).count("train") == open_dataset(data).count("train") == 30
    assert (tmp_path / "cache" / "shards").is_dir()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_of_a_url_is_the_stream_of_the_folder(
    served: tuple[str, type[Quiet], Path], made: Path, tmp_path: Path, workers: int
) -> None:
    url, _, _ = served
    dealt: dict[str, Any] = {"seed": 3, "batch": 6, "lanes": 2, "window": 2}
    here = Stream(ShardSet.open(made / "train"), SPEC, **dealt)
    streams = [
        Stream(
            open_train(url, Cache(tmp_path / f"cache{rank}", LARGE)),
            SPEC, rank=rank, world=2, workers=workers, **dealt,
        )
        for rank in range(2)
    ]  # fmt: skip
    for step in range(14):
        (expected,) = here.batches(step)
        found = [batch for stream in streams for batch in stream.batches(step)]
        assert torch.equal(torch.cat([b.index_B for b in found]), expected.index_B)
        assert torch.equal(torch.cat([b.x for b in found]), expected.x)
    for stream in streams:
        stream.close()


def test_a_process_fetches_the_shards_of_its_lanes_only(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, handler, _ = served
    first = Stream(
        open_train(url, Cache(tmp_path / "cache", LARGE)), SPEC,
        seed=3, batch=6, lanes=6, window=1, world=6,
    )  # fmt: skip
    # One lane of six in an epoch of 40: 6 or 7 samples, out of at most four of the seven shards.
    for step in range(6):
        first._fetch(step)
    assert 1 <= len([path for path in handler.asked if path.endswith(".tar")]) <= 4


def test_shards_are_fetched_before_they_are_needed(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, handler, _ = served
    stream = Stream(
        open_train(url, Cache(tmp_path / "cache", LARGE)), SPEC, seed=3, batch=2, lanes=1, window=1
    )
    stream.batches(0)
    assert stream._prefetch is not None and stream._prefetch._running is not None
    stream._prefetch._running.result(timeout=30)
    stream.close()
    # A window is one shard, the largest has 12 samples, which are six steps and one more.
    order = stream.order.locate(np.arange(0, 2 * 8))[1]
    expected = {f"/train/{s:06d}.tar" for s in stream.shards.shard_of(order).tolist()}
    assert {path for path in handler.asked if path.endswith(".tar")} == expected


def test_the_cache_is_bounded_and_what_was_used_longest_ago_goes(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, _, folder = served
    sizes = {path.name: path.stat().st_size for path in (folder / "train").glob("*.tar")}
    limit = sum(sorted(sizes.values())[-3:])
    cache = Cache(tmp_path / "cache", limit)
    shards = open_train(url, cache)
    expected = fill(TOTAL, SPEC, 2)["x"]
    rng = np.random.default_rng(0)
    for _ in range(40):
        numbers = rng.integers(0, TOTAL, 3)
        assert np.array_equal(shards.read("x", numbers), expected[numbers])
        assert sum(path.stat().st_size for path in tars(cache)) <= limit
    assert shards.storage.most_open == 1
    # Used just now, so not the one to go: shards 0 and 1 are small.
    for shard in (0, 1, 4, 0, 2):
        shards.storage.open(shards.manifest.shards[shard])
    held = {path.name.split(".")[0] for path in tars(cache)}
    assert shards.manifest.shards[0].sha256 in held and shards.manifest.shards[2].sha256 in held


def test_a_shard_larger_than_the_cache_is_refused(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    shards = open_train(served[0], Cache(tmp_path / "cache", 5000))
    with pytest.raises(DataError, match=r"\d+ bytes, the cache holds data.cache_bytes = 5000; allow it more"):
        shards.read("x", np.arange(TOTAL))


@pytest.mark.parametrize(
    ("window", "limit", "message"),
    [
        (None, LARGE, "data.window must be given for a set at a URL"),
        (3, 150_000, r"6 shards are in use at once .* data.cache_bytes = 150000; allow more"),
    ],
)
def test_a_window_that_cannot_be_served_is_refused(
    served: tuple[str, type[Quiet], Path], tmp_path: Path, window: int | None, limit: int, message: str
) -> None:
    stream = Stream(
        open_train(served[0], Cache(tmp_path / "cache", limit)), SPEC, seed=0, batch=4, lanes=2, window=window
    )
    with pytest.raises(ValueError, match=message):
        stream.batches(0)


@pytest.mark.parametrize("kind", ["fail", "short", "other", "long"])
def test_what_goes_wrong_once_is_tried_again(
    served: tuple[str, type[Quiet], Path], tmp_path: Path, kind: str
) -> None:
    url, handler, _ = served
    handler.bad["000004.tar"] = [kind] * (remote.ATTEMPTS - 1)
    shards = open_train(url, Cache(tmp_path / "cache", LARGE))
    assert np.array_equal(shards.read("x", np.arange(TOTAL)), fill(TOTAL, SPEC, 2)["x"])
    assert len([path for path in handler.asked if path.endswith("000004.tar")]) == remote.ATTEMPTS


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("short", r"000004.tar: 700 bytes, the manifest says \d+: truncated, or another file"),
        ("fail", r"000004.tar: 4 attempts failed, the last with: .*503.*; check the network"),
        (
            "other",
            r"000004.tar: sha256 \w+, the manifest says \w+: damaged, or another file; upload it again",
        ),
    ],
)
def test_what_goes_wrong_every_time_is_named_and_leaves_nothing(
    served: tuple[str, type[Quiet], Path], tmp_path: Path, kind: str, message: str
) -> None:
    url, handler, _ = served
    handler.bad["000004.tar"] = [kind] * 100
    cache = Cache(tmp_path / "cache", LARGE)
    stream = Stream(open_train(url, cache), SPEC, seed=0, batch=TOTAL, workers=2, window=2)
    for _ in range(2):
        with pytest.raises(DataError, match=message):
            stream.batches(0)
    stream.close()
    assert {path.suffix for path in tars(cache)} <= {".tar"}


def test_a_shard_that_vanished_is_named_and_may_be_skipped_a_silent_server_not(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, handler, folder = served
    (folder / "train" / "000001.tar").unlink()
    with pytest.raises(DataError, match=r"train/000001.tar: not there: .*404.*; upload it again, or mend"):
        open_train(url, Cache(tmp_path / "a", LARGE)).read("x", np.arange(TOTAL))
    stream = Stream(
        open_train(url, Cache(tmp_path / "b", LARGE), tolerant=True), SPEC, seed=0, batch=20, window=2, skip=5
    )
    numbers = torch.cat([stream.batches(step)[0].index_B for step in range(2)]).tolist()
    stream.close()
    assert len(numbers) == TOTAL and 5 not in numbers
    handler.bad["000004.tar"] = ["fail"] * 100
    stream = Stream(
        open_train(url, Cache(tmp_path / "c", LARGE), tolerant=True),
        SPEC,
        seed=0,
        batch=40,
        window=2,
        skip=99,
    )
    with pytest.raises(DataError, match="4 attempts failed"):
        stream.batches(0)
    stream.close()


def test_a_missing_set_is_named(served: tuple[str, type[Quiet], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/nowhere/train/manifest.json: not there"):
        Dataset(f"{served[0]}/nowhere", cache=Cache(tmp_path / "cache", LARGE))


def test_a_new_upload_is_never_mistaken_for_the_old(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, _, folder = served
    cache = Cache(tmp_path / "cache", LARGE)
    old = open_train(url, cache)
    old.read("x", np.arange(TOTAL))
    arrays = fill(TOTAL, SPEC, 2)
    write_split(folder / "train", SEVEN, views=2, arrays=arrays | {"x": arrays["x"] * 2})
    assert np.array_equal(open_train(url, cache).read("x", np.arange(TOTAL)), arrays["x"] * 2)
    assert np.array_equal(old.read("x", np.arange(TOTAL)), arrays["x"])


def test_a_cached_shard_that_was_cut_is_fetched_again(
    served: tuple[str, type[Quiet], Path], tmp_path: Path
) -> None:
    url, _, _ = served
    cache = Cache(tmp_path / "cache", LARGE)
    open_train(url, cache).read("x", np.arange(TOTAL))
    for path in tars(cache):
        os.truncate(path, 100)
    assert np.array_equal(open_train(url, cache).read("x", np.arange(TOTAL)), fill(TOTAL, SPEC, 2)["x"])


def entry(number: int, size: int) -> Shard:
    return Shard(name=f"{number}.tar", samples=1, bytes=size, sha256=f"{number:064x}", fields=())


def test_one_of_many_threads_fetches_and_the_others_wait(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    fetched: list[Path] = []
    started = threading.Event()

    def fetch(path: Path) -> None:
        fetched.append(path)
        started.wait(0.2)
        path.write_bytes(bytes(400))

    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(lambda _: cache.open(entry(7, 400), fetch), range(8)))
    assert len(fetched) == 1
    assert {os.fstat(file.number).st_size for file in files} == {400}


def test_downloads_at_once_wait_for_room_and_none_of_them_is_evicted(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    lock, running, most = threading.Lock(), [0], [0]

    def fetch(path: Path) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.03)
        path.write_bytes(bytes(400))
        with lock:
            running[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: cache.open(entry(n << 248, 400), fetch), range(12)))
    # There is room for two; no more are ever under way.
    assert most[0] <= 2 and len(tars(cache)) <= 2


def test_use_keeps_a_shard_in_the_cache(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)
    for number in (1, 2, 1, 3):
        cache.open(entry(number << 248, 400), lambda path: path.write_bytes(bytes(400)) and None)
    assert {int(path.name[:64], 16) >> 248 for path in tars(cache)} == {1, 3}


def _die_while_fetching(folder: Path) -> None:
    def fetch(path: Path) -> None:
        path.with_name(path.name + ".partial").write_bytes(bytes(10))
        os._exit(1)

    Cache(folder, 1000).open(entry(1 << 248, 700), fetch)


def test_what_a_killed_process_left_makes_room(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_while_fetching, args=(tmp_path,))
    process.start(), process.join()
    cache = Cache(tmp_path, 1000)
    assert sorted(path.suffix for path in tars(cache)) == [".partial", ".room"]
    cache.open(entry(2 << 248, 600), lambda path: path.write_bytes(bytes(600)) and None)
    assert [path.name for path in tars(cache)] == [f"{2 << 248:064x}.600.tar"]


@pytest.mark.parametrize(
    "path",
    ["pipe:cat x", "ftp://host/x", "simplecache::s3://bucket/x", "git://x/y", "s3://:x", "http://a b"],
)
def test_other_addresses_are_refused(path: str) -> None:
    with pytest.raises(DataError, match="URLs that are read begin with http, https, s3"):
        is_remote(path)


def test_folders_are_no_addresses() -> None:
    assert not is_remote("data/set") and not is_remote("/data/a:b") and is_remote("s3://bucket/set")


def test_sizes_are_bounded_while_reading(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(5000))
    url = (tmp_path / "big").as_uri()
    with pytest.raises(DataError, match="more than 4999 bytes"):
        read_url(url, 4999)
    assert len(read_url(url, 5000)) == 5000
    with pytest.raises(DataError, match="more than 100 bytes"):
        download(url, tmp_path / "copy", 100, "0" * 64, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(*args: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "open", miss)
    with pytest.raises(DataError, match=r"s3://bucket/x: Install s3fs .*: pip install 'genmem\[remote\]'"):
        read_url("s3://bucket/x", 10)
