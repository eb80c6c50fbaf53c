"""A data set's own object ids, of any size or names, and the ids 1..254 in label maps."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.files import read_file
from stmtrain.images.decode import decode_wide_mask
from stmtrain.images.masks import MAX_OBJECT_ID, VOID

ObjectId = int | str
"""An object as its data set calls it: a number of any size, or a name."""


def keep_or_shift(object_ids: Iterable[ObjectId]) -> dict[ObjectId, int]:
    """Map a data set's object ids to label maps, as close to the original as 1..254 allow.

    Numbers in 1..254 are kept; if the smallest is 0, all are one higher. Other numbers are ranked,
    and names too, in their order.
    """
    listed = list(dict.fromkeys(object_ids))
    numbers = [i for i in listed if isinstance(i, int)]
    if len(numbers) < len(listed) or not numbers:
        return rank(listed)
    shift = int(min(numbers) == 0)
    if min(numbers) < 0 or max(numbers) + shift > MAX_OBJECT_ID:
        return rank(sorted(numbers))
    return {i: i + shift for i in sorted(numbers)}


def rank(object_ids: Iterable[ObjectId]) -> dict[ObjectId, int]:
    """Number object ids from 1, in their order."""
    return {object_id: i for i, object_id in enumerate(dict.fromkeys(object_ids), 1)}


def rank_values(paths: Iterable[Path], void: int | None) -> dict[ObjectId, int]:
    """Number the values of masks of more than 8 bits from 1, in ascending order; 0 is background.

    Args:
        paths: The masks of a video, all of which are read.
        void: The value that is no object.
    """
    values: set[int] = set()
    for path in paths:
        values.update(np.unique(decode_wide_mask(read_file(path), str(path))).tolist())
    return rank(sorted(values - {0, void}))


def read_wide(path: Path, labels: Mapping[ObjectId, int], void: int | None) -> NDArray[np.uint8]:
    """Read a mask of more than 8 bits as a label map, (H, W) uint8.

    Args:
        path: The mask.
        labels: Value in the mask to object id in 1..254; other values are background.
        void: The value that becomes void.
    """
    values = decode_wide_mask(read_file(path), str(path))
    found, places = np.unique(values, return_inverse=True)
    table = [VOID if i == void else labels.get(i, 0) for i in found.tolist()]
    return np.array(table, np.uint8)[places].reshape(values.shape)
