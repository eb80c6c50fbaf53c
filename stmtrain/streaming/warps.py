"""Warps, crop and colour of a clip, as numbers: one 3x3 matrix and one colour matrix per frame.

Pure functions of label maps and an rng; ``augment.py`` applies the numbers on the batch's device.

Coordinates are continuous, (x, y) in pixels with the origin at the frame's top left corner: pixel
(row i, column j) covers ``[j, j+1) x [i, i+1)`` and its centre is ``(j + 0.5, i + 0.5)``. A frame's
matrix takes a centre of the output crop to the point of the source frame that is seen there, so
every warp, the flip, the rescale and the crop cost one interpolation together.
"""

import math

import numpy as np
from numpy.typing import NDArray

from stmtrain.streaming.clips import REFERENCE_SIZE, ClipRecipe

__all__ = ["colour_matrices", "colour_numbers", "draw_colours", "draw_forward", "draw_geometry"]

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601

Array = NDArray[np.float64]


def draw_geometry(
    slots: NDArray[np.uint8],
    num_objects: int,
    recipe: ClipRecipe,
    size: int,
    rng: np.random.Generator,
) -> Array:
    """Draw each frame's matrix from output pixel centres to source coordinates.

    Returns:
        (T, 3, 3) float64, the inverse of what :func:`draw_forward` draws.
    """
    return np.asarray(
        np.linalg.inv(draw_forward(slots, num_objects, recipe, size, rng)), np.float64
    )


def draw_forward(
    slots: NDArray[np.uint8],
    num_objects: int,
    recipe: ClipRecipe,
    size: int,
    rng: np.random.Generator,
) -> Array:
    """Draw each frame's matrix from source coordinates to the output's.

    Flip, warps of each frame, rescale, and a crop around the objects: a window that holds the
    objects of all frames, or lies within their common box where that is larger, but stays in the
    frame, and always holds a random pixel of a random object of the first frame. Later frames'
    windows drift.

    Args:
        slots: (T, H, W) uint8 label maps of the clip: 0 background, 1.. objects, 255 void. The
            first shows all of them.
        num_objects: Objects of the clip.
        recipe: Ranges and probabilities.
        size: Side of the square crop, pixels.
        rng: Source of every random choice.

    Returns:
        (T, 3, 3) float64; the last row is (0, 0, 1).

    Raises:
        ValueError: The first frame lacks an object.
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
        forward = np.stack([_draw_warp(recipe, extent, px, rng) @ common for _ in range(length)])
    else:
        forward = np.repeat(common[None], length, axis=0)
        if max(abs(extent[0] - size), abs(extent[1] - size)) < 1e-6:
            return forward  # the crop is the whole frame: no need to look for objects
    boxes, focus = _locate(slots, num_objects, rng)
    start = _draw_window(boxes, focus, forward, extent, size, rng)
    starts = np.repeat(np.array([start]), length, axis=0)
    drift = recipe.drift * size / REFERENCE_SIZE
    starts[1:] += rng.uniform(-drift, drift, (length - 1, 2))
    forward[:, :2, 2] -= starts
    return forward


def draw_colours(recipe: ClipRecipe, rng: np.random.Generator) -> Array:
    """Draw each frame's colour change: brightness, contrast, saturation and hue are all linear.

    Returns:
        (T, 3, 4) float64: ``rgb' = m[:, :3] @ rgb + m[:, 3]``, rgb in [0, 1], not clamped.
    """
    (matrices,) = colour_matrices(recipe, rng.random((1, colour_numbers(recipe))))
    return np.asarray(matrices)


def colour_numbers(recipe: ClipRecipe) -> int:
    """Return how many random numbers a clip's colours take."""
    return 5 + 3 * recipe.frames


def colour_matrices(recipe: ClipRecipe, numbers: Array) -> Array:
    """Turn random numbers into colour changes, for many clips in the time of one.

    Args:
        recipe: Ranges and probabilities.
        numbers: (B, ``colour_numbers``) in [0, 1): of the clip brightness, contrast, saturation,
            whether it is grey, hue; then the first three of each frame.

    Returns:
        (B, T, 3, 4) float64, as :func:`draw_colours` gives them.
    """
    signed = 2 * numbers - 1
    strengths = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    factors = np.empty((len(numbers), 1 + recipe.frames, 3))
    factors[:, 0] = 1 + strengths * signed[:, :3]
    factors[numbers[:, 3] < recipe.greyscale, 0, 2] = 0.0
    jitter = signed[:, 5:].reshape(-1, recipe.frames, 3)
    factors[:, 1:] = 1 + recipe.frame_jitter * jitter
    matrices = _colours(factors)
    clips, frames = matrices[:, :1], matrices[:, 1:]
    if recipe.hue:
        turns = [_turn(math.radians(recipe.hue) * hue) for hue in signed[:, 4].tolist()]
        clips = np.stack(turns)[:, None] @ clips
    return np.asarray((frames @ clips)[:, :, :3])


def _between(low: float, high: float, number: float) -> float:
    """Scale a number from [0, 1) as ``rng.uniform`` does."""
    return low + (high - low) * number


def _draw_warp(
    recipe: ClipRecipe, extent: tuple[float, float], px: float, rng: np.random.Generator
) -> Array:
    """Compose this frame's warps in random order, about the frame's centre."""
    # One call for all of them; an array's numbers would be ten times as slow in what follows.
    *numbers, grown = rng.random(5).tolist()
    turn, lean, right, down = (2 * number - 1 for number in numbers)
    angle = math.radians(recipe.rotate * turn)
    shear = math.tan(math.radians(recipe.shear * lean))
    reach, scale = recipe.translate * px, _between(*recipe.scale, grown)
    cos, sin = math.cos(angle), math.sin(angle)
    warps = (
        [[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, shear, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[1.0, 0.0, reach * right], [0.0, 1.0, reach * down], [0.0, 0.0, 1.0]],
        [[scale, 0.0, 0.0], [0.0, scale, 0.0], [0.0, 0.0, 1.0]],
    )
    wanted = [number < recipe.warp for number in rng.random(len(warps)).tolist()]
    x, y = extent[0] / 2, extent[1] / 2
    matrix = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
    for which in rng.permutation(len(warps)).tolist():
        if wanted[which]:
            matrix = np.array(warps[which]) @ matrix
    matrix[0, 2] += x
    matrix[1, 2] += y
    return matrix


def _draw_window(
    boxes: Array,
    focus: tuple[float, float],
    forward: Array,
    extent: tuple[float, float],
    size: int,
    rng: np.random.Generator,
) -> list[float]:
    """Draw the top left corner (x, y) of the first frame's crop, in rescaled coordinates."""
    seen = ~np.isnan(boxes[:, 0])
    x, y = boxes[seen][:, [0, 2, 0, 2]], boxes[seen][:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)], axis=1)  # (T, 3, 4)
    moved = (forward[seen] @ corners)[:, :2]
    lows, highs = moved.min(axis=(0, 2)).tolist(), moved.max(axis=(0, 2)).tolist()
    points = (forward[0] @ [*focus, 1.0])[:2].tolist()
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


def _locate(
    slots: NDArray[np.uint8], num_objects: int, rng: np.random.Generator
) -> tuple[Array, tuple[float, float]]:
    """Return (T, 4) boxes x0 y0 x1 y1 around each frame's objects, and a pixel of an object.

    A frame without objects has a box of NaN; void counts, as it lies around objects. The pixel is
    a random one of a random object of the first frame, given as its centre (x, y).
    """
    boxes = np.full((len(slots), 4), np.nan)
    for frame, box in zip(slots, boxes, strict=True):
        # The largest value of each row and column: reductions without an image-sized temporary.
        rows = np.flatnonzero(frame.max(axis=1))
        if len(rows):
            y0, y1 = rows[0], rows[-1] + 1
            columns = np.flatnonzero(frame[y0:y1].max(axis=0))
            box[:] = columns[0], y0, columns[-1] + 1, y1
    if not np.isnan(boxes[0, 0]):
        x0, y0, x1, y1 = boxes[0].astype(int).tolist()
        # An int of Python: with one of NumPy's the mask would be compared as eight bytes a pixel.
        inside = slots[0, y0:y1, x0:x1] == int(rng.integers(1, num_objects + 1))
        count = np.count_nonzero(inside)
        if count:
            place = _nth_true(inside.ravel(), int(rng.integers(count)))
            row, column = divmod(place, x1 - x0)
            return boxes, (x0 + column + 0.5, y0 + row + 0.5)
    raise ValueError("the first mask lacks an object that its record lists; pack it again")


def _nth_true(flags: NDArray[np.bool_], n: int) -> int:
    """Return ``np.flatnonzero(flags)[n]``, by halves: that list would be eight times the image."""
    start, stop = 0, len(flags)
    while stop - start > 1024:
        middle = (start + stop) // 2
        before = np.count_nonzero(flags[start:middle])
        if n < before:
            stop = middle
        else:
            start, n = middle, n - before
    return start + int(np.flatnonzero(flags[start:stop])[n])


def _colours(factors: Array) -> Array:
    """Compose saturation, then contrast about 0.5, then brightness; each keeps grey grey.

    ``factors`` (..., 3) are brightness, contrast, saturation, 1 changes nothing; returns
    (..., 4, 4).
    """
    brightness, contrast, saturation = np.moveaxis(factors, -1, 0)[..., None]
    out = np.zeros((*factors.shape[:-1], 4, 4))
    saturated = saturation[..., None] * np.eye(3) + (1 - saturation[..., None]) * _LUMA
    out[..., :3, :3] = (brightness * contrast)[..., None] * saturated
    out[..., :3, 3] = brightness * (1 - contrast) / 2
    out[..., 3, 3] = 1.0
    return out


def _turn(hue: float) -> Array:
    """Return the (4, 4) rotation of RGB by ``hue`` radians about the grey axis (1, 1, 1)."""
    axis = np.full((3, 3), 1 / 3)  # projection on the axis
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    out = np.eye(4)
    out[:3, :3] = math.cos(hue) * (np.eye(3) - axis) + math.sin(hue) * cross + axis
    return out
