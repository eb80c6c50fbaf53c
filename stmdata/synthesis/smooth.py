"""Our motion: where everything goes in a clip of the default recipe.

Camera and objects move in any direction at a drawn speed that changes a little over the clip.
Draws only numbers; the result is a :class:`~stmdata.synthesis.layers.Scene` of composed matrices.
Lengths are in clip sides until the last step.
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
from stmdata.synthesis.recipe import REFERENCE_SIZE, SmoothRecipe

__all__ = ["draw_smooth"]


def draw_smooth(
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: SmoothRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Scene:
    """Draw a clip of the default recipe.

    Args:
        labels: (H, W) uint8, ids 1.. ; 0 background.
        pool: Cut-outs to paste from; none are pasted if it is empty.
        recipe: The numbers.
        num_frames: Frames of the clip, T.
        size: Side of the clip, px.
        rng: Source of every random choice.
    """
    most = int(labels.max())
    base = _draw_camera(labels, most, recipe, num_frames, size, rng)
    count = 0
    if pool and (rng.random() < recipe.paste_probability or not most):
        count = int(rng.integers(recipe.pastes[0], recipe.pastes[1] + 1))
    chosen = [pool[int(k)] for k in rng.integers(len(pool), size=count)] if count else []
    behind = np.sort(rng.random(count) < recipe.behind_probability)[::-1]  # those behind go first
    layers = tuple(
        Layer(
            cutout,
            _draw_paste(cutout, recipe, num_frames, size, rng),
            most + 1 + i,
            most if behind[i] else 0,
        )
        for i, cutout in enumerate(chosen)
    )
    ids = tuple(range(1, most + 1))
    return Scene(size, base, ids, layers, hard_edges=False, wedges=False)


def _paths(most: Sequence[float], recipe: SmoothRecipe, num_frames: int, rng: Generator) -> Matrix:
    """Draw (T, K) smooth paths that start at 0, with speeds of up to ``most`` either way."""
    steps = num_frames - 1
    speeds = rng.uniform(-1, 1, len(most)) * most * min(1.0, recipe.full_speed_steps / steps)
    change = rng.uniform(-1, 1, len(most)) * recipe.acceleration
    t = np.arange(num_frames)[:, None]
    out: Matrix = speeds * (t + change * (t * t / (2 * steps) - t / 2))
    return out


def _drift(most: float, recipe: SmoothRecipe, num_frames: int, rng: Generator) -> Matrix:
    """Draw (T, 2), a smooth path in one direction that bends a little."""
    along, across = _paths([most, most / 4], recipe, num_frames, rng).T
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * along - sin * across, sin * along + cos * across], axis=1)


def _draw_camera(
    labels: NDArray[np.uint8],
    most: int,
    recipe: SmoothRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to image pixel, such that every frame lies inside the image."""
    height, width = labels.shape
    views = _draw_views(recipe, num_frames, size, rng)
    half = (size - 1) / 2
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    spots = transform(views, corners).reshape(-1, 2)
    low, high = spots.min(0), spots.max(0)  # of all frames, clip px around the first one's middle
    step = rng.uniform(*recipe.view) * min(height, width) / size  # image px per clip px
    step = min(step, float((np.array([width - 1, height - 1]) / (high - low)).min()))
    target = _draw_target(labels, most, rng) + rng.uniform(-0.3, 0.3, 2) * step * size
    centre = np.clip(target, -step * low, np.array([width - 1, height - 1]) - step * high)
    base = translation(*centre) @ scaling(step) @ views @ translation(-half, -half)
    if rng.random() < recipe.flip:
        base = base @ np.array([[-1.0, 0.0, size - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    return base


def _draw_views(recipe: SmoothRecipe, num_frames: int, size: int, rng: Generator) -> Matrix:
    """Draw (T, 3, 3): where a camera that moves looks, in clip px around the first frame."""
    shifts = _drift(recipe.camera_shift, recipe, num_frames, rng) * size
    turn, shear = np.radians([recipe.camera_rotate, recipe.camera_shear])
    most = [recipe.camera_zoom, turn, shear, recipe.camera_tilt, recipe.camera_tilt]
    views = []
    for shift, (zoom, turned, sheared, *tilt) in zip(
        shifts, _paths(most, recipe, num_frames, rng), strict=True
    ):
        view = translation(*shift) @ affine(turned, sheared, math.exp(zoom), math.exp(zoom))
        tilted = np.eye(3)
        tilted[2, :2] = np.array(tilt) * 2 / size
        views.append(view @ tilted)
    return np.stack(views)


def _draw_target(labels: NDArray[np.uint8], most: int, rng: Generator) -> NDArray[np.float64]:
    """Return an image point (x, y): the middle of an instance, or any point if there is none."""
    height, width = labels.shape
    point = rng.uniform(0, 1, 2) * (width, height)
    if most:
        chosen = (labels == rng.integers(1, most + 1)).view(np.uint8)
        x, y, w, h = cv2.boundingRect(chosen)
        if w:  # an instance may be hidden by earlier ones
            point = np.array([x + w / 2, y + h / 2])
    return point


def _draw_paste(
    cutout: Cutout, recipe: SmoothRecipe, num_frames: int, size: int, rng: Generator
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to cut-out pixel: a size, a path, and a shape that drifts."""
    height, width = cutout.rgba.shape[:2]
    share = math.exp(rng.uniform(*np.log(recipe.paste_share)))
    factor = math.sqrt(share * size * size / max(cutout.area, 1))
    factor = min(factor, recipe.paste_enlarge * size / REFERENCE_SIZE, size / max(height, width))
    start = rng.uniform(0.1, 0.9, 2) * size
    path = start + _drift(recipe.paste_shift, recipe, num_frames, rng) * size
    if rng.random() < recipe.leave_probability:
        path = _excursion(start, factor * math.hypot(height, width) / 2, num_frames, size, rng)
    turn, shear = np.radians([recipe.paste_rotate, recipe.paste_shear])
    most = [recipe.paste_zoom, recipe.paste_stretch, turn, shear]
    tilt = math.radians(rng.uniform(-recipe.paste_turn, recipe.paste_turn))
    mirror = -1.0 if rng.random() < recipe.flip else 1.0
    to_centre = translation(*cutout.centre)
    matrices = []
    for (x, y), (zoom, stretch, turned, sheared) in zip(
        path, _paths(most, recipe, num_frames, rng), strict=True
    ):
        wide, high = factor * math.exp(zoom + stretch), factor * math.exp(zoom - stretch)
        pose = affine(tilt + turned, sheared, mirror * wide, high)
        matrices.append(to_centre @ inverse(pose) @ translation(-x, -y))
    return np.stack(matrices)


def _excursion(
    start: NDArray[np.float64], radius: float, num_frames: int, size: int, rng: Generator
) -> Matrix:
    """Draw (T, 2), clip px: out of the frame by mid-clip, and back where it began at the end."""
    angle = rng.uniform(0, 2 * np.pi)
    heading = np.array([math.cos(angle), math.sin(angle)])
    room = np.where(heading > 0, size + radius - start, start + radius)
    out = float((room / np.maximum(np.abs(heading), 1e-9)).min())
    phase = np.sin(np.pi * np.arange(num_frames) / (num_frames - 1))
    path: Matrix = start + heading * (1.2 * out * phase)[:, None]
    return path
