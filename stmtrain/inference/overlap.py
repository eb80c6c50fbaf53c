"""Work that overlaps with the network: frames come ahead of need, label maps are written later.

Threads decode the next frames and write the last label maps while a frame is segmented. On a GPU
the next frame is uploaded and the last label map downloaded meanwhile.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

S = TypeVar("S")
T = TypeVar("T")


def begin_ahead(begun: Iterable[T], depth: int) -> Iterator[T]:
    """Yield ``begun`` in order, but take ``depth`` more items from it than have been yielded.

    With items that work in the background once they are taken, such as futures, up to ``depth`` of
    them are under way while one is used.
    """
    waiting: deque[T] = deque()
    for item in begun:
        waiting.append(item)
        if len(waiting) > depth:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def decode_ahead(
    read: Callable[[S], T], names: Iterable[S], *, depth: int = 4, threads: int = 2
) -> Iterator[T]:
    """Yield ``read(name)`` for each name, in order, read in threads before it is asked for.

    Args:
        read: Called in a thread. Its error is raised when its frame is due, after which no further
            frame is read.
        names: Of the frames, in time order.
        depth: Most frames read ahead of the one that is due, >= 0; they are held in memory.
        threads: Frames read at the same time.

    Example:
        >>> list(decode_ahead(str.upper, ["a", "b", "c"], depth=1))
        ['A', 'B', 'C']
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stm-decode")
    try:
        for future in begin_ahead((pool.submit(read, name) for name in names), depth):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def iterate_ahead(items: Iterable[T]) -> Iterator[T]:
    """Yield ``items`` in order, computing the next one in a thread while one is used.

    An error of ``items`` is raised when its item is due. At most two items are held.
    """
    source, end = iter(items), object()
    for item in decode_ahead(lambda _: next(source, end), repeat(None), depth=1, threads=1):
        if item is end:
            return
        yield item  # type: ignore[misc]


def upload_ahead(frames: Iterable[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """Yield each frame as a tensor on ``device``; same shape and dtype.

    On a GPU the next frame is taken, and copied from pinned memory on a stream of its own, before
    this one is yielded, so that copying and computing overlap. On the CPU no frame is taken early,
    and only read-only arrays, such as Pillow's, are copied.
    """
    if device.type != "cuda":
        for frame in frames:
            yield _tensor(frame).to(device)
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(frame: NDArray[Any]) -> tuple[Tensor, torch.cuda.Event]:
        pinned = _tensor(frame).pin_memory()
        with torch.cuda.stream(side):
            return pinned.to(device, non_blocking=True), side.record_event()

    for uploaded, copied in begin_ahead(map(begin, frames), depth=1):
        current = torch.cuda.current_stream(device)
        current.wait_event(copied)
        uploaded.record_stream(current)  # tells the allocator which stream uses it
        yield uploaded


def start_fetch(x: Tensor) -> Callable[[], NDArray[Any]]:
    """Start to copy ``x`` to the CPU; the returned function waits for the copy and returns it.

    What is queued on the GPU after this call does not delay the copy.
    """
    if x.device.type != "cuda":
        return x.numpy
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    host.copy_(x, non_blocking=True)
    done = torch.cuda.current_stream(x.device).record_event()

    def wait() -> NDArray[Any]:
        done.synchronize()
        return host.numpy()

    return wait


def _tensor(frame: NDArray[Any]) -> Tensor:
    """Return an array as a tensor; of read-only memory a copy, since torch warns of that."""
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))


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
