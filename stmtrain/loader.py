"""Shards to batches: the border between NumPy and torch, and the only place where threads work.

Threads decode straight into batch arrays that are made once and used again. Each batch is a job
that follows the plan (tickets, records, array sizes) and then one job per clip (read, decode, draw
numbers); the decoders let go of the interpreter lock. What a batch holds depends on its step alone,
never on the number of threads or on when the loader started.
"""

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from stmtrain.batch import Batch, BatchArrays
from stmtrain.clips import ClipChoice, ClipRecipe, choose_clip, slot_table
from stmtrain.decode import MAX_PIXELS, decode_frame, decode_mask
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.geometry import draw_colours, draw_geometry
from stmtrain.plan import Plan, Ticket
from stmtrain.spec import Sample, SampleMeta
from stmtrain.workers import Workers

__all__ = ["Batch", "Loader", "Source"]

T = TypeVar("T")

_UNCHANGED = bytes(range(256))
_MOST_IN_A_ROW = 64  # bad samples after which skipping stops: then the data or the disk is at fault


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


class Loader:
    """Endless (or up to ``stop``) batches of the plan, decoded ahead by threads.

    A batch on the CPU is valid until the next one is asked for: its arrays are used again. On
    another device it is a copy. Memory: ``prefetch + 1`` batches.

    Attributes:
        step: The next step; together with the plan, all the state there is.
        waited: Seconds that the consumer has waited for data.
        skipped: With ``on_bad_sample="skip"``, how often each bad sample of this rank was passed
            over, by the message that says which one and why.

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
        on_bad_sample: Literal["raise", "skip"] = "raise",
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
            on_bad_sample: What a damaged sample does: end the stream, or let the plan's next sample
                take its place. The next one still comes at its own place too, so every other clip
                stays where it was, for any number of ranks and threads, and after resuming. A disk
                that fails to read or does not answer is no bad sample: that always raises.
            patience: Seconds to wait for one clip before giving up instead of hanging.

        Raises:
            UsageError: A setting is out of range, or plan and sources differ.
        """
        if threads < 1 or prefetch < 1:
            raise UsageError(f"threads {threads}, prefetch {prefetch}: expected at least 1 of each")
        if on_bad_sample not in ("raise", "skip"):
            raise UsageError(f"on_bad_sample {on_bad_sample}: expected raise or skip")
        if tuple(source.shard_sizes for source in sources) != plan.shard_sizes:
            raise UsageError("the plan was made for other shard sets than these; make it again")
        plan.batch(start, rank, world)  # refuses a world that does not divide the batch
        self._sources, self._plan, self._recipe, self._size = tuple(sources), plan, recipe, size
        self._device = torch.device(device)
        self._threads, self._prefetch, self._patience = threads, prefetch, patience
        self._rank, self._world, self._max_skip, self._stop = rank, world, max_skip, stop
        self._skip = on_bad_sample == "skip"
        self._running: Generator[Batch, None, None] | None = None
        self.step = start
        self.waited = 0.0
        self.skipped: Counter[str] = Counter()

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
        workers = Workers(self._threads)
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
                self.skipped.update(making.bad.values())
                yield making.arrays.copy_to(self._device, batch)
                free.append(making.arrays)
        finally:
            leave()

    def _ended(self, step: int) -> bool:
        return self._stop is not None and step >= self._stop


@dataclass(frozen=True)
class _Clip:
    """A clip to make: all that is known and drawn before its pixels are there."""

    ticket: Ticket
    where: str
    meta: SampleMeta
    choice: ClipChoice
    colours: NDArray[np.float64]
    rng: np.random.Generator


class _Making:
    """One batch in the making: a job that follows the plan, then a job per clip.

    Attributes:
        arrays: Where it is made.
        bad: What is wrong with the samples that were passed over, by their position in the plan.
            Found again for each batch, so that a batch does not depend on those before it.
    """

    def __init__(self, loader: Loader, step: int, arrays: BatchArrays, workers: Workers) -> None:
        self.arrays = arrays
        self.bad: dict[int, str] = {}
        self._loader, self._step, self._workers = loader, step, workers
        self._clips = workers.submit(self._open)

    def result(self, patience: float) -> Batch:
        """Wait for every clip; the first failed one, in the plan's order, raises its error.

        Where bad samples are passed over, all clips are made again with others in their places,
        because the new ones may be of another size.
        """
        while True:
            _wait([self._clips], patience, [f"step {self._step}"])
            clips = self._clips.result()
            _wait([made for _, made in clips], patience, [clip.where for clip, _ in clips])
            known, counts = len(self.bad), []
            for clip, made in clips:
                with self._passed_over(clip.ticket.position):
                    counts.append(made.result())
            if len(self.bad) == known:
                keys = tuple(clip.meta.sample_key for clip, _ in clips)
                return self.arrays.batch(self._step, keys, torch.tensor(counts))
            self._clips = self._workers.submit(self._open)

    def _open(self) -> list[tuple[_Clip, Future[int]]]:
        """Read the records, draw the clips, lay out the arrays, and start a job for each clip.

        Small steps of all clips together take half the time that they take between the decoders.
        """
        loader = self._loader
        tickets = loader._plan.batch(self._step, loader._rank, loader._world)
        clips = [self._find(ticket) for ticket in tickets]
        self.arrays.lay_out([(clip.meta.height, clip.meta.width) for clip in clips])
        return [(c, self._workers.submit(self._fill, slot, c)) for slot, c in enumerate(clips)]

    def _find(self, ticket: Ticket) -> _Clip:
        """Return the ticket's clip, or that of the first position after it that is not bad."""
        for position in range(ticket.position, ticket.position + _MOST_IN_A_ROW):
            if position in self.bad:
                continue
            if position > ticket.position:
                ticket = self._loader._plan.ticket(position)
            with self._passed_over(position):
                return self._draw(ticket)
        raise DataError(
            f"{self.bad[position]} - and so are {_MOST_IN_A_ROW} samples in a row of the plan; "
            'run "stm shards verify"'
        )

    @contextmanager
    def _passed_over(self, position: int) -> Iterator[None]:
        """Note what is wrong with the sample at ``position``, if bad samples are passed over."""
        try:
            yield
        except DataError as error:
            if not self._loader._skip or isinstance(error, _Unreadable):
                raise
            self.bad[position] = str(error)

    def _draw(self, ticket: Ticket) -> _Clip:
        """Read a sample's record, and draw frames, objects and colours."""
        loader = self._loader
        source, rng = loader._sources[ticket.source], loader._plan.rng(ticket)
        where = source.where(ticket.index)
        with _named(where):
            meta = source.meta(ticket.index)
            _check_pixels(meta, where)
            choice = choose_clip(meta, loader._recipe, loader._max_skip(self._step), rng)
        colours = draw_colours(loader._recipe, rng)
        return _Clip(ticket, where, meta, choice, colours, rng)

    def _fill(self, slot: int, clip: _Clip) -> int:
        """Make one clip in its place in the arrays; return its number of objects."""
        loader, where, names = self._loader, clip.where, clip.choice.frames
        source, count = loader._sources[clip.ticket.source], len(clip.choice.object_ids)
        with _named(where):
            sample = source.read(clip.ticket.index, names, clip.meta)
            frames, masks = self.arrays.clip(slot)
            table = slot_table(clip.choice.object_ids)
            # Masks first: the crop follows the objects.
            for name, out in zip(names, masks, strict=True):
                decode_mask(sample.masks[name], f"{where}, mask {name}", out)
                _ids_to_slots(out, table)
            matrices = draw_geometry(masks, count, loader._recipe, loader._size, clip.rng)
            self.arrays.draw(slot, matrices, clip.colours)
            for name, out in zip(names, frames, strict=True):
                decode_frame(sample.frames[name], f"{where}, frame {name}", out)
            self.arrays.pad(slot)
        return count


class _Unreadable(ShardError):
    """The disk or network failed, which says nothing about the sample; never passed over."""


def _check_pixels(meta: SampleMeta, where: str) -> None:
    if meta.height * meta.width > MAX_PIXELS:
        raise ShardError(
            f"{where}: its record says {meta.width}x{meta.height} pixels, expected up to "
            f'{MAX_PIXELS}; run "stm shards verify"'
        )


def _ids_to_slots(mask: NDArray[np.uint8], table: bytes) -> None:
    """Translate object ids to slots in place, unless those that occur are slots already."""
    largest = int(mask.max())
    if table[: largest + 1] != _UNCHANGED[: largest + 1]:
        # bytes.translate takes half the time of NumPy's indexing with uint8
        mask[:] = np.frombuffer(mask.tobytes().translate(table), np.uint8).reshape(mask.shape)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Turn what is wrong with a sample's bytes or record into an error that names the sample."""
    try:
        yield
    except OSError as error:
        raise _Unreadable(f"{where}: cannot be read ({error})") from error
    except ValueError as error:
        raise ShardError(f"{where}: {error}") from error


def _wait(futures: Sequence[Future[T]], patience: float, names: Sequence[str]) -> None:
    """Wait until all are done, as long as one more is within ``patience`` seconds.

    Not one after the other: to be woken costs as much as a fifth of a clip.
    """
    left: set[Future[T]] = set(futures)
    while left:
        before = len(left)
        left = wait(left, patience).not_done
        if len(left) == before:
            where = next(n for n, f in zip(names, futures, strict=True) if f in left)
            raise _Unreadable(
                f"{where}: no data after {patience:g} seconds; check the disk or network that "
                "holds it"
            )
