"""Fetch shards ahead of need: the plan says which ones the next steps read, threads bring them.

Only for sets behind a URL. The plan is followed up to a window ahead of training, in order of first
need, as long as what is needed fits in the cache; shards that the steps ahead do not need are let
go. Nothing depends on it but time: a shard that is not here yet is fetched by whoever reads it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Condition, Thread
from typing import Self

import numpy as np

from stmtrain.errors import StmError, UsageError
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.plan import Plan

__all__ = ["ShardPrefetcher", "window_bytes"]

_MOST_AHEAD = 1 << 16  # samples of the stream; following the plan takes about 10 us for each
_LEAST_STEPS = 8

Shard = tuple[int, int]
"""Position of the source in the plan, and of the shard in the source's manifest."""


def window_bytes(shard_set: ShardSet, window: int | None) -> int:
    """Return about how many bytes the shards of one shuffle window take.

    Counts the window's samples at their mean size, and a shard at each end that it cuts.
    """
    shards = shard_set.manifest.shards
    total, samples = sum(shard.bytes for shard in shards), max(1, len(shard_set))
    if window is None or window >= samples:
        return total
    return min(total, total * window // samples + 2 * max(shard.bytes for shard in shards))


class ShardPrefetcher:
    """Threads that fetch what the plan reads next.

    Call :meth:`advance` with each step. Errors are left to the reader: a shard that could not be
    fetched here is tried once more when it is read.

    Example:
        >>> with FetchAhead(sets, plan, limit=cache.limit) as ahead:  # doctest: +SKIP
        ...     ahead.wait(start)
        ...     for batch in loader:
        ...         ahead.advance(batch.step)
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        plan: Plan,
        *,
        limit: int,
        stop: int | None = None,
        rank: int = 0,
        world: int = 1,
        threads: int = 4,
    ) -> None:
        """Check that the windows fit in the cache; nothing is fetched before the first step.

        Args:
            sets: The plan's sources, in its order; those in folders are left alone.
            plan: Says which samples make up which step.
            limit: Bytes of the cache.
            stop: The step before which training ends.
            rank: This process, in ``[0, world)``.
            world: Processes that share each global batch.
            threads: Shards fetched at a time.

        Raises:
            UsageError: The windows are larger than the cache, so that each shard would be fetched
                many times.
        """
        needed = sum(window_bytes(s, plan.window) for s in sets if s.remote)
        if needed > limit:
            raise UsageError(
                f"a shuffle window of {plan.window or 'all'} samples reads about "
                f"{needed / 1e9:.3g} GB of shards at a time, the cache may hold "
                f"{limit / 1e9:.3g} GB; give it more with --cache-size, or --set window=N"
            )
        self._sets, self._limit, self._stop = tuple(sets), limit, stop
        self._plan = replace(plan)  # its caches follow one place; the loader is at another
        self._rank, self._world, self._count = rank, world, threads
        self._ends = [np.cumsum(s.shard_sizes) for s in sets]
        self._last: dict[Shard, int] = {}  # the last known step that needs a shard
        self._queue: list[Shard] = []
        self._here: set[Shard] = set()
        self._step = self._walked = 0
        self._bytes = 0
        self._changed = Condition()
        self._threads: list[Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def advance(self, step: int) -> None:
        """Training is at ``step``: let go of what was before it and fetch what comes."""
        if not any(s.remote for s in self._sets):
            return
        if not self._threads or step < self._step:
            self._begin(step)
        self._step = step
        with self._changed:
            for shard in [shard for shard, last in self._last.items() if last < step]:
                self._forget(shard)
        window = min(self._plan.window or _MOST_AHEAD, _MOST_AHEAD)
        horizon = step + max(_LEAST_STEPS, window // self._plan.global_batch)
        while self._walked <= horizon and self._follow():
            pass

    def wait(self, step: int, report: Callable[[int, int], None] | None = None) -> None:
        """Wait until the shards of ``step`` are here or have failed.

        Args:
            step: The first step; the fetching starts with it.
            report: Called with (shards of this step that are here, shards of this step).
        """
        self.advance(step)
        first = self._shards_of(step)
        with self._changed:
            while True:
                done = len(first & self._here)
                if report is not None and first:
                    report(done, len(first))
                if done == len(first) or self._closed:
                    return
                self._changed.wait(1.0)

    def close(self) -> None:
        """Start no more fetches; those that run are of daemon threads and end on their own."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self, step: int) -> None:
        """Follow the plan anew from ``step``."""
        with self._changed:
            for shard in list(self._last):
                self._forget(shard)
            self._queue.clear()
            self._walked = step
        while len(self._threads) < self._count:
            self._threads.append(Thread(target=self._work, daemon=True, name="stm-fetch"))
            self._threads[-1].start()

    def _shards_of(self, step: int) -> set[Shard]:
        """Return the shards behind a URL that this rank reads in a step."""
        found = set()
        for ticket in self._plan.batch(step, self._rank, self._world):
            if self._sets[ticket.shard_set].remote:
                ends = self._ends[ticket.shard_set]
                found.add(
                    (ticket.shard_set, int(np.searchsorted(ends, ticket.index, side="right")))
                )
        return found

    def _follow(self) -> bool:
        """Take in the plan's next step, if it fits in the cache beside what comes before it."""
        if self._stop is not None and self._walked >= self._stop:
            return False
        shards = self._shards_of(self._walked)
        with self._changed:
            new = sorted(shard for shard in shards if shard not in self._last)
            size = sum(self._size(shard) for shard in new)
            if new and self._walked > self._step and self._bytes + size > self._limit:
                return False
            self._bytes += size
            self._queue += new
            self._last.update(dict.fromkeys(shards, self._walked))
            self._walked += 1
            self._changed.notify_all()
        return True

    def _forget(self, shard: Shard) -> None:
        del self._last[shard]
        self._here.discard(shard)
        self._bytes -= self._size(shard)
        self._sets[shard[0]].release(shard[1])

    def _size(self, shard: Shard) -> int:
        return self._sets[shard[0]].manifest.shards[shard[1]].bytes

    def _work(self) -> None:
        """Fetch what is next in the queue, as long as it is needed."""
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                shard = self._queue.pop(0)
                if shard not in self._last:
                    continue
            try:
                with suppress(StmError):  # the reader meets it too, and says where
                    self._sets[shard[0]].fetch(shard[1])
            finally:
                with self._changed:
                    if shard in self._last:
                        self._here.add(shard)
                    else:
                        self._sets[shard[0]].release(shard[1])
                    self._changed.notify_all()
