"""Reading ahead and writing behind, each in one thread, while the caller works. Bounded."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["one_ahead", "writing_behind"]

T = TypeVar("T")


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield ``items`` in order, always working on one more than was asked for.

    An error of ``items`` is raised where its item would have been yielded. At most two items are
    held.
    """
    source = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, source, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, source, end)
            yield item  # type: ignore[misc]


@contextmanager
def writing_behind(most: int = 8) -> Iterator[Callable[..., None]]:
    """Give a function that calls ``function(*arguments)`` later, in order, in a thread.

    It waits while ``most`` calls are due; leaving the block waits for all of them. The first error
    of a call is raised by a later one, or when the block is left.
    """
    due: deque[Future[object]] = deque()

    def submit(function: Callable[..., object], *arguments: object) -> None:
        while due and (len(due) >= most or due[0].done()):
            due.popleft().result()
        due.append(pool.submit(function, *arguments))

    pool = ThreadPoolExecutor(1)
    try:
        yield submit
        for future in due:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)
