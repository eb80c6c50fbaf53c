"""The clips of shard sets as they are stored: which are shown, in which order, and their frames."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import ShardError, UsageError
from stmtrain.images.draw import ClipView
from stmtrain.preview.clips import Lazy
from stmtrain.shards.arrays import decode_sample
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord

_PARTS, _CHARACTERS = 20, 120  # most of an origin that is shown

Place = tuple[int, int]
"""A sample: the number of its set, and its index there."""


def stored_clips(
    sets: Sequence[ShardSet],
    places: Sequence[Place],
    limit: int | None,
    *,
    masked: bool = False,
    notes: Mapping[Place, str] = {},
) -> Lazy[tuple[ClipView]]:
    """Return samples of shard sets as clips to show; they are read when they are asked for.

    Args:
        sets: Open sets.
        places: The samples.
        limit: Most frames of each, evenly spaced; ``None`` for all.
        masked: Choose frames with a mask before others.
        notes: What else is to be said of some samples.
    """

    def clip(number: int) -> tuple[ClipView]:
        place = places[number]
        view = _view(sets, place, limit, masked)
        note = (notes[place],) if place in notes else ()
        return (replace(view, about=(*note, *view.about)),)

    return Lazy(len(places), clip)


def in_order(sets: Sequence[ShardSet], rng: np.random.Generator | None = None) -> Lazy[Place]:
    """Return all samples in the order of their sets, or shuffled.

    Raises:
        ShardError: A set is empty.
    """
    for shard_set in sets:
        if not len(shard_set):
            raise ShardError(
                f"{shard_set.name}: the set contains no samples; check how it was made"
            )
    ends = list(accumulate(len(shard_set) for shard_set in sets))
    order = None if rng is None else rng.permutation(ends[-1])

    def place(position: int) -> Place:
        number = position if order is None else int(order[position])
        chosen = int(np.searchsorted(ends, number, side="right"))
        return chosen, number - (ends[chosen - 1] if chosen else 0)

    return Lazy(ends[-1], place)


def with_keys(sets: Sequence[ShardSet], keys: Sequence[str]) -> list[Place]:
    """Return the samples with these keys, in the order of the keys.

    Raises:
        UsageError: There is no sample with one of the keys.
    """
    found: dict[str, list[Place]] = {key: [] for key in keys}
    for number, shard_set in enumerate(sets):
        for index, key in enumerate(shard_set.keys()):
            if key in found:
                found[key].append((number, index))
    for key, places in found.items():
        if not places:
            example = next(sets[0].keys(), "of an empty set")
            names = ", ".join(shard_set.name for shard_set in sets)
            raise UsageError(f"{names}: no sample {key!r}; keys look like {example!r}")
    return [place for places in found.values() for place in places]


def shard_text(shard_set: ShardSet, index: int) -> str:
    """Say in which set and shard a sample is."""
    return shard_set.where(index).partition(", sample ")[0]


def origin_texts(record: SampleRecord) -> Iterator[str]:
    """Say where a sample comes from: its data set and source, its original size.

    The origin is any text of others: each part becomes one short line that can be encoded.
    """
    for name, value in islice(record.origin.items(), _PARTS):
        line = " ".join(f"{name.replace('_', ' ')} {value}".split())
        yield line[:_CHARACTERS].encode(errors="replace").decode()
    height, width = record.original_size
    same = (height, width) == (record.height, record.width)
    yield f"{record.width}x{record.height} px" + ("" if same else f" from {width}x{height}")


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


def _view(sets: Sequence[ShardSet], place: Place, limit: int | None, masked: bool) -> ClipView:
    """Read a record; frames are read and decoded one by one when they are shown."""
    shard_set, index = sets[place[0]], place[1]
    record = shard_set.record(index)
    names: Sequence[str] = record.frames
    if limit is not None:
        names = choose_frames(names, limit, record.mask_frames if masked else ())

    @lru_cache(maxsize=2)
    def decoded(step: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        sample = shard_set.read(index, [names[step]], record)
        arrays = decode_sample(sample, shard_set.where(index))
        return arrays.frames[0], arrays.masks[0] if sample.masks else None

    first, last, total = names[0], names[-1], len(record.frames)
    shown = f"{len(names)} of {total} frames" if len(names) < total else f"{total} frames"
    return ClipView(
        record.sample_key,
        names,
        Lazy(len(names), lambda step: decoded(step)[0]),
        Lazy(len(names), lambda step: decoded(step)[1]),
        record.object_ids,
        (shard_text(shard_set, index), *origin_texts(record), f"{shown} {first} to {last}"),
        Lazy(len(names), lambda t: shard_set.read(index, [names[t]], record).frames[names[t]]),
    )


def _evenly(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    places = np.linspace(0, len(names) - 1, limit).round().astype(int)
    return [names[i] for i in places]
