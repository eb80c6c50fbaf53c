"""Frames on their way to the network and label maps on their way back, ahead of need and behind it.

Threads decode the next frames while this one is segmented; on a GPU the next one is uploaded
meanwhile and the last label map comes down, so that neither side waits for the other.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["decode_ahead", "start_fetch", "upload_ahead"]

T = TypeVar("T")


def decode_ahead(
    read: Callable[[str], T], names: Iterable[str], *, depth: int = 4, threads: int = 2
) -> Iterator[T]:
    """Yield ``read(name)`` for each name, in order, read in threads before they are asked for.

    Args:
        read: Called in a thread; an error of it is raised where its frame is due, and no later
            frame is read any more. It carries the frame's name as a note.
        names: Of the frames, in time order.
        depth: Most frames read ahead of the one that is due, >= 0: what is held in memory.
        threads: Frames read at a time.

    Example:
        >>> list(decode_ahead(str.upper, ["a", "b", "c"], depth=1))
        ['A', 'B', 'C']
    """
    waiting: deque[tuple[str, Future[T]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="stm-decode")
    try:
        for name in names:
            waiting.append((name, pool.submit(read, name)))
            if len(waiting) > depth:
                yield _result(*waiting.popleft())
        while waiting:
            yield _result(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def upload_ahead(frames: Iterable[NDArray[Any]], device: torch.device) -> Iterator[Tensor]:
    """Yield each frame as a tensor on ``device``; same shape and dtype.

    On a GPU the next frame is taken, and copied from pinned memory on a stream of its own, before
    this one is yielded: the copy runs while this one is worked on. On the CPU no frame is taken
    early, and only read-only arrays, such as Pillow's, are copied.
    """
    if device.type != "cuda":
        for frame in frames:
            yield _tensor(frame).to(device)
        return
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: deque[tuple[Tensor, torch.cuda.Event]] = deque()
    for frame in frames:
        pinned = _tensor(frame).pin_memory()
        with torch.cuda.stream(side):
            ahead.append((pinned.to(device, non_blocking=True), side.record_event()))
        if len(ahead) > 1:
            yield _arrived(*ahead.popleft())
    while ahead:
        yield _arrived(*ahead.popleft())


def start_fetch(x: Tensor) -> Callable[[], NDArray[Any]]:
    """Start to copy ``x`` to the CPU; the function that comes back waits for it and returns it.

    What is queued on the GPU after this call does not delay it.
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
    """Return an array as a tensor; torch warns of read-only memory."""
    return torch.from_numpy(np.require(frame, requirements=["C", "W"]))


def _result(name: str, future: Future[T]) -> T:
    try:
        return future.result()
    except Exception as error:
        error.add_note(f"while frame {name!r} was read")
        raise


def _arrived(x: Tensor, copied: torch.cuda.Event) -> Tensor:
    """Let the current stream wait for the copy, and the allocator know that it uses ``x``."""
    current = torch.cuda.current_stream(x.device)
    current.wait_event(copied)
    x.record_stream(current)
    return x
