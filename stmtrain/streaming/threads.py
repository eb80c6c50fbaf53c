"""Daemon threads that run jobs in order: what the loader decodes with. Torch-free."""

import time
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["Job", "Jobs", "Workers", "job"]

T = TypeVar("T")

Job: TypeAlias = Generator[None, None, T]
"""A job in steps: it yields where others may go first, and returns its result."""


def job(function: Callable[[], T]) -> Job[T]:
    """Make a job of one step."""
    return function()
    yield  # makes it a generator


class Jobs(Generic[T]):
    """Jobs that are waited for together: who waits is woken once, which costs a fifth of a clip."""

    def __init__(self, jobs: Sequence[Job[T]]) -> None:
        self._jobs = jobs
        self._running: set[int] = set()
        self._results: dict[int, T] = {}
        self._errors: dict[int, BaseException] = {}
        self._lock, self._all_ended = Lock(), Event()

    def run(self, place: int) -> bool:
        """Run one of them to its next pause; return whether it has more to do."""
        self._running.add(place)
        try:
            next(self._jobs[place])
        except StopIteration as end:
            self._end(self._results, place, end.value)
        except BaseException as error:  # noqa: BLE001 - the consumer raises it
            self._end(self._errors, place, error)
        else:
            return True
        finally:
            self._running.discard(place)
        return False

    def wait(self, seconds: float) -> bool:
        """Wait until all have ended; return whether they have."""
        return self._all_ended.wait(seconds)

    def unfinished(self) -> int:
        """Return the first that is running, or else the first that has not ended."""
        with self._lock:
            ended = self._results.keys() | self._errors.keys()
        left = [place for place in range(len(self._jobs)) if place not in ended]
        return next((place for place in left if place in self._running), left[0] if left else 0)

    def result(self, place: int) -> T:
        """Return what a job that has ended returned, or raise its error."""
        if place in self._errors:
            raise self._errors[place]
        return self._results[place]

    def _end(self, outcomes: dict[int, Any], place: int, outcome: object) -> None:
        with self._lock:
            outcomes[place] = outcome
            last = len(self._results) + len(self._errors) == len(self._jobs)
        if last:
            self._all_ended.set()


class Workers:
    """Daemon threads that run jobs in order.

    Unlike those of ``concurrent.futures``, a read that never returns cannot keep the process from
    ending.
    """

    def __init__(self, threads: int) -> None:
        self._queue: SimpleQueue[tuple[Jobs[Any], int] | None] = SimpleQueue()
        self._closed = Event()
        self._steps = [0] * threads  # that each thread has made
        self._threads = [
            Thread(target=self._work, args=(i,), daemon=True, name=f"stm-loader-{i}")
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, jobs: Sequence[Job[T]]) -> Jobs[T]:
        """Put jobs at the end of the queue; one that pauses goes there again."""
        together = Jobs(jobs)
        for place in range(len(jobs)):
            self._queue.put((together, place))
        return together

    def wait(self, jobs: Jobs[T], patience: float) -> int | None:
        """Wait until jobs have ended, as long as any thread makes a step in ``patience`` seconds.

        Any thread's and any job's: these may stand in the queue behind slow ones.

        Returns:
            None, or which of the jobs is running although patience has ended.
        """
        steps = sum(self._steps)
        while not jobs.wait(patience):
            before, steps = steps, sum(self._steps)
            if steps == before:
                return jobs.unfinished()
        return None

    def close(self, seconds: float = 2.0) -> None:
        """Drop what waits in the queue, and give running jobs some seconds to end."""
        self._closed.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, thread: int) -> None:
        while (entry := self._queue.get()) is not None and not self._closed.is_set():
            jobs, place = entry
            if jobs.run(place):
                self._queue.put(entry)
            self._steps[thread] += 1
            del entry, jobs  # a thread that waits keeps no batch alive
