"""Label maps: (H, W) uint8 arrays of object ids; 0 is the background and 255 is void.

A data set chooses its object ids freely in 1..254, with gaps. In a batch, the objects of a clip
have the slots 1, 2, ... instead: :func:`ids_to_slots` translates. Free of torch.
"""

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError

VOID = 255
"""The value of a mask where nothing is known: neither background nor an object."""

MAX_OBJECT_ID = 254

_FEW = 5  # up to so many missing ids, passes over the image are faster than a table

_SMOOTH, _RINGING = 8, 4
"""Fewest values that are taken for smooth edges, and for JPEG's ringing about 0 and 255."""

_MIXED, _BLENDED = 0.7, 0.6
"""Least shares of their pixels that lie between others, and near the mean of their neighbours."""

_MEAN = 0.3
"""Distance from that mean, as a share of the neighbours' contrast, up to which a pixel is near."""

_NEAR = 15
"""Distance from 0 or 255 up to which a value may be that level after JPEG compression."""


def areas(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of each value of a label map of any shape; (256,) int64."""
    return np.bincount(mask.reshape(-1), minlength=256)


def ids_present(mask: NDArray[np.uint8]) -> list[int]:
    """Return the object ids that occur in a label map, ascending; without background and void."""
    return ids_counted(areas(mask))


def ids_counted(counts: NDArray[np.int64]) -> list[int]:
    """Return what :func:`ids_present` does, given pixel counts (256,), of several masks too."""
    present: list[int] = (np.flatnonzero(counts[1:VOID]) + 1).tolist()
    return present


def is_binary(mask: NDArray[np.uint8]) -> bool:
    """Tell whether 255 is the only value besides 0: it is then an object, not void."""
    return counts_binary(areas(mask))


def counts_binary(counts: NDArray[np.int64]) -> bool:
    """Return what :func:`is_binary` does, given pixel counts (256,), of several masks too."""
    return bool(counts[VOID]) and not counts[1:VOID].any()


def resample_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a label map (H, W) to (height, width), each pixel taking the id at its centre."""
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(np.intp)
        for n, m in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def shrink_mask(mask: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduce a label map (H, W) to (height, width) for display: no object disappears.

    As :func:`resample_mask`, but an object that no pixel would show gets one where most of it is,
    or the nearest pixel that is not another object's only one. If there are fewer pixels than
    objects, the largest are missing.
    """
    small = resample_mask(mask, size)
    counts, left = areas(mask), areas(small)
    lost = [number for number in ids_counted(counts) if not left[number]]
    for number in sorted(lost, key=lambda lost_id: counts[lost_id]):
        rows, columns = np.nonzero(mask == number)
        cells = rows * size[0] // mask.shape[0] * size[1] + columns * size[1] // mask.shape[1]
        row, column = divmod(int(np.bincount(cells).argmax()), size[1])
        free = (left[small] > 1) | (small == 0) | (small == VOID)
        if free.any():
            far = (np.arange(size[0])[:, None] - row) ** 2 + (np.arange(size[1]) - column) ** 2
            place = np.unravel_index(np.where(free, far, far.max() + 1).argmin(), size)
            left[small[place]] -= 1
            small[place], left[number] = number, 1
    return small


def ids_to_slots(masks: NDArray[np.uint8], object_ids: tuple[int, ...]) -> None:
    """Translate (T, H, W) label maps in place: ``object_ids[i]`` becomes ``i + 1``.

    Void stays void; an id that is not among ``object_ids`` becomes background. Usually the ids that
    occur are their own slots, and nothing needs to be done. If only a few ids are missing from
    ``object_ids``, the ids above each of them move down by one: four vectorised passes, 16 µs for
    384x384 pixels, where looking up every pixel takes 100 µs (``bytes.translate``) to 500 µs
    (NumPy indexing).

    Args:
        masks: (T, H, W) uint8; overwritten.
        object_ids: The ids of slots 1, 2, ...: ascending, in 1..254.
    """
    largest = int(masks.max())
    missing = [i for i in range(1, min(largest, MAX_OBJECT_ID) + 1) if i not in object_ids]
    if not missing:
        return
    if largest == VOID or len(missing) > _FEW:  # void must not move down
        table = slot_table(object_ids)
        masks[:] = np.frombuffer(masks.tobytes().translate(table), np.uint8).reshape(masks.shape)
        return
    flags = np.empty(masks.shape[1:], np.bool_)  # reused: fresh memory costs more than a pass
    ones = flags.view(np.uint8)
    for mask in masks:
        for value in reversed(missing):
            np.not_equal(mask, value, out=flags)
            np.multiply(mask, ones, out=mask)
            np.greater(mask, value, out=flags)
            np.subtract(mask, ones, out=mask)


def slot_table(object_ids: tuple[int, ...]) -> bytes:
    """Return the slot of each value 0..255 of a mask: 1.. in order, void 255, all others 0.

    Example:
        >>> list(slot_table((7, 4))[:9]), slot_table((7, 4))[255]
        ([0, 0, 0, 0, 2, 0, 0, 1, 0], 255)
    """
    table = bytearray(256)
    for slot, object_id in enumerate(object_ids, start=1):
        table[object_id] = slot
    table[VOID] = VOID
    return bytes(table)


def sharpen(mask: NDArray[np.uint8], where: str) -> tuple[NDArray[np.uint8], bool]:
    """Threshold a mask of one object with smooth edges at half of its level.

    Args:
        mask: (H, W) uint8, as decoded.
        where: File; opens the error message.

    Returns:
        A label map (the mask itself if it is one), and whether the mask was smooth. The object has
        its level as id; 255, or a level that no area reaches, becomes 255.

    Raises:
        DataError: It has smooth edges between several objects, whose ids are lost there.
    """
    levels = smooth_levels(mask)
    if not levels:
        return mask, False
    top = int(mask.max())
    objects = [level for level in levels if level > _NEAR]
    if objects and objects[0] < 0.9 * objects[-1]:
        raise DataError(
            f"{where}: expected one value per object, found {len(np.unique(mask))} grey levels "
            "with smooth edges between several objects; make the mask again with nearest-neighbour "
            "resampling, without anti-aliasing, as PNG"
        )
    value = objects[-1] if objects and objects[-1] < VOID - _NEAR else VOID
    return np.where(mask > top // 2, value, 0).astype(np.uint8), True


def smooth_levels(mask: NDArray[np.uint8]) -> list[int]:
    """Return the levels of a mask with smooth edges; empty for a label map.

    Resizing, anti-aliasing and JPEG compression leave grey values along edges, which are no
    objects: they fill no 3x3 pixels. Either most of their pixels are near the mean of their
    neighbours, and at least as many as pixels of abrupt edges if values other than 0 and 255 have
    areas. Or there are many such values, or they cover the edges of 255, and most of their pixels
    lie between a darker and a brighter one, or next to other values of this kind. Thin and tiny
    objects are neither: they lie on one background, and small ids between 0 and 255 are far from
    the mean. JPEG's ringing about 0 and 255 is scattered, but no object is there that fills 3x3
    pixels.

    Args:
        mask: (H, W) uint8.

    Returns:
        The values that fill 3x3 pixels somewhere, ascending: 0 and 255 of a smooth mask of one
        object, or values close to these after JPEG compression.
    """
    if mask.max() <= _NEAR or min(mask.shape) < 3:
        return []
    if np.count_nonzero(mask) == np.count_nonzero(mask == mask.max()):
        return []  # one value besides 0, found in a tenth of the time of counting each
    counts = areas(mask)
    inner = mask[1:-1, 1:-1]
    around = [mask[y : y + inner.shape[0], x : x + inner.shape[1]] for y, x in np.ndindex(3, 3)]
    low, high = np.minimum.reduce(around), np.maximum.reduce(around)
    filled = areas(inner[low == high]) > 0
    levels: list[int] = np.flatnonzero(filled).tolist()
    values = np.flatnonzero((counts > 0) & ~filled)
    few = len(levels) <= _SMOOTH and levels[:1] < [_NEAR]
    if not len(values) or not few or 4 * counts[levels].sum() < 3 * mask.size:
        return []
    both = values[0] <= _NEAR and values[-1] >= VOID - _NEAR
    if levels == [0, VOID] and both and (len(values) >= _RINGING or _in_edge_blocks(mask)):
        return levels
    edge = ~filled[inner]
    edges = np.count_nonzero(edge)
    between = edge & (low < inner) & (inner < high)
    abrupt = np.count_nonzero(filled[inner] & (low < inner) & filled[low])
    blended = np.count_nonzero(between & _near_mean(inner, around, high - low))
    if blended >= _BLENDED * edges > 0 and (levels == [0, VOID] or edges >= abrupt):
        return levels
    covers = edges >= abrupt and filled[VOID]
    if not covers and len(values) < max(_SMOOTH, 4 * len(levels)):
        return []
    for near in around:
        between |= edge & ~filled[near] & (near != inner)
    return levels if 0 < edges * _MIXED <= np.count_nonzero(between) else []


def _in_edge_blocks(mask: NDArray[np.uint8]) -> bool:
    """Return whether all values are close to 0 and 255, and exact in blocks that have one of both.

    JPEG of the best quality rounds only in those blocks of 8x8 pixels that an edge crosses.
    """
    height, width = (n // 8 * 8 for n in mask.shape)
    blocks = mask[:height, :width].reshape(height // 8, 8, width // 8, 8)
    low, high = blocks.min((1, 3)), blocks.max((1, 3))
    exact = (low == high) & ((low == 0) | (low == VOID))
    return bool((exact | (low <= _NEAR) & (high >= VOID - _NEAR)).all()) and not (
        areas(mask)[_NEAR + 1 : VOID - _NEAR].any()
    )


def _near_mean(
    inner: NDArray[np.uint8], around: list[NDArray[np.uint8]], contrast: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return where a pixel differs from its 8 neighbours' mean by little of their contrast."""
    total = np.add.reduce(around, dtype=np.int16)
    near: NDArray[np.bool_] = np.abs(9 * inner.astype(np.int16) - total) <= 8 * _MEAN * contrast
    return near
