"""Daemon threads that run jobs in order: what the loader decodes with. Torch-free."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar

__all__ = ["Workers"]

T = TypeVar("T")


class Workers:
    """Daemon threads that run jobs in order.

    Unlike those of ``concurrent.futures``, a read that never returns cannot keep the process from
    ending.
    """

    def __init__(self, threads: int) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = Event()
        self._threads = [
            Thread(target=self._work, daemon=True, name=f"stm-loader-{i}") for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Put a job at the end of the queue; its result or error is the future's."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001 - the consumer raises it
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def close(self, seconds: float = 2.0) -> None:
        """Drop what waits in the queue, and give running jobs some seconds to end."""
        self._closed.set()
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None and not self._closed.is_set():
            job()
