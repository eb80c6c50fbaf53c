"""Shards to batches: the border between NumPy and torch, and the only place where threads work.

Threads decode straight into batch arrays that are made once and used again; the decoders let go of
the interpreter lock. What a batch holds depends on its step alone, never on the number of threads
or on when the loader started. ``batch_job.py`` says how one batch is made.
"""

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import torch

from stmtrain.errors import UsageError
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.batch import Batch, BatchArrays
from stmtrain.streaming.clips import PSEUDO, VIDEO, ClipRecipe
from stmtrain.streaming.make_batch import BatchJob, ShardSource, Stream
from stmtrain.streaming.plan import Plan
from stmtrain.streaming.threads import Workers

__all__ = ["Batch", "Loader", "ShardSource", "open_loader"]

_DISK_PATIENCE, _NETWORK_PATIENCE = 300.0, 3600.0  # seconds to wait for one clip


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
        sources: Sequence[ShardSource],
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
        patience: float = _DISK_PATIENCE,
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
        skip_bad = on_bad_sample == "skip"
        self._stream = Stream(
            tuple(sources), plan, recipe, size, rank, world, max_skip, skip_bad=skip_bad
        )
        self._device, self._stop = torch.device(device), stop
        self._threads, self._prefetch, self._patience = threads, prefetch, patience
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
        stream = self._stream
        shape = (stream.plan.global_batch // stream.world, stream.recipe.frames)
        pinned = self._device.type == "cuda"
        free = deque(BatchArrays(*shape, pinned) for _ in range(self._prefetch + 1))
        coming: deque[BatchJob] = deque()
        upcoming = self.step
        try:
            while True:
                while len(coming) < self._prefetch and not self._ended(upcoming):
                    coming.append(BatchJob(stream, upcoming, free.popleft(), workers))
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


def open_loader(
    locations: Sequence[str | Path],
    batch_size: int,
    seed: int = 0,
    *,
    weights: Sequence[float] | None = None,
    size: int = 384,
    frames: int = 3,
    max_skip: int = 0,
    device: torch.device | str = "cpu",
    threads: int = 2,
    start: int = 0,
    stop: int | None = None,
) -> Loader:
    """Open shard sets and return a loader of training batches from them.

    Clips of real videos are warped at random as in stage 2 of training. Where all sets are
    pseudo-videos, which were warped when they were packed, they are only flipped and reversed.

    Args:
        locations: Folders or URLs of shard sets.
        batch_size: Clips of a batch.
        seed: Decides the order of the clips and everything that is drawn within them.
        weights: Share of each set in the clips, in any unit; by default the sets share equally.
        size: Side of the training crop, pixels.
        frames: Frames of a clip.
        max_skip: Most frames skipped between neighbouring frames of a clip.
        device: Where batches go.
        threads: Decoding threads.
        start: First step. Batch ``k`` is the same whatever the first step.
        stop: The step before which to end; None never ends.

    Returns:
        The loader. Its batches become crops with :func:`stmtrain.streaming.augment.augment`.

    Raises:
        ShardError: A location is no complete shard set.
        UsageError: A number is out of range, or there is no location.

    Example:
        >>> with open_loader(["shards/coco"], batch_size=4, seed=0) as loader:  # doctest: +SKIP
        ...     for batch in loader:
        ...         frames, masks = augment(batch, size=384)
    """
    sets = [ShardSet.open(location) for location in locations]
    plan = Plan(
        shard_sizes=tuple(shard_set.shard_sizes for shard_set in sets),
        weights=tuple(weights or [1.0] * len(sets)),
        seed=seed,
        global_batch=batch_size,
    )
    synthesised = all("recipe" in shard_set.manifest.config for shard_set in sets)
    return Loader(
        sets,
        plan,
        replace(PSEUDO if synthesised else VIDEO, frames=frames),
        size=size,
        device=device,
        threads=threads,
        start=start,
        stop=stop,
        max_skip=lambda _step: max_skip,
        patience=_NETWORK_PATIENCE if any(s.remote for s in sets) else _DISK_PATIENCE,
    )
