"""Fetch the shards of the next steps ahead of training, for sets behind a URL.

Threads fetch what the plan needs up to one window ahead, in the order of first use, as long as it
fits in the cache. Shards that the next steps do not need are released. This only saves time: a
shard that has not arrived yet is fetched by its reader.
"""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Condition, Thread
from typing import Self

import numpy as np

from stmtrain.errors import UsageError
from stmtrain.processes import Progress
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.plan import Plan

_MAX_AHEAD = 1 << 16  # samples of the stream; following the plan takes about 10 us for each
_MIN_STEPS = 8  # followed ahead even if the window is smaller

Shard = tuple[int, int]
"""Number of the shard set in the plan, and number of the shard in its manifest."""


def window_bytes(shard_set: ShardSet, window: int | None) -> int:
    """Estimate the bytes of the shards that one shuffle window reads.

    The window's samples count with their mean size, plus the shard at each end that it cuts.
    """
    shards = shard_set.manifest.shards
    total, samples = sum(shard.bytes for shard in shards), max(1, len(shard_set))
    if window is None or window >= samples:
        return total
    return min(total, total * window // samples + 2 * max(shard.bytes for shard in shards))


class ShardPrefetcher:
    """Threads that fetch the shards that the plan reads next.

    Call :meth:`advance` with each step. Errors are left to the reader, which tries again to fetch a
    shard that could not be fetched here. The cache can exceed its limit only by shards that threads
    are still fetching although training has passed them, at most one per thread.

    Example:
        >>> with ShardPrefetcher(sets, plan, limit=cache.limit) as prefetch:  # doctest: +SKIP
        ...     prefetch.wait(start)
        ...     for batch in loader:
        ...         prefetch.advance(batch.step)
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
            sets: The shard sets of the plan, in the same order; nothing is fetched of local ones.
            plan: Determines the samples of each step.
            limit: Size of the cache, bytes.
            stop: Step before which training ends.
            rank: Rank of this process, in ``[0, world)``.
            world: Number of processes that share each global batch.
            threads: Number of shards fetched at a time.

        Raises:
            UsageError: The windows are larger than the cache, so that each shard would be fetched
                many times.
        """
        needed = sum(window_bytes(s, plan.window) for s in sets if s.remote)
        if needed > limit:
            raise UsageError(
                f"a shuffle window of {plan.window or 'all'} samples reads about "
                f"{needed / 1e9:.3g} GB of shards at a time, but the cache is limited to "
                f"{limit / 1e9:.3g} GB; raise --cache-size or reduce the window with --set window=N"
            )
        self._sets, self._limit, self._stop = tuple(sets), limit, stop
        self._plan = replace(plan)  # its caches serve one position; the loader is at another
        self._rank, self._world, self._count = rank, world, threads
        self._ends = [np.cumsum(s.shard_sizes) for s in sets]
        self._last: dict[Shard, int] = {}  # the last known step that needs a shard
        self._queue: deque[Shard] = deque()
        self._fetching: set[Shard] = set()
        self._fetched: set[Shard] = set()  # or failed
        self._step = self._followed = 0
        self._bytes = 0  # of all shards that are needed or being fetched
        self._changed = Condition()
        self._threads: list[Thread] = []
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def advance(self, step: int) -> None:
        """Release the shards that were needed before ``step`` and fetch those of the next steps."""
        if not any(s.remote for s in self._sets):
            return
        if not self._threads or step < self._step:
            self._begin(step)
        self._step = step
        with self._changed:
            for shard in [shard for shard, last in self._last.items() if last < step]:
                self._forget(shard)
        window = min(self._plan.window or _MAX_AHEAD, _MAX_AHEAD)
        horizon = step + max(_MIN_STEPS, window // self._plan.global_batch)
        while self._followed <= horizon and self._follow():
            pass

    def wait(self, step: int, progress: Progress | None = None) -> None:
        """Wait until the shards of ``step`` have been fetched or have failed.

        Args:
            step: The first step; fetching starts with it.
            progress: Receives the number of fetched shards and of all shards of this step.
        """
        self.advance(step)
        first = self._shards_of(step)
        with self._changed:
            while True:
                done = len(first & self._fetched)
                if progress is not None and first:
                    progress(done, len(first), "shards of the first step")
                if done == len(first) or self._closed:
                    return
                self._changed.wait(1.0)

    def close(self) -> None:
        """Start no more fetches; running ones end on their own, in daemon threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self, step: int) -> None:
        """Follow the plan from ``step``, which is the first one or before the current one."""
        with self._changed:
            for shard in list(self._last):
                self._forget(shard)
            self._queue.clear()
            self._followed = step
        while len(self._threads) < self._count:
            self._threads.append(Thread(target=self._work, daemon=True, name="stm-fetch"))
            self._threads[-1].start()

    def _shards_of(self, step: int) -> set[Shard]:
        """Return the shards behind a URL that this rank reads in a step."""
        found = set()
        for ticket in self._plan.batch(step, self._rank, self._world):
            number = ticket.shard_set
            if self._sets[number].remote:
                shard = np.searchsorted(self._ends[number], ticket.index, side="right")
                found.add((number, int(shard)))
        return found

    def _follow(self) -> bool:
        """Queue the shards of the plan's next step if they fit in the cache; return whether so."""
        if self._stop is not None and self._followed >= self._stop:
            return False
        shards = self._shards_of(self._followed)
        with self._changed:
            new = sorted(shard for shard in shards if shard not in self._last)
            size = sum(self._size(shard) for shard in new if shard not in self._fetching)
            if new and self._followed > self._step and self._bytes + size > self._limit:
                return False
            self._bytes += size
            self._queue += new
            self._last.update(dict.fromkeys(shards, self._followed))
            self._followed += 1
            self._changed.notify_all()
        return True

    def _forget(self, shard: Shard) -> None:
        """Release a shard that is no longer needed, unless it is still being fetched."""
        del self._last[shard]
        self._fetched.discard(shard)
        if shard not in self._fetching:
            self._release(shard)

    def _release(self, shard: Shard) -> None:
        self._bytes -= self._size(shard)
        self._sets[shard[0]].release(shard[1])

    def _size(self, shard: Shard) -> int:
        return self._sets[shard[0]].manifest.shards[shard[1]].bytes

    def _work(self) -> None:
        """Fetch the shards of the queue that are still needed."""
        while (shard := self._next()) is not None:
            try:
                # Whatever it is, the reader meets it too and raises it, with the sample's name.
                with suppress(Exception):
                    self._sets[shard[0]].fetch(shard[1])
            finally:
                with self._changed:
                    self._fetching.discard(shard)
                    if shard in self._last:
                        self._fetched.add(shard)
                    else:
                        self._release(shard)
                    self._changed.notify_all()

    def _next(self) -> Shard | None:
        """Wait for the next shard of the queue to fetch; return None when closed."""
        with self._changed:
            while not self._closed:
                if not self._queue:
                    self._changed.wait()
                    continue
                shard = self._queue.popleft()
                if shard in self._last and shard not in self._fetching | self._fetched:
                    self._fetching.add(shard)
                    return shard
        return None
