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

from stmtrain.clips import REFERENCE_SIZE, ClipRecipe

__all__ = ["draw_colours", "draw_geometry"]

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
    rescale = factor * rng.uniform(*recipe.rescale)
    mirrored = rng.random() < recipe.flip
    common = np.diag([-rescale if mirrored else rescale, rescale, 1.0])
    common[0, 2] = width * rescale if mirrored else 0.0
    extent = np.array([width, height]) * rescale
    forward = np.repeat(common[None], length, axis=0)
    if recipe.warp > 0:
        centre, px = extent / 2, size / REFERENCE_SIZE
        forward = np.stack([_draw_warp(recipe, centre, px, rng) @ common for _ in range(length)])
    elif float(abs(extent - size).max()) < 1e-6:
        return np.linalg.inv(forward)  # the crop is the whole frame: no need to look for objects
    boxes, focus = _locate(slots, num_objects, rng)
    start = _draw_window(boxes, focus, forward, extent, size, rng)
    starts = np.repeat(start[None], length, axis=0)
    drift = recipe.drift * size / REFERENCE_SIZE
    starts[1:] += rng.uniform(-drift, drift, (length - 1, 2))
    forward[:, :2, 2] -= starts
    return np.linalg.inv(forward)


def draw_colours(recipe: ClipRecipe, rng: np.random.Generator) -> Array:
    """Draw each frame's colour change: brightness, contrast, saturation and hue are all linear.

    Returns:
        (T, 3, 4) float64: ``rgb' = m[:, :3] @ rgb + m[:, 3]``, rgb in [0, 1], not clamped.
    """
    strengths = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    factors = np.empty((1 + recipe.frames, 3))
    factors[0] = 1 + strengths * rng.uniform(-1, 1, 3)
    if rng.random() < recipe.greyscale:
        factors[0, 2] = 0.0
    hue = math.radians(recipe.hue) * rng.uniform(-1, 1)
    factors[1:] = 1 + recipe.frame_jitter * rng.uniform(-1, 1, (recipe.frames, 3))
    clip, *frames = _colours(factors)
    if hue:
        clip = _turn(hue) @ clip
    return np.asarray((np.stack(frames) @ clip)[:, :3])


def _draw_warp(recipe: ClipRecipe, centre: Array, px: float, rng: np.random.Generator) -> Array:
    """Compose this frame's warps in random order, about the frame's centre."""
    angle = math.radians(recipe.rotate * rng.uniform(-1, 1))
    shear = math.tan(math.radians(recipe.shear * rng.uniform(-1, 1)))
    shift = recipe.translate * px * rng.uniform(-1, 1, 2)
    scale = rng.uniform(*recipe.scale)
    cos, sin = math.cos(angle), math.sin(angle)
    warps = (
        [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
        [[1, shear, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]],
        [[scale, 0, 0], [0, scale, 0], [0, 0, 1]],
    )
    wanted = rng.random(len(warps)) < recipe.warp
    matrix = np.eye(3)
    matrix[:2, 2] = -centre
    for which in rng.permutation(len(warps)):
        if wanted[which]:
            matrix = np.array(warps[which]) @ matrix
    matrix[:2, 2] += centre
    return matrix


def _draw_window(
    boxes: Array, focus: Array, forward: Array, extent: Array, size: int, rng: np.random.Generator
) -> Array:
    """Draw the top left corner (x, y) of the first frame's crop, in rescaled coordinates."""
    x, y = boxes[:, [0, 2, 0, 2]], boxes[:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)], axis=1)  # (T, 3, 4)
    moved = (forward @ corners)[:, :2]
    low, high = np.nanmin(moved, axis=(0, 2)), np.nanmax(moved, axis=(0, 2))
    start = rng.uniform(np.minimum(low, high - size), np.maximum(low, high - size))
    focus, margin = (forward[0] @ [*focus, 1.0])[:2], size / 10
    start = np.clip(start, focus - size + margin, focus - margin)
    # Stay in the frame, unless the warp moved the object out of it.
    room = extent - size
    lowest = np.where(focus < 0, focus - margin, np.minimum(room / 2, 0))
    highest = np.where(focus > extent, focus - size + margin, np.maximum(room, room / 2))
    return np.asarray(np.clip(start, lowest, highest))


def _locate(
    slots: NDArray[np.uint8], num_objects: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return (T, 4) boxes x0 y0 x1 y1 around each frame's objects, and a pixel of an object.

    A frame without objects has a box of NaN; void counts, as it lies around objects. The pixel is
    a random one of a random object of the first frame, given as its centre (x, y).
    """
    boxes = np.full((len(slots), 4), np.nan)
    for frame, box in zip(slots, boxes, strict=True):
        # The largest value of each row and column: reductions without an image-sized temporary.
        columns, rows = np.flatnonzero(frame.max(axis=0)), np.flatnonzero(frame.max(axis=1))
        if len(columns):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if not np.isnan(boxes[0, 0]):
        x0, y0, x1, y1 = boxes[0].astype(int)
        inside = slots[0, y0:y1, x0:x1] == rng.integers(1, num_objects + 1)
        places = np.flatnonzero(inside)  # an eighth of the time of nonzero in two dimensions
        if len(places):
            row, column = divmod(int(places[rng.integers(len(places))]), x1 - x0)
            return boxes, np.array([x0 + column + 0.5, y0 + row + 0.5])
    raise ValueError("the first mask lacks an object that its record lists; pack it again")


def _colours(factors: Array) -> Array:
    """Compose saturation, then contrast about 0.5, then brightness; each keeps grey grey.

    ``factors`` (N, 3) are brightness, contrast, saturation, 1 changes nothing; returns (N, 4, 4).
    """
    brightness, contrast, saturation = factors.T[:, :, None]
    out = np.zeros((len(factors), 4, 4))
    saturated = saturation[:, None] * np.eye(3) + (1 - saturation[:, None]) * _LUMA
    out[:, :3, :3] = (brightness * contrast)[:, None] * saturated
    out[:, :3, 3] = brightness * (1 - contrast) / 2
    out[:, 3, 3] = 1.0
    return out


def _turn(hue: float) -> Array:
    """Return the (4, 4) rotation of RGB by ``hue`` radians about the grey axis (1, 1, 1)."""
    axis = np.full((3, 3), 1 / 3)  # projection on the axis
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    out = np.eye(4)
    out[:3, :3] = math.cos(hue) * (np.eye(3) - axis) + math.sin(hue) * cross + axis
    return out
