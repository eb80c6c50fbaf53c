"""The warps and the crop of a clip, as numbers: one 3x3 matrix per frame.

Pure functions of label maps and an rng; ``augment.py`` applies the matrices on the batch's device.

Coordinates are continuous, (x, y) in pixels with the origin at the frame's top left corner: pixel
(row i, column j) covers ``[j, j+1) x [i, i+1)`` and its centre is ``(j + 0.5, i + 0.5)``. Warps map
a point of the source frame to the output crop; their inverse maps a pixel centre of the crop to the
point of the source frame that is seen there. All warps, the flip, the rescale and the crop are one
matrix, and so cost one interpolation.
"""

import math

import numpy as np
from numpy.typing import NDArray

from stmtrain.streaming.clips import REFERENCE_SIZE, ClipRecipe

Array = NDArray[np.float64]


def draw_warps(
    slots: NDArray[np.uint8],
    num_objects: int,
    recipe: ClipRecipe,
    size: int,
    rng: np.random.Generator,
) -> Array:
    """Draw each frame's matrix from source coordinates to those of the crop.

    A matrix is composed of the flip, the warps of the frame, the rescale, and a crop around the
    objects: a window that contains the objects of all frames, or is within their common bounding
    box where that is larger. The window stays in the frame and always contains a random pixel of a
    random object of the first frame. The windows of later frames drift.

    Args:
        slots: (T, H, W) uint8 label maps of the clip: 0 background, 1.. objects, 255 void. Every
            object is visible in the first one.
        num_objects: Number of objects of the clip.
        recipe: Ranges and probabilities.
        size: Side of the square crop, pixels.
        rng: Source of every random choice.

    Returns:
        (T, 3, 3) float64; the last row is (0, 0, 1).

    Raises:
        ValueError: An object is missing from the first frame.
    """
    length, height, width = slots.shape
    factor = size * recipe.short_side / min(height, width)  # source px to output px
    grown, turned = rng.random(2).tolist()
    rescale = factor * _between(*recipe.rescale, grown)
    extent = width * rescale, height * rescale
    x_axis = [-rescale, 0.0, extent[0]] if turned < recipe.flip else [rescale, 0.0, 0.0]
    common = np.array([x_axis, [0.0, rescale, 0.0], [0.0, 0.0, 1.0]])
    if recipe.warp > 0:
        px = size / REFERENCE_SIZE
        warps = np.stack([_draw_warp(recipe, extent, px, rng) @ common for _ in range(length)])
    else:
        warps = np.repeat(common[None], length, axis=0)
        if max(abs(extent[0] - size), abs(extent[1] - size)) < 1e-6:
            return warps  # the crop is the complete frame: no need to look for objects
    boxes = _object_boxes(slots)
    focus = _draw_pixel(slots[0], boxes[0], num_objects, rng)
    start = _draw_window(boxes, focus, warps, extent, size, rng)
    starts = np.repeat(np.array([start]), length, axis=0)
    drift = recipe.drift * size / REFERENCE_SIZE
    starts[1:] += rng.uniform(-drift, drift, (length - 1, 2))
    warps[:, :2, 2] -= starts
    return warps


def _between(low: float, high: float, number: float) -> float:
    """Scale a number in [0, 1) to ``[low, high)`` as ``rng.uniform`` does."""
    return low + (high - low) * number


def _draw_warp(
    recipe: ClipRecipe, extent: tuple[float, float], px: float, rng: np.random.Generator
) -> Array:
    """Compose the warps of one frame in random order, about the frame's centre."""
    # One call draws all numbers, and a list is ten times as fast as an array in what follows.
    *numbers, grown = rng.random(5).tolist()
    turn, lean, right, down = (2 * number - 1 for number in numbers)
    angle = math.radians(recipe.rotate * turn)
    shear = math.tan(math.radians(recipe.shear * lean))
    reach, scale = recipe.translate * px, _between(*recipe.scale, grown)
    cos, sin = math.cos(angle), math.sin(angle)
    kinds = (
        [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, shear, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, reach * right], [0.0, 1.0, reach * down], [0.0, 0.0, 1.0]],
        [[scale, 0.0, 0.0], [0.0, scale, 0.0], [0.0, 0.0, 1.0]],
    )
    wanted = [number < recipe.warp for number in rng.random(len(kinds)).tolist()]
    x, y = extent[0] / 2, extent[1] / 2
    matrix = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
    for which in rng.permutation(len(kinds)).tolist():
        if wanted[which]:
            matrix = np.array(kinds[which]) @ matrix
    matrix[0, 2] += x
    matrix[1, 2] += y
    return matrix


def _draw_window(
    boxes: Array,
    focus: tuple[float, float],
    warps: Array,
    extent: tuple[float, float],
    size: int,
    rng: np.random.Generator,
) -> list[float]:
    """Draw the top left corner (x, y) of the first frame's crop, in rescaled coordinates.

    ``boxes`` (T, 4) are those of the objects, ``focus`` is a point (x, y) of the first frame that
    the crop must contain, ``warps`` (T, 3, 3) do not include the crop yet, and ``extent`` is the
    (width, height) of the rescaled frame.
    """
    seen = ~np.isnan(boxes[:, 0])
    x, y = boxes[seen][:, [0, 2, 0, 2]], boxes[seen][:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)], axis=1)  # (T, 3, 4)
    moved = (warps[seen] @ corners)[:, :2]
    lows, highs = moved.min(axis=(0, 2)).tolist(), moved.max(axis=(0, 2)).tolist()
    points = (warps[0] @ [*focus, 1.0])[:2].tolist()
    margin, starts = size / 10, []
    for low, high, point, side, number in zip(
        lows, highs, points, extent, rng.random(2).tolist(), strict=True
    ):
        start = _between(min(low, high - size), max(low, high - size), number)
        start = min(max(start, point - size + margin), point - margin)
        # Stay in the frame, unless the warp moved the object out of it.
        room = side - size
        lowest = point - margin if point < 0 else min(room / 2, 0.0)
        highest = point - size + margin if point > side else max(room, room / 2)
        starts.append(min(max(start, lowest), highest))
    return starts


def _object_boxes(slots: NDArray[np.uint8]) -> Array:
    """Return (T, 4) boxes x0 y0 x1 y1 around each frame's objects, NaN for a frame without any.

    Void counts as an object, because it surrounds objects.
    """
    boxes = np.full((len(slots), 4), np.nan)
    for frame, box in zip(slots, boxes, strict=True):
        # The largest value of each row and column: reductions without an image-sized temporary.
        rows = np.flatnonzero(frame.max(axis=1))
        if len(rows):
            y0, y1 = rows[0], rows[-1] + 1
            columns = np.flatnonzero(frame[y0:y1].max(axis=0))
            box[:] = columns[0], y0, columns[-1] + 1, y1
    return boxes


def _draw_pixel(
    slots: NDArray[np.uint8], box: Array, num_objects: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Draw a pixel of an object in (H, W) ``slots``, within their ``box``; return its centre x, y.

    Raises:
        ValueError: The object that was drawn is not there.
    """
    if not np.isnan(box[0]):
        x0, y0, x1, y1 = box.astype(int).tolist()
        # A Python int: with a NumPy int64 the comparison would take eight bytes per pixel.
        inside = slots[y0:y1, x0:x1] == int(rng.integers(1, num_objects + 1))
        count = np.count_nonzero(inside)
        if count:
            place = _nth_true(inside.ravel(), int(rng.integers(count)))
            row, column = divmod(place, x1 - x0)
            return x0 + column + 0.5, y0 + row + 0.5
    raise ValueError("the first mask lacks an object that its record lists; pack the sample again")


def _nth_true(flags: NDArray[np.bool_], n: int) -> int:
    """Return ``np.flatnonzero(flags)[n]`` by bisection, without a list of eight bytes per pixel."""
    start, stop = 0, len(flags)
    while stop - start > 1024:
        middle = (start + stop) // 2
        before = np.count_nonzero(flags[start:middle])
        if n < before:
            stop = middle
        else:
            start, n = middle, n - before
    return start + int(np.flatnonzero(flags[start:stop])[n])
