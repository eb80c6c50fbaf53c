"""Batches from shards, decoded ahead of the consumer by threads.

Threads decode directly into batch arrays that are allocated once and reused; the decoders release
the interpreter lock. The content of a batch depends on its step alone, never on the number of
threads or on the step at which the loader started. ``make_batch.py`` makes a single batch.
"""

import math
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
from stmtrain.streaming.make_batch import BatchJob, Stream
from stmtrain.streaming.plan import Plan
from stmtrain.streaming.threads import DaemonThreads

_DISK_PATIENCE, _NETWORK_PATIENCE = 300.0, 3600.0  # seconds to wait for one clip


class Loader:
    """The batches of a plan, without end or up to ``stop``.

    A batch on the CPU is valid until the next one is requested, because its arrays are reused. On
    another device it is a copy. The loader uses the memory of ``prefetch + 1`` batches.

    Attributes:
        step: The next step. It is the only state apart from the plan.
        waited: Seconds that the consumer has waited for data.
        skipped: How often each sample of this rank was skipped, by the message that names the
            sample and the reason: no clip can be cut from it, or, with ``on_bad_sample="skip"``, it
            is damaged.

    Example:
        >>> with Loader(sets, plan, PSEUDO, size=384, start=1000) as loader:  # doctest: +SKIP
        ...     for batch in loader:
        ...         frames, masks = augment(batch, 384)
    """

    def __init__(
        self,
        shard_sets: Sequence[ShardSet],
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
        """Check the settings; nothing is read before the first batch is requested.

        Args:
            shard_sets: The shard sets of the plan, in the same order.
            plan: Determines the samples of each step.
            recipe: How clips are drawn.
            size: Side of the training crop, pixels.
            device: Where batches go.
            threads: Decoding threads, >= 1.
            prefetch: Number of batches made ahead of the consumer, >= 1.
            start: First step.
            stop: Step before which the batches end; None for an endless stream.
            rank: Rank of this process, in ``[0, world)``.
            world: Number of processes that share each global batch.
            max_skip: Most frames skipped between neighbours, by step.
            on_bad_sample: ``raise`` an error for a damaged sample, or ``skip`` it: the next sample
                of the plan replaces it. That sample is used at its own position too, so every other
                clip keeps its position, for any number of ranks and threads, and after resuming. A
                disk that fails or does not respond always raises an error, because it does not mean
                that the sample is damaged. Samples that no clip can be cut from
                (:func:`~stmtrain.streaming.clips.why_no_clip`) are always replaced in this way.
            patience: Seconds without any progress after which a stalled read raises an error.

        Raises:
            UsageError: A setting is out of range, or the plan was made for other shard sets.
        """
        if threads < 1 or prefetch < 1:
            raise UsageError(f"threads {threads}, prefetch {prefetch}: expected at least 1 of each")
        if on_bad_sample not in ("raise", "skip"):
            raise UsageError(f"on_bad_sample {on_bad_sample}: expected raise or skip")
        if tuple(s.shard_sizes for s in shard_sets) != plan.shard_sizes:
            raise UsageError("the plan was made for other shard sets than these; make a new plan")
        plan.batch(start, rank, world)  # refuses a world that does not divide the batch
        skip_bad = on_bad_sample == "skip"
        self._stream = Stream(
            tuple(shard_sets), plan, recipe, size, rank, world, max_skip, skip_bad=skip_bad
        )
        self._device, self._stop = torch.device(device), math.inf if stop is None else stop
        self._threads, self._prefetch, self._patience = threads, prefetch, patience
        self._running: Generator[Batch, None, None] | None = None
        self._coming: deque[BatchJob] = deque()
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
            self._running = None  # the next call starts again instead of ending at once
            raise

    @property
    def ready(self) -> bool:
        """Whether the next batch is complete, so that asking for it need not wait."""
        return bool(self._coming) and self._coming[0].ready

    def close(self) -> None:
        """Stop the threads, after what each is working on; ``next`` would start them again."""
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _run(self) -> Generator[Batch, None, None]:
        """Keep ``prefetch`` batches in progress and yield them in the order of their steps."""
        threads = DaemonThreads(self._threads)
        leave = weakref.finalize(self, threads.close)  # also when the interpreter exits
        stream = self._stream
        shape = (stream.plan.global_batch // stream.world, stream.recipe.frames)
        pinned = self._device.type == "cuda"
        free = deque(BatchArrays(*shape, pinned) for _ in range(self._prefetch + 1))
        coming = self._coming = deque[BatchJob]()
        upcoming = self.step
        try:
            while True:
                while len(coming) < self._prefetch and upcoming < self._stop:
                    coming.append(BatchJob(stream, upcoming, free.popleft(), threads))
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
            coming.clear()
            leave()


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
    plan, recipe = plan_clips(sets, batch_size, seed, weights)
    return Loader(
        sets,
        plan,
        replace(recipe, frames=frames),
        size=size,
        device=device,
        threads=threads,
        start=start,
        stop=stop,
        max_skip=lambda _step: max_skip,
        patience=_NETWORK_PATIENCE if any(s.remote for s in sets) else _DISK_PATIENCE,
    )


def plan_clips(
    sets: Sequence[ShardSet], batch_size: int, seed: int, weights: Sequence[float] | None
) -> tuple[Plan, ClipRecipe]:
    """Return the order of the clips of some sets, and the recipe for their kind.

    Arguments and errors are those of :func:`open_loader`.
    """
    plan = Plan(
        shard_sizes=tuple(shard_set.shard_sizes for shard_set in sets),
        weights=tuple(weights or [1.0] * len(sets)),
        seed=seed,
        global_batch=batch_size,
    )
    synthesised = all("recipe" in shard_set.manifest.config for shard_set in sets)
    return plan, PSEUDO if synthesised else VIDEO
