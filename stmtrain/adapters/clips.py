"""The clips of a plan by their position: what the adapters for other trainers have in common.

A clip is a function of the sets, the seed and its position. No adapter keeps other state, so the
order of reading, the number of processes and a restart change nothing.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stmtrain.adapters.open_sets import OpenSets
from stmtrain.errors import UsageError
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch, BatchArrays
from stmtrain.streaming.loader import plan_clips
from stmtrain.streaming.make_batch import BatchJob, Stream
from stmtrain.streaming.plan import Plan
from stmtrain.streaming.threads import CallingThread

_REFERENCE = 384
_PATIENCE = 3600.0  # nothing waits: the caller's own thread reads


class ClipSource:
    """Clips of shard sets, by their position in the training order.

    Position ``p`` gives the frames and objects that batch ``p // B``, place ``p % B`` of
    :func:`stmtrain.open_loader` has with batches of ``B`` clips of the same sets and seed.
    Can be pickled, and read by several threads and forked processes.

    Attributes:
        plan: The order; its batches have one clip, so that a step is a position.
        recipe: How clips are drawn: for pseudo-videos, if all sets are; otherwise for videos.
    """

    def __init__(
        self,
        locations: str | Path | Sequence[str | Path],
        *,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        size: int | None = None,
        frames: int = 3,
        max_skip: int = 0,
        max_objects: int = 5,
        start: int = 0,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        """Open the sets; no sample is read yet.

        Args:
            locations: Folders or URLs of shard sets.
            seed: Decides the order of the clips and everything that is drawn within them.
            weights: Share of each set in the clips, in any unit; by default they share equally.
            size: Side of the training crop, pixels: clips are warped and recoloured as by
                :func:`stmtrain.augment`. None gives the frames as they are stored.
            frames: Frames of a clip.
            max_skip: Most frames skipped between neighbouring frames of a clip.
            max_objects: Most objects of a clip.
            start: The position of index 0, which resumes training there: the number of clips
                that were used before.
            transform: Called with each item, before batches are made.

        Raises:
            ShardError: A location is no complete shard set.
            UsageError: A number is out of range, or there is no location.
        """
        if start < 0 or max_skip < 0 or (size is not None and size < 1):
            raise UsageError(
                f"start {start}, max_skip {max_skip}, size {size}: expected at least 0, 0 and 1"
            )
        self._sets = OpenSets(locations)
        self.plan: Plan
        self.plan, recipe = plan_clips(self._sets.get(), 1, seed, weights)
        try:
            self.recipe = replace(recipe, frames=frames, max_objects=max_objects)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self._size, self._max_skip, self._start = size, max_skip, start
        self._transform = transform

    def __len__(self) -> int:
        return sum(map(sum, self.plan.shard_sizes))

    def clip(self, position: int) -> Batch:
        """Read and decode the clip at a position, as a batch of one.

        The next sample of the plan replaces one that no clip can be cut from, with a warning.

        Raises:
            DataError: The sample is damaged, or cannot be read.
        """
        stream = Stream(
            tuple(self._sets.get()), self.plan, self.recipe, self._size or _REFERENCE, 0, 1,
            self._skip, skip_bad=False,
        )  # fmt: skip
        arrays = BatchArrays(1, self.recipe.frames, pinned=False)
        job = BatchJob(stream, position, arrays, CallingThread())
        batch = job.result(_PATIENCE)
        for message in job.bad.values():
            warnings.warn(f"{message}; the next sample replaces it", stacklevel=2)
        return batch

    def item(self, index: int) -> Any:
        """Return the clip at ``start + index`` as a dictionary that batches can be made of.

        Returns:
            What ``transform`` makes of it, or the dictionary itself: ``frames`` (T, 3, S, S)
            float32 in [0, 1] or, without ``size``, (T, H, W, 3) uint8 RGB; ``masks`` (T, S, S) or
            (T, H, W) uint8: 0 background, slots 1.., 255 void; ``num_objects``; ``object_ids``
            (max_objects,) int64, the data set's ids of slots 1.., then 0; ``key``, the sample's
            name; ``frame_names``, in the order of the clip; ``shard_set``, ``index`` and
            ``position`` in the plan. Arrays are torch tensors.
        """
        batch = self.clip(self._start + index)
        frames, masks = batch.frames, batch.masks
        if self._size is not None:
            frames, masks = augment(batch, self._size)
        (origin,) = batch.origins
        object_ids = np.zeros(self.recipe.max_objects, np.int64)
        object_ids[: len(origin.object_ids)] = origin.object_ids
        item = {
            "frames": frames[0],
            "masks": masks[0],
            "num_objects": len(origin.object_ids),
            "object_ids": torch.from_numpy(object_ids),
            "key": batch.keys[0],
            "frame_names": list(origin.frames),
            "shard_set": origin.shard_set,
            "index": origin.index,
            "position": batch.step,
        }
        return item if self._transform is None else self._transform(item)

    def _skip(self, _step: int) -> int:
        return self._max_skip
