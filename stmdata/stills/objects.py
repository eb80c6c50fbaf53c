"""Which objects of a still image are used, and its label map: the same rule for every source."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stmtrain.shards.sample import Skipped

MAX_INSTANCES = 200
"""Most instances of one image in its label map; pasted objects have the ids above them."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """An object that may be used.

    Attributes:
        name: For the list of skipped inputs.
        mask: (h, w) uint8, nonzero inside.
        corner: (top, left) of the mask in the image, px.
        area: Of the object, px.
    """

    name: str
    mask: NDArray[np.uint8]
    corner: tuple[int, int]
    area: int


def draw_labels(
    candidates: Sequence[Candidate],
    size: tuple[int, int],
    min_area: float,
    *,
    small_in_front: bool,
) -> tuple[NDArray[np.uint8], tuple[Skipped, ...]]:
    """Draw the label map of an image.

    Each candidate becomes an object or is skipped: if it is smaller than ``min_area``, if there are
    ``MAX_INSTANCES`` before it, or if the objects in front of it hide too much of it.

    Args:
        candidates: In the order of the data set.
        size: (height, width) of the image, px.
        min_area: Smallest area of an object, px.
        small_in_front: Where objects overlap, the smaller one is in front, and ``min_area`` of each
            object must stay visible. Otherwise the earlier one is in front, and an object is used
            if a single pixel of it is visible, as in the published code.

    Returns:
        (H, W) uint8, 0 background, ids 1.. without gaps in the order of the candidates; and the
        skipped candidates.
    """
    large, skipped = _large_enough(candidates, min_area)
    order = list(range(len(large)))
    if small_in_front:
        order.sort(key=lambda i: large[i].area)
    least = max(min_area, 1) if small_in_front else 1
    labels: NDArray[np.uint8] = np.zeros(size, np.uint8)
    ids = np.zeros(MAX_INSTANCES + 1, np.uint8)
    for i in order:  # from front to back
        mask, (top, left) = large[i].mask, large[i].corner
        below = labels[top : top + mask.shape[0], left : left + mask.shape[1]]
        visible = (mask != 0) & (below == 0)
        if np.count_nonzero(visible) >= least:
            below[visible] = i + 1
            ids[i + 1] = 1
    hidden = [one.name for i, one in enumerate(large, 1) if not ids[i]]
    if hidden:
        labels = (np.cumsum(ids) * ids).astype(np.uint8)[labels]
    skipped += [Skipped(name, "hidden by other objects") for name in hidden]
    return labels, tuple(skipped)


def _large_enough(
    candidates: Sequence[Candidate], min_area: float
) -> tuple[list[Candidate], list[Skipped]]:
    large: list[Candidate] = []
    skipped = []
    for one in candidates:
        if one.area < min_area:
            skipped.append(Skipped(one.name, f"instance smaller than {min_area:g} px"))
        elif len(large) >= MAX_INSTANCES:
            skipped.append(Skipped(one.name, f"more than {MAX_INSTANCES} instances in an image"))
        else:
            large.append(one)
    return large, skipped
