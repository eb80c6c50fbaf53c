"""Choose samples and frames of a shard set to look at, and decode them."""

from collections.abc import Sequence

import numpy as np

from stmtrain.errors import ShardError, UsageError
from stmtrain.images.draw import ClipView
from stmtrain.shards.arrays import decode_sample
from stmtrain.shards.reader import ShardSet


def choose_samples(shard_set: ShardSet, *, count: int, key: str | None, seed: int) -> list[int]:
    """Choose the samples to show.

    Args:
        shard_set: An open set.
        count: Number of samples, drawn without repetition.
        key: Choose this sample instead.
        seed: Determines which samples are drawn.

    Returns:
        Sample indices, ascending.

    Raises:
        ShardError: The set is empty.
        UsageError: There is no sample with this key.
    """
    if not len(shard_set):
        raise ShardError(f"{shard_set.name}: the set contains no samples; check how it was made")
    if key is not None:
        for index, known in enumerate(shard_set.keys()):
            if known == key:
                return [index]
        example = next(shard_set.keys())
        raise UsageError(f"{shard_set.name}: no sample {key!r}; keys look like {example!r}")
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(shard_set), size=min(count, len(shard_set)), replace=False)
    return sorted(int(i) for i in drawn)


def choose_frames(names: Sequence[str], limit: int, prefer: Sequence[str] = ()) -> list[str]:
    """Choose at most ``limit`` names, evenly spaced from the first to the last, in their order.

    Args:
        names: All frame names.
        limit: Maximum number of names, >= 1.
        prefer: Names to choose before any other, for instance those of frames with a mask.
    """
    taken = set(_evenly(prefer, limit))
    rest = [name for name in names if name not in set(prefer)]
    taken |= set(_evenly(rest, limit - len(taken)))
    return [name for name in names if name in taken]


def read_view(shard_set: ShardSet, index: int, limit: int, *, evenly: bool = False) -> ClipView:
    """Read and decode at most ``limit`` frames of a sample; no other frames are read.

    Args:
        shard_set: An open set.
        index: Sample index.
        limit: Maximum number of frames.
        evenly: Choose frames evenly spaced in time; otherwise those with a mask are preferred.

    Raises:
        DataError: A frame or mask is damaged, or does not have the size in the record.
    """
    record = shard_set.record(index)
    names = choose_frames(record.frames, limit, () if evenly else record.mask_frames)
    sample = shard_set.read(index, names, record)
    decoded = decode_sample(sample, shard_set.where(index))
    masks = [
        mask if name in sample.masks else None
        for name, mask in zip(names, decoded.masks, strict=True)
    ]
    return ClipView(record.sample_key, names, list(decoded.frames), masks, record.object_ids)


def _evenly(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    places = np.linspace(0, len(names) - 1, limit).round().astype(int)
    return [names[i] for i in places]
