"""Polygons to masks, equal to the pixel with what pycocotools and OpenCV fill. Free of torch.

Annotations were made with one of these two, so that the area of an object depends on it.
Coordinates are untrusted: time and memory are bounded by the length of the outline, of which
corners far outside the image are refused.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GRID = 5
"""pycocotools follows outlines on a grid of a fifth of a pixel."""
_MOST_POINTS = 4_000_000
"""Longest outline that is drawn, in points of its grid; a screen's border has 6,000 pixels."""
_FAR = 4
"""Corners farther outside than this many image sides are refused."""

Size = tuple[int, int]
Ring = Sequence[float] | Sequence[Sequence[float]]


def fill_coco(rings: Sequence[Ring], size: Size) -> NDArray[np.bool_]:
    """Fill the union of polygons as ``pycocotools.mask.frPyObjects`` does.

    Args:
        rings: Flat x, y, x, y, ... or pairs, px; rings of fewer than three corners are empty.
        size: (height, width) of the image, px.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: A corner is no pair of numbers, or far outside the image.
    """
    out = np.zeros(size, np.bool_)
    for ring in rings:
        corners = _corners(ring, size)
        if len(corners) >= 3:
            out |= _fill_coco(corners, size)
    return out


def _fill_coco(corners: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    height, width = size
    start = np.trunc(_GRID * corners + 0.5).astype(np.int64)
    points = _walk(start, np.roll(start, -1, axis=0))
    x, y = points[:, 0], points[:, 1]
    moved = np.flatnonzero(np.diff(x)) + 1
    column = (np.minimum(x[moved], x[moved - 1]) + 0.5) / _GRID - 0.5
    row = np.minimum(y[moved], y[moved - 1])
    row = np.ceil(np.clip((row + 0.5) / _GRID - 0.5, 0, height))
    hit = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    places = (column[hit] * height + row[hit]).astype(np.int64)
    # Each crossing of a column turns the pixels below it over.
    turns = np.bincount(places, minlength=height * width + 1)[: height * width]
    return (np.cumsum(turns) & 1).astype(np.bool_).reshape(width, height).T


def _walk(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the grid points (M, 2) along edges (K, 2) to (K, 2), both ends of each included."""
    steps = np.abs(end - start)
    wide = steps[:, 0] >= steps[:, 1]
    main = np.where(wide, 0, 1)
    rows = np.arange(len(start))
    length = steps[rows, main]
    flip = start[rows, main] > end[rows, main]
    low = np.where(flip[:, None], end, start)
    high = np.where(flip[:, None], start, end)
    _check_length(length)
    slope = (high - low)[rows, 1 - main] / np.maximum(length, 1)
    edge = np.repeat(rows, length + 1)
    first = np.cumsum(length + 1) - (length + 1)
    step = np.arange(edge.size) - first[edge]
    step = np.where(flip[edge], length[edge] - step, step)
    out = np.empty((edge.size, 2), np.int64)
    out[np.arange(edge.size), main[edge]] = low[edge, main[edge]] + step
    other = np.trunc(low[edge, 1 - main[edge]] + slope[edge] * step + 0.5).astype(np.int64)
    out[np.arange(edge.size), 1 - main[edge]] = other
    return out


def fill_opencv(rings: Sequence[Ring], size: Size) -> NDArray[np.bool_]:
    """Fill rings as ``cv2.fillPoly`` does, all in one call: even-odd, with their outlines.

    Corners are truncated to whole pixels first, as is done for VISOR.

    Args:
        rings: As of :func:`fill_coco`; empty ones are left out.
        size: (height, width) of the image, px.

    Raises:
        ValueError: A corner is no pair of numbers, or far outside the image.
    """
    turns = np.zeros((size[0], size[1] + 1), np.int64)
    out = np.zeros(size, np.bool_)
    for ring in rings:
        corners = np.trunc(_corners(ring, size)).astype(np.int64)
        if not len(corners):
            continue
        following = np.roll(corners, 1, axis=0)
        _turn_rows(turns, following, corners)
        line = _bresenham(following, corners)
        inside = ((line >= 0) & (line < size[::-1])).all(axis=1)
        out[line[inside, 1], line[inside, 0]] = True
    return out | (np.cumsum(turns[:, :-1], axis=1) & 1).astype(np.bool_)


def _turn_rows(turns: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
    """Note where each row crosses an edge: the pixels from there on are turned over."""
    height, width = turns.shape
    _check_length(np.abs(end - start)[:, 1])
    upward = start[:, 1] > end[:, 1]
    top = np.where(upward[:, None], end, start)
    bottom = np.where(upward[:, None], start, end)
    rise = bottom[:, 1] - top[:, 1]
    edge = np.repeat(np.arange(len(start)), rise)
    first = np.cumsum(rise) - rise
    step = np.arange(edge.size) - first[edge]
    row = top[edge, 1] + step
    x = top[edge, 0] + (bottom[edge, 0] - top[edge, 0]) * step / rise[edge]
    seen = (row >= 0) & (row < height)
    column = np.clip(np.ceil(x[seen]), 0, width - 1).astype(np.int64)
    np.add.at(turns, (row[seen], column), 1)


def _bresenham(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pixels (M, 2) of lines between (K, 2) and (K, 2), drawn from left to right."""
    swap = (start[:, 0] > end[:, 0])[:, None]
    start, end = np.where(swap, end, start), np.where(swap, start, end)
    steps = np.abs(end - start)
    main = np.where(steps[:, 0] >= steps[:, 1], 0, 1)
    rows = np.arange(len(start))
    length, across = steps[rows, main], steps[rows, 1 - main]
    _check_length(length)
    edge = np.repeat(rows, length + 1)
    first = np.cumsum(length + 1) - (length + 1)
    step = np.arange(edge.size) - first[edge]
    sign = np.sign(end - start)
    out = np.empty((edge.size, 2), np.int64)
    every = np.arange(edge.size)
    out[every, main[edge]] = start[edge, main[edge]] + step * sign[edge, main[edge]]
    shift = (2 * step * across[edge] + length[edge] - 1) // np.maximum(2 * length[edge], 1)
    out[every, 1 - main[edge]] = start[edge, 1 - main[edge]] + shift * sign[edge, 1 - main[edge]]
    return out


def _check_length(length: NDArray[np.int64]) -> None:
    if length.sum() + len(length) > _MOST_POINTS:
        raise ValueError(f"an outline is longer than {_MOST_POINTS} points")


def _corners(ring: Ring, size: Size) -> NDArray[np.float64]:
    """Return the corners of a ring, (K, 2) x and y, px."""
    corners = np.array(ring, np.float64).reshape(-1, 2)
    low, high = -_FAR * max(size), (_FAR + 1) * max(size)
    if corners.size and not (low <= corners.min() and corners.max() <= high):  # NaN is refused too
        raise ValueError(f"a corner lies far outside {size[1]}x{size[0]} pixels")
    return corners
