"""How objects change from one mask to the next, and when they are visible.

Everything that measures clips measures them here: ``stm stats`` and the benchmarks.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stmtrain.images.masks import ids_present

Masks = NDArray[np.uint8]
Pair = tuple[Masks, Masks]
"""Two label maps (H, W) of one clip, the earlier first."""


class Motion(NamedTuple):
    """The change of an object between two masks that show it.

    Attributes:
        iou: Intersection over union of the two, in [0, 1].
        shift: Distance between the two centroids, pixels.
        area_ratio: Later area over earlier area.
    """

    iou: float
    shift: float
    area_ratio: float


def object_motion(before: Masks, after: Masks) -> dict[int, Motion]:
    """Measure each object that both label maps (H, W) show, by its id."""
    motions = {}
    for object_id in ids_present(before):
        earlier, later = before == object_id, after == object_id
        area, later_area = np.count_nonzero(earlier), np.count_nonzero(later)
        if later_area:
            common = np.count_nonzero(earlier & later)
            motions[object_id] = Motion(
                common / (area + later_area - common),
                float(np.linalg.norm(_centroid(later) - _centroid(earlier))),
                later_area / area,
            )
    return motions


def measure_clip(
    areas: Sequence[Sequence[int]], size: tuple[int, int], pairs: Iterable[Pair]
) -> dict[str, list[float]]:
    """Measure one clip or video.

    Args:
        areas: Pixels of each object (rows) in each mask (columns), as in a sample's record.
        size: (height, width) of the masks, pixels.
        pairs: Masks to measure motion between.

    Returns:
        By name of a statistic, its values in this clip: ``objects`` (one value), ``area`` (share of
        the frame; for each object and mask that shows it), ``shift`` (in short sides of the frame),
        ``scale`` (factor on lengths), ``iou`` (for each object and pair of masks that show it),
        ``border`` (1 where such an object touches the frame's border, else 0), and for each object
        ``late`` (1 if the first mask does not show it), ``absent`` (share of the masks after the
        first that shows it in which it is hidden or outside), ``leaves`` and ``returns`` (how often
        it goes out of sight and comes back).
    """
    height, width = size
    visible = [row for row in map(np.asarray, areas) if row.any()]
    values: dict[str, list[float]] = {"objects": [float(len(visible))]}
    for row in visible:
        _add(values, "area", *(row[row > 0] / (height * width)))
        _add(values, "late", float(row[0] == 0))
        seen = row[np.flatnonzero(row)[0] :] > 0
        if len(seen) > 1:
            changes = np.diff(seen.astype(np.int8))
            _add(values, "absent", 1 - float(seen[1:].mean()))
            _add(values, "leaves", float(np.count_nonzero(changes < 0)))
            _add(values, "returns", float(np.count_nonzero(changes > 0)))
    for before, after in pairs:
        edge = set(ids_present(border(before)))
        for object_id, motion in object_motion(before, after).items():
            _add(values, "iou", motion.iou)
            _add(values, "shift", motion.shift / min(size))
            _add(values, "scale", motion.area_ratio**0.5)
            _add(values, "border", float(object_id in edge))
    return values


def _add(values: dict[str, list[float]], name: str, *more: float) -> None:
    values.setdefault(name, []).extend(map(float, more))


def border(mask: Masks) -> Masks:
    """Return the outermost pixels of a label map, flat."""
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _centroid(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean (row, column) of a non-empty mask."""
    sums = [np.count_nonzero(mask, axis=axis) for axis in (1, 0)]
    return np.array([np.arange(len(s)) @ s / s.sum() for s in sums])
