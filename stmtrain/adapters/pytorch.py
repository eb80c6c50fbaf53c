"""Shard sets as data sets of PyTorch: for ``DataLoader``, DDP and ``StatefulDataLoader``.

:class:`ClipDataset` is a map-style data set, for trainers that bring a sampler;
:class:`ClipStream` is an iterable one, which follows the plan by itself. Both give the dictionaries
of :meth:`stmtrain.adapters.clips.ClipSource.item`. Without ``size`` clips have the size of their
video, and only equal ones fit in one batch.

Example:
    Eight clips per process, and resumed in the middle of an epoch by torchdata::

        clips = ClipStream(["shards/coco"], batch_size=8, size=384)
        loader = StatefulDataLoader(clips, batch_size=clips.batch_size, num_workers=4)
        loader.load_state_dict(saved)  # what loader.state_dict() gave
        for batch in loader:
            ...  # batch["frames"] (8, 3, 3, 384, 384), batch["masks"] (8, 3, 384, 384)
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.utils.data

from stmtrain.adapters.clips import ClipSource
from stmtrain.errors import UsageError


class ClipDataset(ClipSource, torch.utils.data.Dataset[Any]):
    """A map-style data set: item ``i`` of epoch ``e`` is the clip at ``start + e * len + i``.

    The plan is a shuffled order already. Read in the order of the indices, as by
    ``DistributedSampler(dataset, shuffle=False)``, it mixes the sets by weight at every place.
    """

    def __init__(
        self,
        locations: str | Path | Sequence[str | Path],
        *,
        length: int | None = None,
        **options: Any,
    ) -> None:
        """Open the sets; errors are those of :class:`stmtrain.adapters.clips.ClipSource`.

        Args:
            locations: Folders or URLs of shard sets.
            length: Clips of an epoch; by default the number of samples. A trainer that never calls
                :meth:`set_epoch` draws new clips only with a length of all the clips it needs.
            **options: Those of :class:`stmtrain.adapters.clips.ClipSource`.
        """
        super().__init__(locations, **options)
        if length is not None and length < 1:
            raise UsageError(f"length {length}: expected at least 1 clip in an epoch")
        self._length = length
        # Shared, so that workers that persist between epochs see the change.
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return super().__len__() if self._length is None else self._length

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; call it before each pass, as of a sampler."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index}, expected 0..{len(self) - 1}")
        return self.item(int(self._epoch) * len(self) + index)


class ClipStream(ClipSource, torch.utils.data.IterableDataset[Any]):
    """An iterable data set: the batches of a plan, clip by clip, for any number of workers.

    Each worker makes complete batches, which ``DataLoader`` takes from them in turn: with
    ``DataLoader(stream, batch_size=stream.batch_size)`` batch ``k`` of rank ``r`` of ``W`` is that
    rank's share of global batch ``k``, whatever the number of workers.
    """

    def __init__(
        self,
        locations: str | Path | Sequence[str | Path],
        *,
        batch_size: int,
        stop: int | None = None,
        rank: int | None = None,
        world: int | None = None,
        **options: Any,
    ) -> None:
        """Open the sets; errors are those of :class:`stmtrain.adapters.clips.ClipSource`.

        Args:
            locations: Folders or URLs of shard sets.
            batch_size: Clips of a batch of one process.
            stop: Number of batches after which to end; None never ends.
            rank: Number of this process; by default that of ``torch.distributed``.
            world: Number of processes.
            **options: Those of :class:`stmtrain.adapters.clips.ClipSource`. ``start`` counts the
                clips that all processes used before; it resumes with any number of processes and
                workers.
        """
        super().__init__(locations, **options)
        group = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = rank if rank is not None else torch.distributed.get_rank() if group else 0
        if world is None:
            world = torch.distributed.get_world_size() if group else 1
        if batch_size < 1 or not 0 <= self.rank < world:
            raise UsageError(
                f"batch_size {batch_size}, rank {self.rank} of {world}: expected at least 1 clip, "
                "and a rank below the number of processes"
            )
        self.batch_size, self.world, self._stop = batch_size, world, stop

    def __iter__(self) -> "_Indices":
        return _Indices(self)

    def indices(self, worker: int, workers: int) -> Iterator[int]:
        """Yield the indices, from ``start``, of the clips that one worker of this process reads."""
        every = self.batch_size * self.world
        steps = count() if self._stop is None else range(self._stop)
        for step in islice(steps, worker, None, workers):
            first = step * every + self.rank * self.batch_size
            yield from range(first, first + self.batch_size)


class _Indices:
    """The items of one worker; torchdata saves its state and restores it."""

    def __init__(self, stream: ClipStream) -> None:
        info = torch.utils.data.get_worker_info()
        self._share = (0, 1) if info is None else (info.id, info.num_workers)
        self._stream, self._taken = stream, 0
        self._indices = stream.indices(*self._share)

    def __iter__(self) -> "_Indices":
        return self

    def __next__(self) -> Any:
        item = self._stream.item(next(self._indices))
        self._taken += 1
        return item

    def state_dict(self) -> dict[str, int]:
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._taken = state["taken"]
        self._indices = islice(self._stream.indices(*self._share), self._taken, None)
