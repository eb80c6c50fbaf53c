"""The hardest samples of shard sets: small objects, fast ones, and those that are hidden."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import islice

from stmtrain.errors import DataError, UsageError
from stmtrain.images.masks import ids_present
from stmtrain.preview.stored import Place
from stmtrain.processes import Progress
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from stmtrain.statistics.measure import mask_pairs
from stmtrain.statistics.motion import border, measure_clip, object_motion

MOST_MEASURED = 2000
"""Samples that are measured; of larger sets, the first of the order in which they are given."""


class Worst(StrEnum):
    """What makes a sample hard."""

    SMALL = "small"
    MOTION = "motion"
    OCCLUSION = "occlusion"
    VANISH = "vanish"


def parse_worst(text: str) -> Worst:
    """Return the measure of a name.

    Raises:
        UsageError: There is no measure of this name.
    """
    if text not in list(Worst):
        raise UsageError(f"--worst: expected one of {', '.join(Worst)}, found {text!r}")
    return Worst(text)


def worst_places(
    sets: Sequence[ShardSet], places: Sequence[Place], worst: Worst, progress: Progress
) -> dict[Place, str]:
    """Measure samples, and return them from the worst one on, each with what was found.

    Args:
        sets: Open sets.
        places: The samples, in random order if not all of them should be measured.
        worst: What is measured. Motion and occlusion decode masks.
        progress: Called with the number of measured samples and of all that will be.

    Raises:
        DataError: A sample is damaged, or there is nothing to measure.
    """
    total = min(len(places), MOST_MEASURED)
    found = []
    for done, (number, index) in enumerate(islice(places, total), 1):
        record = sets[number].record(index)
        values = list(_measure(sets[number], index, record, worst))
        if values:
            found.append((max(values), (number, index)))
        progress(done, total, "")
    if not found:
        raise DataError(f"--worst {worst}: none of {total} clips has an object to measure")
    found.sort(key=lambda entry: -entry[0])
    return {place: _TEXTS[worst](value) for value, place in found}


def _measure(
    shard_set: ShardSet, index: int, record: SampleRecord, worst: Worst
) -> Iterator[float]:
    """Yield how hard each object, or pair of masks, of a sample is; nothing if it has no objects.

    These are the share of the frame that an object leaves free at its largest; its shift between
    neighbouring masks, in short sides of the frame; the share of its area that it loses or gains
    between them while it is visible and away from the border; the share of the masks after its
    first that lack it.
    """
    size = (record.height, record.width)
    if worst is Worst.SMALL:
        yield from (1 - max(row) / (size[0] * size[1]) for row in record.areas if any(row))
        return
    if worst is Worst.VANISH:
        yield from measure_clip(record.areas, size, ()).get("absent", [])
        return
    for before, after in mask_pairs(shard_set, index, record, skip=0):
        outer = set(ids_present(border(before))) | set(ids_present(border(after)))
        for object_id, motion in object_motion(before, after).items():
            if worst is Worst.MOTION:
                yield motion.shift / min(size)
            elif object_id not in outer:
                yield 1 - min(motion.area_ratio, 1 / motion.area_ratio)


_TEXTS = {
    Worst.SMALL: lambda value: f"an object covers {1 - value:.3%} of a frame at most",
    Worst.MOTION: lambda value: f"an object moves by {value:.2f} short sides between masks",
    Worst.OCCLUSION: lambda value: f"an object's area changes by {value:.0%} between masks",
    Worst.VANISH: lambda value: f"an object is absent in {value:.0%} of the masks after its first",
}
