"""Shards to batches: the border between NumPy and torch, and the only place where threads work.

Threads decode straight into batch arrays that are made once and used again. Each batch is a job
that follows the plan (tickets, records, array sizes) and then one job per clip (read, decode, draw
numbers); the decoders let go of the interpreter lock. What a batch holds depends on its step alone,
never on the number of threads or on when the loader started.
"""

import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

from stmtrain.batch import Batch, BatchArrays
from stmtrain.clips import ClipRecipe, choose_clip, slot_table
from stmtrain.decode import MAX_PIXELS, decode_frame, decode_mask, frame_size
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.geometry import draw_colours, draw_geometry
from stmtrain.plan import Plan, Ticket
from stmtrain.spec import Sample, SampleMeta

__all__ = ["Batch", "Loader", "Source"]

T = TypeVar("T")

_UNCHANGED = bytes(range(256))


class Source(Protocol):
    """What the loader needs of a shard set; :class:`stmtrain.shards.ShardSet` is one."""

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""

    def meta(self, index: int) -> SampleMeta:
        """Read a sample's record."""

    def read(
        self, index: int, frames: Sequence[str] | None = None, meta: SampleMeta | None = None
    ) -> Sample:
        """Read the bytes of some frames and their masks."""

    def where(self, index: int) -> str:
        """Name shard and sample for an error message."""


class _Workers:
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


class Loader:
    """Endless (or up to ``stop``) batches of the plan, decoded ahead by threads.

    A batch on the CPU is valid until the next one is asked for: its arrays are used again. On
    another device it is a copy. Memory: ``prefetch + 1`` batches.

    Attributes:
        step: The next step; together with the plan, all the state there is.
        waited: Seconds that the consumer has waited for data.

    Example:
        >>> with Loader(sets, plan, PSEUDO, size=384, start=1000) as loader:  # doctest: +SKIP
        ...     for batch in loader:
        ...         frames, masks = augment(batch, 384)
    """

    def __init__(
        self,
        sources: Sequence[Source],
        plan: Plan,
        recipe: ClipRecipe,
        *,
        size: int,
        device: torch.device | str = "cpu",
        threads: int = 2,
        prefetch: int = 2,
        start: int = 0,
        stop: int | None = None,
        rank: int = 0,
        world: int = 1,
        max_skip: Callable[[int], int] = lambda _step: 0,
        patience: float = 300.0,
    ) -> None:
        """Check the settings; nothing is read before the first batch is asked for.

        Args:
            sources: The plan's sources, in its order.
            plan: Says which samples make up which step.
            recipe: How clips are drawn.
            size: Side of the training crop, pixels.
            device: Where batches go.
            threads: Decoding threads, >= 1.
            prefetch: Batches made ahead of the consumer, >= 1.
            start: First step.
            stop: The step before which to end; None never ends.
            rank: This process, in ``[0, world)``.
            world: Processes that share each global batch.
            max_skip: Most frames skipped between neighbours, by step.
            patience: Seconds to wait for one clip before giving up instead of hanging.

        Raises:
            UsageError: A setting is out of range, or plan and sources differ.
        """
        if threads < 1 or prefetch < 1:
            raise UsageError(f"threads {threads}, prefetch {prefetch}: expected at least 1 of each")
        if tuple(source.shard_sizes for source in sources) != plan.shard_sizes:
            raise UsageError("the plan was made for other shard sets than these; make it again")
        plan.batch(start, rank, world)  # refuses a world that does not divide the batch
        self._sources, self._plan, self._recipe, self._size = tuple(sources), plan, recipe, size
        self._device = torch.device(device)
        self._threads, self._prefetch, self._patience = threads, prefetch, patience
        self._rank, self._world, self._max_skip, self._stop = rank, world, max_skip, stop
        self._running: Generator[Batch, None, None] | None = None
        self.step = start
        self.waited = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._running is None:
            self._running = self._run()
        try:
            return next(self._running)
        except BaseException:
            self._running = None  # a finished generator would say "the end" when asked again
            raise

    def close(self) -> None:
        """Stop the threads after the clip that each is working on; ``next`` would start anew."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _run(self) -> Generator[Batch, None, None]:
        """Keep ``prefetch`` batches in the making and hand them out in order of their steps."""
        workers = _Workers(self._threads)
        leave = weakref.finalize(self, workers.close)  # also when the interpreter exits
        shape = (self._plan.global_batch // self._world, self._recipe.frames)
        pinned = self._device.type == "cuda"
        free = deque(BatchArrays(*shape, pinned) for _ in range(self._prefetch + 1))
        coming: deque[_Making] = deque()
        upcoming = self.step
        try:
            while True:
                while len(coming) < self._prefetch and not self._ended(upcoming):
                    coming.append(_Making(self, upcoming, free.popleft(), workers))
                    upcoming += 1
                if not coming:
                    return
                making = coming.popleft()
                began = time.perf_counter()
                try:
                    batch = making.result(self._patience)
                finally:
                    self.waited += time.perf_counter() - began
                self.step = batch.step + 1
                yield making.arrays.copy_to(self._device, batch)
                free.append(making.arrays)
        finally:
            leave()

    def _ended(self, step: int) -> bool:
        return self._stop is not None and step >= self._stop


class _Making:
    """One batch in the making: a job that follows the plan, then a job per clip."""

    def __init__(self, loader: Loader, step: int, arrays: BatchArrays, workers: _Workers) -> None:
        self.arrays = arrays
        self._loader, self._step, self._workers = loader, step, workers
        self._keys: list[str] = []
        self._clips = workers.submit(self._open)

    def result(self, patience: float) -> Batch:
        """Wait for every clip; the first failed one, in the plan's order, raises its error."""
        clips = _wait(self._clips, patience, f"step {self._step}")
        counts = [_wait(clip, patience, where) for where, clip in clips]
        return self.arrays.batch(self._step, tuple(self._keys), torch.tensor(counts))

    def _open(self) -> list[tuple[str, Future[int]]]:
        """Read the records, lay out the arrays, and start a job for each clip."""
        loader = self._loader
        tickets = loader._plan.batch(self._step, loader._rank, loader._world)
        clips = []
        for ticket in tickets:
            source = loader._sources[ticket.source]
            where = source.where(ticket.index)
            with _named(where):
                clips.append((ticket, where, source.meta(ticket.index)))
        self._keys = [meta.sample_key for _, _, meta in clips]
        self.arrays.lay_out([_size_of(meta, where) for _, where, meta in clips])
        return [
            (where, self._workers.submit(self._fill, slot, ticket, where, meta))
            for slot, (ticket, where, meta) in enumerate(clips)
        ]

    def _fill(self, slot: int, ticket: Ticket, where: str, meta: SampleMeta) -> int:
        """Make one clip in its place in the arrays; return its number of objects."""
        loader, recipe = self._loader, self._loader._recipe
        rng = loader._plan.rng(ticket)
        with _named(where):
            choice = choose_clip(meta, recipe, loader._max_skip(self._step), rng)
            sample = loader._sources[ticket.source].read(ticket.index, choice.frames, meta)
            frames, masks = self.arrays.clip(slot)
            table = slot_table(choice.object_ids)
            # Masks first: the crop follows the objects.
            for name, out in zip(choice.frames, masks, strict=True):
                _decode_slots(sample.masks[name], table, out, f"{where}, mask {name}")
            count = len(choice.object_ids)
            matrices = draw_geometry(masks, count, recipe, loader._size, rng)
            self.arrays.draw(slot, matrices, draw_colours(recipe, rng))
            for name, out in zip(choice.frames, frames, strict=True):
                _decode_into(sample.frames[name], out, f"{where}, frame {name}")
            self.arrays.pad(slot)
        return count


def _size_of(meta: SampleMeta, where: str) -> tuple[int, int]:
    if not 0 < meta.height * meta.width <= MAX_PIXELS or meta.height < 0:
        raise ShardError(
            f"{where}: its record says {meta.width}x{meta.height} pixels, expected up to "
            f'{MAX_PIXELS}; run "stm shards verify"'
        )
    return meta.height, meta.width


def _decode_slots(data: bytes, table: bytes, out: NDArray[np.uint8], where: str) -> None:
    """Decode a label map (H, W) and translate its object ids to slots."""
    mask = decode_mask(data, where)
    _check_size(mask.shape, out, where)
    largest = int(mask.max())
    if table[: largest + 1] == _UNCHANGED[: largest + 1]:
        out[:] = mask
    else:  # bytes.translate takes half the time of NumPy's indexing with uint8
        out[:] = np.frombuffer(mask.tobytes().translate(table), np.uint8).reshape(out.shape)


def _decode_into(data: bytes, out: NDArray[np.uint8], where: str) -> None:
    """Decode a JPEG to (H, W, 3) uint8 RGB, straight into its place if that has no gaps."""
    _check_size(frame_size(data, where), out, where)
    if not out.flags.c_contiguous:
        out[:] = decode_frame(data, where)
        return
    try:
        simplejpeg.decode_jpeg(data, "RGB", buffer=out)
    except ValueError as error:
        raise ShardError(f"{where}: JPEG is damaged ({error}); pack it again") from None


def _check_size(found: tuple[int, ...], out: NDArray[np.uint8], where: str) -> None:
    if found != out.shape[:2]:
        raise ShardError(
            f"{where}: expected {out.shape[1]}x{out.shape[0]} pixels as its record says, found "
            f'{found[1]}x{found[0]}; run "stm shards verify"'
        )


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what is wrong with a sample's bytes or record into an error that names the sample."""
    try:
        yield
    except OSError as error:
        raise ShardError(f"{where}: cannot be read ({error})") from error
    except ValueError as error:
        raise ShardError(f"{where}: {error}") from error


def _wait(future: Future[T], patience: float, where: str) -> T:
    try:
        return future.result(patience)
    except TimeoutError:
        if future.done():
            raise
        raise DataError(
            f"{where}: no data after {patience:g} seconds; check the disk or network that holds it"
        ) from None
