"""Shards are fetched in the order of the plan, ahead of need, within the limit of the cache."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stmtrain.errors import ShardError, UsageError
from stmtrain.shards.cache import Cache
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.plan import Plan
from stmtrain.streaming.prefetch import ShardPrefetcher, window_bytes
from tests.shard_server import PER_SHARD, SHARDS, Server, open_set, pack_noise, serving, used


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


def make_plan(shard_set: Any, window: int | None, batch: int = 2) -> Plan:
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

    with ShardPrefetcher([shard_set], plan, limit=cache.limit, threads=1) as prefetch:
        prefetch.wait(0)
        assert set(shards_of(range(1))) <= set(fetched())
        wait_until(lambda: fetched() == shards_of(range(9)))
        time.sleep(0.1)
        assert fetched() == shards_of(range(9)) != shards_of(range(24))
        for step in range(1, 24):
            prefetch.wait(step)
        wait_until(lambda: fetched() == shards_of(range(33)))


def test_training_starts_before_all_is_here(server: Server, cache: Cache) -> None:
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=None, batch=1)
    shard = int(np.searchsorted(np.cumsum(shard_set.shard_sizes), plan.batch(0)[0].index, "right"))
    seen: list[tuple[int, int]] = []
    slow = {f"s-{i}.tar": ["stall"] * 9 for i in range(SHARDS) if i != shard}
    server.faults.update(slow)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit) as prefetch:
        prefetch.wait(0, lambda done, total, _note: seen.append((done, total)))
        assert seen[-1] == (1, 1)
        shard_set.read(plan.batch(0)[0].index)


def test_the_cache_stays_in_its_limit_over_epochs(server: Server, tmp_path: Path) -> None:
    """The limit leaves room for a shard that each thread fetches in vain, and for the step's two.

    It is checked at the end. Before, a file counts as soon as its fetch has begun, a moment before
    older files make room for it.
    """
    local = ShardSet.open(server.folder)
    cache = Cache(tmp_path / "small", 4 * max(s.bytes for s in local.manifest.shards) + 20_000)
    shard_set = open_set(server, cache)
    plan = make_plan(shard_set, window=PER_SHARD)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit, threads=2) as prefetch:
        prefetch.wait(0)
        for step in range(36):
            prefetch.advance(step)
            for ticket in plan.batch(step):
                assert shard_set.read(ticket.index) == local.read(ticket.index)
    for thread in threading.enumerate():
        if thread.name == "stm-fetch":
            thread.join(10)
    assert used(cache) <= cache.limit
    assert server.count("s-0.tar") > 1  # it had to leave


class Shelf:
    """Stands in for a shard set of twelve shards of one byte; notes which of them are held.

    The first two fetches do not end before ``gate`` is set.
    """

    remote = True
    shard_sizes = (4,) * 12
    manifest = SimpleNamespace(shards=[SimpleNamespace(bytes=1)] * 12)

    def __init__(self) -> None:
        self.gate, self.lock = threading.Event(), threading.Lock()
        self.fetching: list[int] = []
        self.held: set[int] = set()
        self.most = self.fetches = 0

    def __len__(self) -> int:
        return sum(self.shard_sizes)

    def read(self, index: int) -> None:
        """Hold the sample's shard, as a reader does."""
        self._hold(index // 4)

    def fetch(self, shard: int) -> None:
        with self.lock:
            self.fetching.append(shard)
            self.fetches += 1
            stuck = self.fetches <= 2
        if stuck:
            self.gate.wait(10)
        self._hold(shard)
        with self.lock:
            self.fetching.remove(shard)

    def release(self, shard: int) -> None:
        with self.lock:
            self.held.discard(shard)

    def _hold(self, shard: int) -> None:
        with self.lock:
            self.held.add(shard)
            self.most = max(self.most, len(self.held | set(self.fetching)))


def test_a_shard_that_is_fetched_in_vain_counts_until_its_fetch_ends() -> None:
    """Training passes two shards that slow threads still fetch; the third thread takes the rest."""
    shelf = Shelf()
    plan = make_plan(shelf, window=4)
    with ShardPrefetcher([shelf], plan, limit=6, threads=3) as prefetch:
        for step in range(60):
            prefetch.advance(step)
            wait_until(lambda: shelf.fetches > 2)
            for ticket in plan.batch(step):
                shelf.read(ticket.index)
            time.sleep(0.002)
        shelf.gate.set()
        prefetch.advance(60)
        wait_until(lambda: idle(prefetch))
        assert shelf.held == {shard for _, shard in prefetch._last}
    assert shelf.most <= 6


def idle(prefetch: ShardPrefetcher) -> bool:
    with prefetch._changed:
        return not prefetch._queue and not prefetch._fetching


def test_no_more_is_fetched_ahead_than_the_cache_holds(server: Server, tmp_path: Path) -> None:
    local = ShardSet.open(server.folder)
    largest = max(s.bytes for s in local.manifest.shards)
    limit = window_bytes(local, 1)
    assert 2 * largest < limit < 3 * largest
    cache = Cache(tmp_path / "small", limit)
    shard_set = open_set(server, cache)
    with ShardPrefetcher(
        [shard_set], make_plan(shard_set, window=1, batch=1), limit=limit
    ) as prefetch:
        prefetch.wait(0)
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
    with ShardPrefetcher([shard_set], plan, limit=cache.limit) as prefetch:
        prefetch.wait(0)
        with pytest.raises(ShardError, match=r"s-2.tar: not on the server"):
            shard_set.read(2 * PER_SHARD)


def test_an_unexpected_error_does_not_end_the_fetching(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard_set = open_set(server, cache)

    def broken(_shard: int) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(shard_set, "fetch", broken)
    plan = make_plan(shard_set, window=None, batch=SHARDS * PER_SHARD)
    with ShardPrefetcher([shard_set], plan, limit=cache.limit, threads=2) as prefetch:
        waiting = threading.Thread(target=prefetch.wait, args=(0,), daemon=True)
        waiting.start()
        waiting.join(10)
        assert not waiting.is_alive()
