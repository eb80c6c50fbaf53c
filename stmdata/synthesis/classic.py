"""The published motion, that of the classic recipe: where everything is in each frame of a clip.

Source: the re-training code of STM, stage 1; :class:`~stmdata.synthesis.recipe.ClassicRecipe`
describes each number. Only numbers are drawn; the result is a
:class:`~stmdata.synthesis.layers.Scene`.
"""

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
    mirror,
    scaling,
    transform,
    translation,
)
from stmdata.synthesis.recipe import REFERENCE_SIZE, ClassicRecipe


def draw_classic(
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: ClassicRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Scene:
    """Draw the geometry of a clip of the published distribution.

    Args:
        labels: (H, W) uint8, ids 1.. without gaps; 0 background.
        pool: Cut-outs to paste; if it is empty, nothing is pasted.
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
    step = float(canvas[1, 1])  # image px per canvas px
    canvas_size = (width / step, height / step)
    views = canvas @ _draw_corners(canvas_size, num_frames, recipe.corner_shift * pace, rng)
    corner = _draw_crop(_outline(labels, ids), views, canvas_size, size, rng)
    first_id = int(labels.max()) + 1
    chosen = [pool[int(k)] for k in rng.integers(len(pool), size=count)] if count else []
    layers = tuple(
        Layer(cutout, _draw_paste(cutout, recipe, num_frames, size, pace, rng), first_id + i)
        for i, cutout in enumerate(chosen)
    )
    base = views @ translation(*corner)
    return Scene(size, base, tuple(ids.tolist()), layers, hard_edges=True, wedges=True)


def _canvas(height: int, width: int, short_side: float, flip: bool) -> Matrix:
    """Return the matrix from canvas to image: the image is scaled to a short side, or mirrored."""
    step = min(height, width) / short_side
    to_image = translation(-0.5, -0.5) @ scaling(step) @ translation(0.5, 0.5)
    return mirror(width) @ to_image if flip else to_image


def _draw_corners(
    canvas_size: tuple[float, float], num_frames: int, largest: float, rng: Generator
) -> Matrix:
    """Draw (T, 3, 3), moved pixel to still pixel: each corner drifts one way, frame by frame.

    The content at the drifting point is brought to the corner of the frame, so a point that drifts
    inwards magnifies. ``canvas_size`` is (width, height); ``largest``, as a share of it, is the
    longest step.
    """
    width, height = canvas_size
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    side = np.array([width, height]) * largest
    heading = rng.choice([-1.0, 1.0], size=(4, 2))  # x and y of a corner are independent
    steps = rng.uniform(0, 1, size=(num_frames, 4, 2)) * heading * side
    steps[0] = 0
    spots = (corners + np.cumsum(steps, axis=0)).astype(np.float32)
    still = corners.astype(np.float32)
    return np.stack([cv2.getPerspectiveTransform(still, spot) for spot in spots])


def _outline(labels: NDArray[np.uint8], ids: NDArray[np.int64]) -> Matrix:
    """Return (N, 2) image points (x, y) that span the union of ``ids``: the ends of its rows."""
    chosen = np.zeros(256, np.uint8)
    chosen[ids] = 1
    inside = cv2.LUT(labels, chosen).view(bool)
    left = inside.argmax(axis=1)
    right = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    rows = np.flatnonzero(inside[np.arange(len(inside)), left])
    return np.column_stack([np.r_[left[rows], right[rows]], np.r_[rows, rows]]).astype(np.float64)


def _draw_crop(
    outline: Matrix, views: Matrix, canvas_size: tuple[float, float], size: int, rng: Generator
) -> tuple[int, int]:
    """Draw the corner (x, y) of the crop on the canvas.

    If the outline of all frames fits into the crop, the crop contains it. Only what is on the
    canvas counts: the published code looks for it in masks of that size.
    """
    spots = transform(inverse(views), outline).reshape(-1, 2)
    corner = []
    for axis in (0, 1):
        low, high = 0.0, max(canvas_size[axis] - size, 0.0)
        if len(spots):
            shown = np.clip(spots[:, axis], 0, canvas_size[axis] - 1)
            first, last = shown.min(), shown.max() + 1
            if last - first <= size:
                low, high = max(low, last - size), min(high, first)
            else:
                low, high = max(low, first), min(high, last - size)
        corner.append(int(rng.integers(int(low), max(int(high), int(low)) + 1)))
    return corner[0], corner[1]


def _draw_paste(
    cutout: Cutout,
    recipe: ClassicRecipe,
    num_frames: int,
    size: int,
    pace: float,
    rng: Generator,
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to cut-out pixel: moves right and down, affine steps compound.

    The centre stays inside the frame.
    """
    unit, steps = size / REFERENCE_SIZE, (recipe.paste_right, recipe.paste_down)
    x, y = float(rng.integers(size)), float(rng.integers(size))
    pose = scaling(unit)
    to_centre = translation(*cutout.centre)
    matrices = []
    for t in range(num_frames):
        if t:
            right, down = (int(rng.integers(most + 1)) for most in steps)
            x = min(x + unit * pace * right, size - 1)
            y = min(y + unit * pace * down, size - 1)
            pose = _draw_step(recipe, pace, rng) @ pose
        matrices.append(to_centre @ inverse(pose) @ translation(-x, -y))
    return np.stack(matrices)


def _draw_step(recipe: ClassicRecipe, pace: float, rng: Generator) -> Matrix:
    """Draw the change of shape from one frame to the next: scale, then shear, then rotate."""
    limits = (recipe.paste_rotate, recipe.paste_shear)
    angle, shear = np.radians([pace * rng.uniform(-limit, limit) for limit in limits])
    scale_x, scale_y = rng.uniform(*recipe.paste_scale, size=2) ** pace
    return affine(angle, shear, scale_x, scale_y)
