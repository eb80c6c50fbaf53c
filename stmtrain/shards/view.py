"""Choose samples and frames of a shard set to look at, and decode them."""

from collections.abc import Sequence

import numpy as np

from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.draw import ClipView
from stmtrain.shards.reader import ShardSet

__all__ = ["choose_frames", "choose_samples", "read_view"]


def choose_samples(shard_set: ShardSet, *, count: int, key: str | None, seed: int) -> list[int]:
    """Return the index of ``key``, or ``count`` indices drawn by ``seed``, ascending."""
    if not len(shard_set):
        raise ShardError(f"{shard_set.name}: the set holds no sample; check what it was made from")
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
    """Return at most ``limit`` names in their order, evenly spaced and from first to last.

    Args:
        names: All frame names.
        limit: Most names to return, >= 1.
        prefer: Names to take before any other, for instance those of frames with a mask.
    """
    taken = set(_evenly(prefer, limit))
    rest = [name for name in names if name not in set(prefer)]
    taken |= set(_evenly(rest, limit - len(taken)))
    return [name for name in names if name in taken]


def read_view(shard_set: ShardSet, index: int, limit: int, *, evenly: bool = False) -> ClipView:
    """Read and decode at most ``limit`` frames of a sample; only these are read from the shard.

    Args:
        shard_set: An open set.
        index: Sample index.
        limit: Most frames.
        evenly: Take them evenly spaced in time; otherwise frames with a mask are preferred.

    Raises:
        DataError: A frame or mask cannot be decoded, or a mask differs from its frame in size.
    """
    record, where = shard_set.record(index), shard_set.where(index)
    names = choose_frames(record.frames, limit, () if evenly else record.mask_frames)
    sample = shard_set.read(index, names, record)
    frames = [decode_frame(sample.frames[n], f"{where}, frame {n}") for n in names]
    masks = [
        decode_mask(sample.masks[n], f"{where}, mask {n}") if n in sample.masks else None
        for n in names
    ]
    for name, frame, mask in zip(names, frames, masks, strict=True):
        if mask is not None and mask.shape != frame.shape[:2]:
            raise DataError(
                f"{where}: mask {name} is {mask.shape[1]}x{mask.shape[0]}, its frame "
                f'{frame.shape[1]}x{frame.shape[0]}; run "stm shards verify"'
            )
    return ClipView(record.sample_key, names, frames, masks, record.object_ids)


def _evenly(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    places = np.linspace(0, len(names) - 1, limit).round().astype(int)
    return [names[i] for i in places]
