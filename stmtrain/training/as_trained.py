"""Clips as training gets them: the loader's batches at a step, warped and coloured, to look at."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from stmtrain.errors import UsageError
from stmtrain.images.draw import ClipView
from stmtrain.images.masks import ids_to_slots
from stmtrain.preview.clips import Lazy
from stmtrain.preview.stored import origin_texts, shard_text
from stmtrain.shards.arrays import decode_sample
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch, ClipOrigin
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.setup import TrainingData, TrainOptions, build_loader


def trained_clips(
    options: TrainOptions, recipe: TrainRecipe, data: TrainingData, step: int, *, beside: bool
) -> Lazy[Sequence[ClipView]]:
    """Return the clips of all batches of a run from a step on; each is made when it is asked for.

    Args:
        options: How the data is read.
        recipe: Every number of the run.
        data: The opened shard sets of the run.
        step: The first step, from 0.
        beside: Put the stored frames next to those of training.

    Returns:
        The clips of ``step``, then those of the next step, up to the last one of the recipe.

    Raises:
        UsageError: The run has no such step.
    """
    if not 0 <= step < recipe.steps:
        raise UsageError(
            f"--as-trained {step}: expected a step from 0 to {recipe.steps - 1}, the last one of "
            f"the recipe {recipe.name}"
        )

    @lru_cache(maxsize=2)
    def batch_at(later: int) -> tuple[Batch, list[ClipView]]:
        with build_loader(options, recipe, data, torch.device("cpu"), step + later) as loader:
            batch = next(loader)
            return batch, batch_views(batch, *augment(batch, recipe.size), data, recipe)

    def clip(number: int) -> Sequence[ClipView]:
        later, place = divmod(number, recipe.batch_size)
        batch, views = batch_at(later)
        view = views[place]
        if not beside:
            return (view,)
        stored = _stored(data.sets[batch.origins[place].shard_set], batch.origins[place])
        return replace(view, caption=f"{view.caption} as trained"), stored

    return Lazy((recipe.steps - step) * recipe.batch_size, clip)


def batch_views(
    batch: Batch, frames: Tensor, masks: Tensor, data: TrainingData, recipe: TrainRecipe
) -> list[ClipView]:
    """Return the clips of a batch as the network receives them, with slots as object ids.

    Args:
        batch: The batch.
        frames: (B, T, 3, S, S) float RGB in [0, 1], of :func:`~stmtrain.streaming.augment.augment`.
        masks: (B, T, S, S) uint8 slots, of the same.
        data: The shard sets of the batch.
        recipe: Of the run.
    """
    pixels = (frames * 255).round().clamp(0, 255).byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    labels = masks.cpu().numpy()
    views = []
    for place, (key, origin) in enumerate(zip(batch.keys, batch.origins, strict=True)):
        shard_set = data.sets[origin.shard_set]
        record = shard_set.record(origin.index)
        about = (
            f"step {batch.step}, clip {place + 1} of {len(batch.keys)}",
            shard_text(shard_set, origin.index),
            *origin_texts(record),
            f"frames {' '.join(origin.frames)}",
            *_slots(record, origin.object_ids),
            f"recipe {recipe.name}",
            f"seed {recipe.seed}",
            f"crop {recipe.size} px",
        )
        slots = range(1, len(origin.object_ids) + 1)
        views.append(
            ClipView(key, origin.frames, list(pixels[place]), list(labels[place]), slots, about)
        )
    return views


def _stored(shard_set: ShardSet, origin: ClipOrigin) -> ClipView:
    """Return the stored frames of a clip; the objects of the clip have the ids of their slots."""
    sample = shard_set.read(origin.index, origin.frames)
    arrays = decode_sample(sample, shard_set.where(origin.index))
    masks = arrays.masks.copy()
    ids_to_slots(masks, origin.object_ids)
    return ClipView(
        f"{arrays.record.sample_key} stored",
        origin.frames,
        list(arrays.frames),
        list(masks),
        range(1, len(origin.object_ids) + 1),
        jpegs=list(sample.frames.values()),
    )


def _slots(record: SampleRecord, object_ids: Sequence[int]) -> Iterator[str]:
    """Say which objects the slots are, unless all of them keep their ids."""
    if tuple(object_ids) != tuple(range(1, len(object_ids) + 1)):
        pairs = (f"{slot} is object {number}" for slot, number in enumerate(object_ids, 1))
        yield f"slot {', '.join(pairs)}"
    rest = [number for number in record.object_ids if number not in object_ids]
    if rest:
        yield f"background: object {', '.join(map(str, rest))}"
