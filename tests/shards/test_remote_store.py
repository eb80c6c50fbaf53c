"""Shards behind a URL: real servers on the loopback, with every fault that we could think of.

``gs://`` and ``hf://`` cannot be reached from a test: of the one only URLs are checked, the other
reads from a stand-in for its server.
"""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stmtrain.errors import RemoteError, ShardError, StmError
from stmtrain.shards import client
from stmtrain.shards.cache import Cache
from stmtrain.shards.client import Remote
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.remote_store import RemoteStore
from stmtrain.shards.urls import shown
from tests.paths import ROOT
from tests.shard_server import (
    PER_SHARD,
    QUICK,
    SHARDS,
    Hub,
    Server,
    in_bucket,
    open_set,
    pack_noise,
    serving,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_noise(tmp_path_factory.mktemp("remote") / "a")


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**8)


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


def test_a_server_without_ranges_may_send_so_much_and_no_more(
    server: Server, cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (folder / "s-0.tar").stat().st_size
    monkeypatch.setattr(client, "MAX_WHOLE", size)
    server.faults["s-0.tar"] = ["no ranges"] * 100
    open_set(server, cache).read(0)
    monkeypatch.setattr(client, "MAX_WHOLE", size - 1)
    server.faults["s-1.tar"] = ["no ranges"] * 100
    with pytest.raises(RemoteError, match=r"s-1.tar: .* ignores byte ranges"):
        open_set(server, cache).read(PER_SHARD)


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


def test_a_set_that_is_still_uploaded(server: Server, cache: Cache) -> None:
    server.faults["manifest.json"] = ["404"]
    with pytest.raises(ShardError, match=r"manifest.json: not on the server; .*\(manifest.json"):
        open_set(server, cache)


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
from stmtrain.shards import client
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

    from stmtrain.train import train
    from stmtrain.training.recipe import MAIN
    from stmtrain.training.setup import TrainOptions
    from stmtrain.weights.checkpoint import load_checkpoint
    from tests.sets import pack_davis

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
