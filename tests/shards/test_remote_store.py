"""Shards behind a URL: real servers on the loopback, with every fault that we could think of.

``gs://`` and ``hf://`` cannot be reached from a test: of the one only URLs are checked, the other
reads from a stand-in for its server.
"""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmdata.packing.pack import Job, pack
from stmtrain.errors import RemoteError, ShardError, StmError, UsageError
from stmtrain.shards.cache import Cache
from stmtrain.shards.client import Remote, Retry
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.remote_store import RemoteStore
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.shards.urls import parse_location, shown, split_weight
from stmtrain.streaming.plan import Plan
from stmtrain.streaming.prefetch import ShardPrefetcher, window_bytes
from stmtrain.training.setup import parse_shards
from tests.paths import ROOT
from tests.shard_server import Hub, Server, in_bucket, serving

SHARDS, PER_SHARD = 6, 4
QUICK = Retry(attempts=3, first=0.01, longest=0.02, timeout=5.0, piece=4096)


def _samples(job: Job) -> Iterator[Sample]:
    """Videos of two frames that hold noise: nothing here decodes them."""
    for number in range(PER_SHARD):
        data = np.random.default_rng([job.items[0], number]).bytes(3000)
        key, names = f"k{job.items[0]}-{number}", ("00000", "00001")
        record = SampleRecord(key, 1, 1, names, names, (1,), ((1, 1),), (1, 1))
        yield Sample(record, dict.fromkeys(names, data), dict.fromkeys(names, data[:100]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("remote") / "a"
    pack(out, [Job(f"s-{i}", (i,)) for i in range(SHARDS)], _samples, {"a": 1})
    return out


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**8)


def open_set(server: Server, cache: Cache, retry: Retry = QUICK) -> ShardSet:
    return ShardSet(RemoteStore(server.url, cache, retry))


def assert_same(remote: ShardSet, folder: Path) -> None:
    local = ShardSet.open(folder)
    assert remote.manifest_sha256 == local.manifest_sha256
    assert remote.shard_sizes == local.shard_sizes
    for index in range(len(local)):
        assert remote.read(index) == local.read(index)
        assert remote.where(index) == local.where(index)


def test_a_url_reads_as_its_folder_and_only_once(
    server: Server, cache: Cache, folder: Path
) -> None:
    assert_same(ShardSet.open(server.url, cache), folder)
    asked = list(server.asked)
    assert_same(ShardSet.open(server.url + "/", cache), folder)
    assert server.asked[len(asked) :] == [("manifest.json", 0)]


def test_opening_fetches_no_shard(server: Server, cache: Cache) -> None:
    open_set(server, cache)
    assert server.asked == [("manifest.json", 0)]


@pytest.mark.parametrize(
    "fault", ["503", "429", "drop", "cut", "cut without length", "flip", "stall", "no ranges"]
)
@pytest.mark.parametrize("name", ["manifest.json", "s-0.json", "s-0.tar"])
def test_a_fault_that_passes_changes_nothing(
    server: Server, cache: Cache, folder: Path, fault: str, name: str
) -> None:
    server.faults[name] = [fault]
    retry = replace(QUICK, timeout=0.3) if fault == "stall" else QUICK
    shard_set = open_set(server, cache, retry)
    assert shard_set.read(0) == ShardSet.open(folder).read(0)
    assert server.faults[name] == []


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("503", RemoteError, r"gave up after 3 attempts \(HTTP 503 at byte 0 of \d+\)"),
        ("drop", RemoteError, "gave up after 3 attempts"),
        ("cut", RemoteError, "gave up after 3 attempts"),
        ("stall", RemoteError, r"gave up after 3 attempts \(no answer within 0.2 s"),
        ("403", RemoteError, r"access refused \(HTTP 403\); check the credentials"),
        ("418", RemoteError, r"refused \(HTTP 418\)"),
        ("404", ShardError, "not on the server"),
        ("flip", ShardError, "expected sha256 {sha256}, found [0-9a-f]{{64}}"),
    ],
)
def test_a_fault_that_stays_ends_in_one_line(
    server: Server, cache: Cache, fault: str, kind: type[StmError], message: str
) -> None:
    server.faults["s-1.tar"] = [fault] * 100
    shard_set = open_set(server, cache, replace(QUICK, timeout=0.2))
    began = time.monotonic()
    with pytest.raises(kind) as error:
        shard_set.read(PER_SHARD)
    assert time.monotonic() - began < 5
    text = str(error.value)
    assert text.startswith(f"{server.url}/s-1.tar: ")
    assert "\n" not in text
    with pytest.raises(kind, match=message.format(sha256=shard_set.manifest.shards[1].sha256)):
        shard_set.read(PER_SHARD)
    shard_set.read(0)  # the others are fine


def test_a_wrong_hash_is_fetched_twice_and_no_more(server: Server, cache: Cache) -> None:
    server.faults["s-0.tar"] = ["flip"] * 100
    shard_set = open_set(server, cache, replace(QUICK, piece=10**6))
    for index in range(PER_SHARD):
        with pytest.raises(ShardError, match="expected sha256"):
            shard_set.read(index)
    assert server.count("s-0.tar") == 2


def test_a_dropped_connection_costs_one_piece(server: Server, cache: Cache) -> None:
    server.faults["s-0.tar"] = ["ok", "ok", "drop", "ok", "cut", "cut without length"]
    open_set(server, cache).read(0)
    starts = [first for name, first in server.asked if name == "s-0.tar"]
    assert starts[:7] == [0, 4096, 8192, 8192, 12288, 12288, 14336]  # what came is kept
    assert len(starts) == len(set(starts)) + 2


def test_a_server_without_ranges_sends_a_shard_once(server: Server, cache: Cache) -> None:
    server.faults["s-0.tar"] = ["no ranges"] * 100
    open_set(server, cache).read(0)
    assert server.count("s-0.tar") == 1


def test_a_fetch_that_was_killed_goes_on(server: Server, cache: Cache, folder: Path) -> None:
    shard_set = open_set(server, cache)
    entry = shard_set.manifest.shards[0]
    beginning = (folder / entry.name).read_bytes()[:5000]
    (cache.folder / f"{entry.sha256}.{entry.bytes}.part").write_bytes(beginning)
    assert shard_set.read(0) == ShardSet.open(folder).read(0)
    assert min(first for name, first in server.asked if name == "s-0.tar") == 5000


def test_a_server_that_is_not_there(tmp_path: Path, cache: Cache) -> None:
    with Server(tmp_path) as gone:
        url = gone.url
    with pytest.raises(RemoteError, match=rf"^{url}/manifest.json: gave up after 3 attempts"):
        RemoteStore(url, cache, QUICK).manifest()


def test_no_message_shows_a_secret(server: Server, cache: Cache) -> None:
    url = server.url.replace("//", "//me:hidden@") + "?signature=hidden"
    assert_same(ShardSet(RemoteStore(url, cache, QUICK)), server.folder)
    assert shown(url) == server.url
    for fault in ("503", "403", "404", "drop", "cut", "flip", "418", "stall"):
        empty = Cache(cache.folder / fault, 10**8)
        store = RemoteStore(url, empty, replace(QUICK, timeout=0.1, attempts=1))
        shard_set = ShardSet(store)
        server.faults = {"s-0.tar": [fault] * 100, "manifest.json": [fault] * 100}
        for fails in (partial(shard_set.read, 0), store.manifest):
            if (fault, fails) == ("flip", store.manifest):
                continue  # one flipped bit of white space
            with pytest.raises(StmError) as error:
                fails()
            assert "hidden" not in str(error.value)
            assert "signature" not in str(error.value)
        server.faults = {}


def test_what_a_backend_says_is_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:hidden@h/a?signature=hidden"
    remote = Remote(url, replace(QUICK, attempts=1))

    def fail(*_: object, **__: object) -> bytes:
        raise ValueError(f"cannot read '{url}'\nnor (https://h/b?signature=hidden) today")

    monkeypatch.setattr(remote._files, "cat_file", fail)
    with pytest.raises(RemoteError) as error:
        remote.read("x.json", bytes)
    assert "(ValueError: cannot read 'https://h/a' nor (https://h/b) today)" in str(error.value)
    assert "hidden" not in str(error.value)


def test_a_set_that_is_still_uploaded(server: Server, cache: Cache) -> None:
    server.faults["manifest.json"] = ["404"]
    with pytest.raises(ShardError, match=r"manifest.json: not on the server; .*\(manifest.json"):
        open_set(server, cache)


def test_waits_grow_and_differ() -> None:
    retry = Retry(first=1.0, longest=5.0)
    for failures, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (50, 5.0)):
        waits = [retry.wait(failures) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
        assert len(set(waits)) > 5


# Locations


@pytest.mark.parametrize(
    ("text", "location", "weight"),
    [
        ("shards/a", Path("shards/a"), 1.0),
        ("shards/a=0.5", Path("shards/a"), 0.5),
        ("dir:with/colon", Path("dir:with/colon"), 1.0),
        ("s3://bucket/a/", "s3://bucket/a", 1.0),
        ("s3://bucket/a=2", "s3://bucket/a", 2.0),
        ("gs://bucket/a=0.08", "gs://bucket/a", 0.08),
        ("hf://datasets/me/set@main/a=3", "hf://datasets/me/set@main/a", 3.0),
        ("https://h:8080/a?key=5", "https://h:8080/a?key=5", 1.0),
        ("https://h/a?x=1&key=5=0.5", "https://h/a?x=1&key=5", 0.5),
        ("https://h/a?sig=ab==", "https://h/a?sig=ab==", 1.0),
    ],
)
def test_locations_and_weights(text: str, location: Path | str, weight: float) -> None:
    assert parse_shards([text]) == ((location,), (weight,))


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h/a",
        "file:///a",
        "pipe:curl http://h/a.tar",
        "simplecache::s3://b/a",
        "zip://a::https://h/b.zip",
        "https://h/b::s3://b/a",
        "s3:///a",
        "memory://a",
    ],
)
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a"):
        ShardSet.open(text)
    if "///a" not in text:
        with pytest.raises(UsageError, match="s3://, gs://, hf://, https://, http://"):
            parse_location(text)


@pytest.mark.parametrize("text", ["a=x", "a=", "a=0", "a=-1", "a=nan", "s3://b/a=x"])
def test_wrong_weights_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shards"):
        parse_shards([text])


def test_weights_come_off_once() -> None:
    assert split_weight("a=b=0.5") == ("a=b", "0.5")


@pytest.mark.parametrize(
    ("scheme", "url", "path"),
    [
        ("gs", "gs://bucket/sets/a", "bucket/sets/a/manifest.json"),
        ("hf", "hf://datasets/me/set/a", "datasets/me/set/a/manifest.json"),
        ("s3", "s3://bucket/sets/a", "bucket/sets/a/manifest.json"),
    ],
)
def test_urls_of_each_kind_name_the_right_file(scheme: str, url: str, path: str) -> None:
    fsspec = pytest.importorskip("fsspec")
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        pytest.skip(str(error))
    remote = object.__new__(Remote)
    remote.url = url
    assert remote.where("manifest.json") == f"{url}/manifest.json"
    assert kind._strip_protocol(remote.where("manifest.json")) == path


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(_scheme: str, **_: Any) -> None:
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UsageError, match=r"gcsfs.*pip install 'stm-toolkit\[gcs\]'"):
        Remote("gs://bucket/a")


# Ahead of need


def make_plan(shard_set: ShardSet, window: int | None, batch: int = 2) -> Plan:
    return Plan((shard_set.shard_sizes,), (1.0,), seed=3, global_batch=batch, window=window)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_next_shards_of_the_plan_are_fetched(server: Server, cache: Cache) -> None:
    """With a small window, those of the first eight steps; the rest as training goes on."""
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=PER_SHARD, batch=1)
    ends = np.cumsum(shard_set.shard_sizes)

    def shards_of(steps: range) -> list[str]:
        indices = [ticket.index for step in steps for ticket in plan.batch(step)]
        numbers = np.searchsorted(ends, indices, side="right")
        return [f"s-{n}.tar" for n in dict.fromkeys(numbers.tolist())]

    def fetched() -> list[str]:
        return list(dict.fromkeys(name for name, _ in server.asked if name.endswith(".tar")))

    with ShardPrefetcher([shard_set], plan, limit=cache.limit, threads=1) as ahead:
        ahead.wait(0)
        assert set(shards_of(range(1))) <= set(fetched())
        wait_until(lambda: fetched() == shards_of(range(9)))
        time.sleep(0.1)
        assert fetched() == shards_of(range(9)) != shards_of(range(24))
        for step in range(1, 24):
            ahead.wait(step)
        wait_until(lambda: fetched() == shards_of(range(33)))


def test_training_starts_before_all_is_here(server: Server, cache: Cache) -> None:
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=None, batch=1)
    shard = int(np.searchsorted(np.cumsum(shard_set.shard_sizes), plan.batch(0)[0].index, "right"))
    seen = []
    slow = {f"s-{i}.tar": ["stall"] * 9 for i in range(SHARDS) if i != shard}
    server.faults.update(slow)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit) as ahead:
        ahead.wait(0, lambda here, needed: seen.append((here, needed)))
        assert seen[-1] == (1, 1)
        shard_set.read(plan.batch(0)[0].index)


def test_the_cache_stays_in_its_limit_over_epochs(server: Server, tmp_path: Path) -> None:
    sizes = ShardSet.open(server.folder).manifest.shards
    cache = Cache(tmp_path / "small", 4 * max(s.bytes for s in sizes) + 20_000)
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=PER_SHARD)
    local = ShardSet.open(server.folder)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit) as ahead:
        ahead.wait(0)
        for step in range(36):
            ahead.advance(step)
            for ticket in plan.batch(step):
                assert shard_set.read(ticket.index) == local.read(ticket.index)
            # A shard in use may be there beside a full cache.
            assert cache.used() <= cache.limit + max(s.bytes for s in sizes)
    shard_set.close()


def test_no_more_is_fetched_ahead_than_the_cache_holds(server: Server, tmp_path: Path) -> None:
    local = ShardSet.open(server.folder)
    largest = max(s.bytes for s in local.manifest.shards)
    limit = window_bytes(local, 1)
    assert 2 * largest < limit < 3 * largest
    cache = Cache(tmp_path / "small", limit)
    shard_set = open_set(server, cache)
    with ShardPrefetcher(
        [shard_set], make_plan(shard_set, window=1, batch=1), limit=limit
    ) as ahead:
        ahead.wait(0)
        time.sleep(0.2)
        assert 1 <= len({name for name, _ in server.asked if name.endswith(".tar")}) <= 2


def test_a_window_larger_than_the_cache_is_refused(server: Server, cache: Cache) -> None:
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=None)
    with pytest.raises(UsageError, match=r"window of all samples .*--cache-size"):
        ShardPrefetcher([shard_set], plan, limit=window_bytes(shard_set, None) - 1)
    ShardPrefetcher([ShardSet.open(server.folder)], plan, limit=0)  # folders need no cache


def test_a_failed_fetch_is_the_readers_error(server: Server, cache: Cache) -> None:
    server.faults["s-2.tar"] = ["404"] * 9
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, None, batch=SHARDS * PER_SHARD)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit) as ahead:
        ahead.wait(0)
        with pytest.raises(ShardError, match=r"s-2.tar: not on the server"):
            shard_set.read(2 * PER_SHARD)


# S3


@pytest.fixture
def bucket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The set in a bucket of a real S3 server on the loopback."""
    with in_bucket(folder, monkeypatch) as url:
        yield url


def test_s3_reads_as_its_folder(bucket: str, folder: Path, cache: Cache) -> None:
    assert_same(ShardSet(RemoteStore(bucket, cache, QUICK)), folder)
    with pytest.raises(ShardError, match=r"^s3://shards/sets/b/manifest.json: not on the server"):
        ShardSet.open("s3://shards/sets/b", cache)
    with pytest.raises(StmError, match=r"^s3://nothing/a/manifest.json: "):
        ShardSet.open("s3://nothing/a", cache)


def test_the_hub_reads_as_its_folder(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    with serving(folder, Hub) as server:
        endpoint = server.url.removesuffix("/sets/a")
        monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": endpoint, "token": False})
        url = "hf://datasets/me/set/sets/a"
        server.faults["s-0.tar"] = ["flip"]
        assert_same(ShardSet(RemoteStore(url, cache, QUICK)), folder)
        with pytest.raises(ShardError, match=rf"^{url}/b.json: not on the server"):
            Remote(url, QUICK).read("b.json", bytes)


# Several processes; training


_RANK = """
import sys, time
from pathlib import Path
from stmtrain.shards.cache import Cache
from stmtrain.shards.remote_store import RemoteStore
from stmtrain.shards.reader import ShardSet
shard_set = ShardSet(RemoteStore(sys.argv[1], Cache(Path(sys.argv[2]), 10**8)))
print("ready", flush=True)
input()
for index in range(len(shard_set)):
    assert shard_set.read(index).record
"""


def test_ranks_on_one_machine_fetch_each_shard_once(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _RANK, server.url, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    ranks = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for rank in ranks:
        assert rank.stdout.readline() == "ready\n"
    for rank in ranks:
        rank.stdin.write("go\n")
        rank.stdin.flush()
    for rank in ranks:
        rank.communicate(timeout=30)
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    for number in range(SHARDS):
        assert server.count(f"s-{number}.tar") == 1


def test_training_from_a_url_is_training_from_the_folder(
    davis_tree: Path, tmp_path: Path, server: Server
) -> None:
    import torch

    from stmdata.packing.videos import pack_davis
    from stmtrain.train import train
    from stmtrain.training.recipe import MAIN
    from stmtrain.training.setup import TrainOptions
    from stmtrain.weights.checkpoint import load_checkpoint

    server.folder = tmp_path / "a"
    pack_davis(davis_tree, 2017, "train", server.folder, workers=1, shard_bytes=1)
    recipe = replace(MAIN, size=32, batch_size=2, steps=2, schedule="constant")
    notes: list[str] = []

    def run(location: Path | str, out: str) -> dict[str, torch.Tensor]:
        run = TrainOptions((location,), (1.0,), tmp_path / out, "resnet18", "none", device="cpu",
                  cache=tmp_path / "cache", cache_size=0.01)  # fmt: skip
        path = train(run, recipe, lambda _done, _steps, note: notes.append(note))
        checkpoint = load_checkpoint(path)
        assert checkpoint.shard_sets[0]["manifest"] == ShardSet.open(server.folder).manifest_sha256
        return dict(checkpoint.model)

    local, remote = run(server.folder, "local"), run(server.url, "remote")
    fetched = [note for note in notes if "fetched" in note]
    assert re.match(r"fetched (\d+) of the first \1 shards", fetched[-1])
    assert all(torch.equal(remote[name], tensor) for name, tensor in local.items())
    resume = TrainOptions(
        (server.folder,), (1.0,), tmp_path / "remote", "resnet18", "none", device="cpu", resume=True
    )
    train(resume, replace(recipe, steps=3), lambda *_: None)  # a set that moved is the same set


def test_a_url_of_another_kind_is_wrong_usage(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    import cli

    command = ["train", "--shards", "ftp://me:hidden@h/a", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert result.stderr == (
        "stm: ftp://h/a: expected a folder or a URL that starts with one of s3://, gs://, hf://, "
        "https://, http://\n"
    )


def test_folders_load_no_fsspec() -> None:
    code = (
        "import sys, stmtrain.shards.reader, stmtrain.shards.cache, stmtrain.shards.remote_store, "
        "stmtrain.streaming.prefetch; "
        "sys.exit('fsspec' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
