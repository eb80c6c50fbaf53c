"""Daemon threads that call functions in the order of submission: the loader decodes with them."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads:
    """A thread pool whose threads cannot keep the process from ending.

    ``concurrent.futures.ThreadPoolExecutor`` joins its threads when the interpreter exits, so a
    read that never returns would hang the process.

    Attributes:
        closed: Set when the results are no longer needed; long calls should then return.
    """

    def __init__(self, threads: int) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self.closed = Event()
        self._last_progress = 0.0
        self._threads = [
            Thread(target=self._work, daemon=True, name=f"stm-loader-{i}") for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        return len(self._threads)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call a function in one of the threads, after those that were submitted before."""
        future: Future[T] = Future()
        self._queue.put((future, function))
        return future

    def progress(self) -> None:
        """Note that a thread is not stalled; functions call this after each part of their work."""
        self._last_progress = time.monotonic()

    def wait(self, futures: Sequence[Future[Any]], patience: float) -> bool:
        """Return whether the calls ended; False after ``patience`` seconds without any progress.

        The calls may be queued behind slow ones, so the progress of every thread counts.
        """
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            if not wait(futures, left).not_done:
                return True
            deadline = max(deadline, self._last_progress + patience)
        return False

    def close(self) -> None:
        """Discard the queue and wait up to 2 seconds for running calls to end."""
        self.closed.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + 2.0
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None and not self.closed.is_set():
            _call(*entry)
            self.progress()
            del entry  # a thread that waits keeps no batch alive


class CallingThread(DaemonThreads):
    """A pool without threads: every function is called where it is submitted."""

    def __init__(self) -> None:
        super().__init__(0)

    def __len__(self) -> int:
        return 1

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call a function now."""
        future: Future[T] = Future()
        _call(future, function)
        return future


def _call(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:  # noqa: BLE001 - the consumer raises it
        future.set_exception(error)
