"""The statistics of a shard set, measured on a random sample of its clips.

The totals come from the manifest and are exact. Everything else needs records and masks, which are
in the tars, so that a set of a million clips is measured on some of them, which a seed decides.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import ShardError
from stmtrain.images.decode import decode_mask
from stmtrain.processes import Progress, map_unordered
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from stmtrain.statistics.motion import Masks, Pair, measure_clip

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache

MAX_PAIRS = 24
"""Most pairs of masks of one video that are decoded; they are spread evenly over it."""

_PER_JOB = 16
_SOURCE = ("dataset", "split", "recipe")


@dataclass(frozen=True)
class Statistic:
    """One statistic of clips.

    Attributes:
        name: As in :func:`~stmtrain.statistics.motion.measure_clip`.
        title: What it is called in tables.
        unit: What a value is, and its unit.
        log: Whether ratios of its values count, not differences; the values are then positive.
    """

    name: str
    title: str
    unit: str
    log: bool = False


STATISTICS = (
    Statistic("frames", "frames", "per clip"),
    Statistic("objects", "objects", "per clip"),
    Statistic("area", "area", "share of the frame", log=True),
    Statistic("shift", "shift", "of the centre, in short sides of the frame"),
    Statistic("scale", "scale", "later size over earlier size, of lengths", log=True),
    Statistic("iou", "IoU", "of an object's masks before and after"),
    Statistic("border", "at the border", "share of the masks"),
    Statistic("absent", "out of sight", "share of the masks after the object's first"),
    Statistic("leaves", "leaves", "times that an object goes out of sight"),
    Statistic("returns", "returns", "times that it comes back"),
    Statistic("late", "late", "share of the objects that the first mask does not show"),
)
"""Every statistic, in the order of the tables."""


class Values(NamedTuple):
    """The values of a statistic in a sample of clips.

    Attributes:
        values: (N,) float64.
        clips: (N,) int64; the clip of each value, counted from 0 in the sample.
    """

    values: NDArray[np.float64]
    clips: NDArray[np.int64]


@dataclass(frozen=True)
class SetStatistics:
    """What was measured of a set.

    Attributes:
        name: Folder or URL.
        totals: Exact counts of the complete set: ``samples``, ``frames``, ``masks``, ``objects``,
            and ``bytes`` on disk.
        measured: Clips in the sample.
        skip: Frames skipped between the masks that motion is measured between.
        sources: Where the clips of the sample come from, and how many of them.
        values: The values of each statistic, by its name; some may have none.
    """

    name: str
    totals: Mapping[str, int]
    measured: int
    skip: int
    sources: Mapping[str, int]
    values: Mapping[str, Values]


def measure_set(
    location: Path | str,
    *,
    sample: int,
    seed: int = 0,
    skip: int = 0,
    workers: int = 1,
    cache: "Cache | None" = None,
    progress: Progress | None = None,
) -> SetStatistics:
    """Measure a shard set.

    Args:
        location: Folder or URL.
        sample: Most clips that are read; drawn without repetition, all of a smaller set.
        seed: Decides which.
        skip: Frames skipped between the masks that motion is measured between, 0 for neighbours.
        workers: Number of processes.
        cache: Its folder stores shards from a URL.
        progress: Called with the number of clips measured and the size of the sample.

    Raises:
        ShardError: Not a complete shard set, or an empty one.
        DataError: A clip of the sample is damaged.
    """
    shards = ShardSet.open(location, cache)
    if not len(shards):
        raise ShardError(f"{shards.name}: the set contains no samples; check how it was made")
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(shards), size=min(sample, len(shards)), replace=False)
    chosen: list[int] = np.sort(drawn).tolist()
    jobs = [chosen[start : start + _PER_JOB] for start in range(0, len(chosen), _PER_JOB)]
    found: dict[int, _Measured] = {}
    for measured in map_unordered(MeasureClips(location, skip, cache), jobs, workers):
        found.update(measured)
        if progress is not None:
            progress(len(found), len(chosen), "")
    clips = [found[index] for index in chosen]
    manifest = shards.manifest
    totals = {name: manifest.totals.get(name, 0) for name in ("frames", "masks", "objects")}
    return SetStatistics(
        shards.name,
        {"samples": len(shards), **totals, "bytes": sum(shard.bytes for shard in manifest.shards)},
        len(clips),
        skip,
        dict(Counter(clip.source for clip in clips).most_common()),
        {known.name: _collect(clips, known.name) for known in STATISTICS},
    )


class _Measured(NamedTuple):
    source: str
    values: Mapping[str, list[float]]


@dataclass(frozen=True)
class MeasureClips:
    """Measures samples of a set by their indices; picklable, so that processes can share a set."""

    location: Path | str
    skip: int
    cache: "Cache | None" = None

    @cached_property
    def _shards(self) -> ShardSet:
        return ShardSet.open(self.location, self.cache)

    def __call__(self, indices: Sequence[int]) -> dict[int, _Measured]:
        """Return what was measured, by index."""
        return {index: self._measure(index) for index in indices}

    def _measure(self, index: int) -> _Measured:
        record = self._shards.record(index)
        size = (record.height, record.width)
        pairs = mask_pairs(self._shards, index, record, self.skip)
        values = measure_clip(record.areas, size, pairs)
        values["frames"] = [float(len(record.frames))]
        parts = [str(record.origin[key]) for key in _SOURCE if key in record.origin]
        return _Measured(" ".join(parts) or "unknown", values)


def mask_pairs(shard_set: ShardSet, index: int, record: SampleRecord, skip: int) -> Iterator[Pair]:
    """Decode the masks that motion is measured between, as :func:`neighbours`; each of them once.

    Args:
        shard_set: An open set.
        index: Sample index.
        record: The sample's record.
        skip: Frames skipped between the two of a pair.

    Raises:
        DataError: A mask is damaged.
    """
    names = neighbours(record.mask_frames, skip)
    wanted = list(dict.fromkeys(name for pair in names for name in pair))
    data = dict(zip(wanted, shard_set.read_masks(index, wanted), strict=True))
    where = shard_set.where(index)
    masks: dict[str, Masks] = {}
    for pair in names:
        masks = {
            name: masks[name] if name in masks else decode_mask(data[name], f"{where}, {name}")
            for name in pair
        }
        yield masks[pair[0]], masks[pair[1]]


def neighbours(names: Sequence[str], skip: int) -> list[tuple[str, str]]:
    """Pair each name with the one that follows after ``skip`` others, up to ``MAX_PAIRS``."""
    pairs = list(zip(names, names[skip + 1 :], strict=False))
    if len(pairs) <= MAX_PAIRS:
        return pairs
    places = np.linspace(0, len(pairs) - 1, MAX_PAIRS).round().astype(int)
    return [pairs[place] for place in places]


def _collect(clips: Sequence[_Measured], name: str) -> Values:
    lists = [clip.values.get(name, []) for clip in clips]
    return Values(
        np.array([value for values in lists for value in values], np.float64),
        np.repeat(np.arange(len(lists)), [len(values) for values in lists]),
    )
