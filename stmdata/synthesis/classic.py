"""The published motion: where everything goes in a clip of the classic recipe.

Source: the re-training code of STM, stage 1, described number by number in
:class:`~stmdata.synthesis.recipe.ClassicRecipe`. Draws only numbers; the result is a
:class:`~stmdata.synthesis.layers.Scene` of composed matrices.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmdata.synthesis.layers import (
    Cutout,
    Layer,
    Matrix,
    Scene,
    affine,
    inverse,
    scaling,
    transform,
    translation,
)
from stmdata.synthesis.recipe import REFERENCE_SIZE, ClassicRecipe

__all__ = ["draw_classic"]


def draw_classic(
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: ClassicRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Scene:
    """Draw a clip of the published distribution.

    Source: the re-training code of STM, stage 1, as described number by number in
    :class:`ClassicRecipe`.

    Args:
        labels: (H, W) uint8, ids 1.. without gaps; 0 background.
        pool: Cut-outs to paste from; none are pasted if it is empty.
        recipe: The numbers.
        num_frames: Frames of the clip, T.
        size: Side of the clip, px.
        rng: Source of every random choice.
    """
    height, width = labels.shape
    unit = size / REFERENCE_SIZE
    pace = min(1.0, recipe.full_speed_steps / (num_frames - 1))
    ids: NDArray[np.int64] = np.arange(1, int(labels.max()) + 1)
    branch_b = rng.random() < recipe.paste_probability
    if branch_b and len(ids) > recipe.max_base_objects:
        ids = rng.permutation(ids)[: recipe.max_base_objects]
    count = int(rng.integers(recipe.pastes[0], recipe.pastes[1] + 1))
    if not pool or (len(ids) and not branch_b):
        count = 0
    canvas = _canvas(height, width, recipe.short_side * unit, rng.random() < recipe.flip)
    scale = math.hypot(canvas[0, 1], canvas[1, 1])
    moved = _corner_motion(
        width / scale, height / scale, num_frames, recipe.corner_shift * pace, rng
    )
    views = canvas @ moved
    corner = _crop_corner(_outline(labels, ids), views, (width / scale, height / scale), size, rng)
    base = views @ translation(*corner)
    first_id = int(labels.max()) + 1
    layers = (
        tuple(
            Layer(cutout, _classic_paste(cutout, recipe, num_frames, size, pace, rng), first_id + i)
            for i, cutout in enumerate(pool[int(k)] for k in rng.integers(len(pool), size=count))
        )
        if count
        else ()
    )
    return Scene(size, base, tuple(int(i) for i in ids), layers, hard_edges=True, wedges=True)


def _canvas(height: int, width: int, short_side: float, flip: bool) -> Matrix:
    """Return canvas pixel to image pixel: short side scaled, perhaps mirrored."""
    step = min(height, width) / short_side
    mirror = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    to_image = translation(-0.5, -0.5) @ scaling(step) @ translation(0.5, 0.5)
    return mirror @ to_image if flip else to_image


def _corner_motion(
    width: float, height: float, num_frames: int, largest: float, rng: Generator
) -> Matrix:
    """Draw (T, 3, 3), moved pixel to still pixel: each corner drifts one way, frame by frame."""
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    side = np.array([width, height]) * largest
    # One sign per corner for x and y alike: the golden statistics tell it from one sign per axis.
    heading = rng.choice([-1.0, 1.0], size=(4, 1))
    steps = rng.uniform(0, 1, size=(num_frames, 4, 2)) * heading * side
    steps[0] = 0
    spots = (corners + np.cumsum(steps, axis=0)).astype(np.float32)
    still = corners.astype(np.float32)
    return np.stack([cv2.getPerspectiveTransform(spot, still) for spot in spots])


def _outline(labels: NDArray[np.uint8], ids: NDArray[np.int64]) -> Matrix:
    """Return (N, 2) image points (x, y) that span the union of ``ids``: ends of its rows."""
    chosen = np.zeros(256, np.uint8)
    chosen[ids] = 1
    inside = cv2.LUT(labels, chosen).view(bool)
    left = inside.argmax(axis=1)
    right = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(inside[np.arange(len(inside)), left])
    return np.column_stack([np.r_[left[rows], right[rows]], np.r_[rows, rows]]).astype(np.float64)


def _crop_corner(
    outline: Matrix, views: Matrix, canvas: tuple[float, float], size: int, rng: Generator
) -> tuple[int, int]:
    """Draw the crop's corner (x, y) on the canvas, around the outline of all frames if it fits."""
    spots = transform(inverse(views), outline).reshape(-1, 2)
    corner = []
    for axis in (0, 1):
        low, high = 0.0, max(canvas[axis] - size, 0.0)
        if len(spots):
            first, last = spots[:, axis].min(), spots[:, axis].max() + 1
            inside = (max(low, last - size), min(high, first))
            across = (max(low, first), min(high, last - size))
            low, high = inside if last - first <= size else across
        corner.append(int(rng.integers(int(low), max(int(high), int(low)) + 1)))
    return corner[0], corner[1]


def _classic_paste(
    cutout: Cutout,
    recipe: ClassicRecipe,
    num_frames: int,
    size: int,
    pace: float,
    rng: Generator,
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to cut-out pixel: right and down, affine changes compounding."""
    unit = size / REFERENCE_SIZE
    x, y = float(rng.integers(size)), float(rng.integers(size))
    pose = scaling(unit)
    to_centre = translation(*cutout.centre)
    matrices = []
    for t in range(num_frames):
        if t:
            x += unit * pace * int(rng.integers(recipe.paste_right + 1))
            y += unit * pace * int(rng.integers(recipe.paste_down + 1))
            pose = _classic_step(recipe, pace, rng) @ pose
        matrices.append(to_centre @ inverse(pose) @ translation(-x, -y))
    return np.stack(matrices)


def _classic_step(recipe: ClassicRecipe, pace: float, rng: Generator) -> Matrix:
    """Draw one frame's change of shape: scale, then shear, then rotate."""
    turn, shear = np.radians(
        [pace * rng.uniform(-most, most) for most in (recipe.paste_rotate, recipe.paste_shear)]
    )
    wide, high = rng.uniform(*recipe.paste_scale, size=2) ** pace
    return affine(turn, shear, wide, high)
