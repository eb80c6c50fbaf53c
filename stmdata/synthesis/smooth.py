"""Smooth motion, that of the default recipe: where everything is in each frame of a clip.

Camera and objects move in any direction, at speeds that are drawn per clip and change a little over
it. Only numbers are drawn; the result is a :class:`~stmdata.synthesis.layers.Scene`. Lengths are in
clip sides until the last step.
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
    mirror,
    scaling,
    transform,
    translation,
)
from stmdata.synthesis.recipe import REFERENCE_SIZE, SmoothRecipe


def draw_smooth(
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: SmoothRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Scene:
    """Draw the geometry of a clip of the default recipe.

    Arguments are those of :func:`~stmdata.synthesis.classic.draw_classic`.
    """
    instances = int(labels.max())
    base = _draw_camera(labels, instances, recipe, num_frames, size, rng)
    layers = []
    for i, (cutout, behind) in enumerate(_choose_pastes(instances, pool, recipe, rng)):
        matrices = _draw_paste(cutout, recipe, num_frames, size, rng)
        layers.append(Layer(cutout, matrices, instances + 1 + i, instances if behind else 0))
    ids = tuple(range(1, instances + 1))
    return Scene(size, base, ids, tuple(layers), hard_edges=False, wedges=False)


def _choose_pastes(
    instances: int, pool: Sequence[Cutout], recipe: SmoothRecipe, rng: Generator
) -> list[tuple[Cutout, bool]]:
    """Choose the cut-outs to paste, back to front, and which are behind the image's instances."""
    if not pool or (rng.random() >= recipe.paste_probability and instances):
        return []
    count = int(rng.integers(recipe.pastes[0], recipe.pastes[1] + 1))
    chosen = [pool[int(k)] for k in rng.integers(len(pool), size=count)] if count else []
    behind = np.sort(rng.random(count) < recipe.behind_probability)[::-1].tolist()
    return list(zip(chosen, behind, strict=True))


def _draw_paths(
    limits: Sequence[float], recipe: SmoothRecipe, num_frames: int, rng: Generator
) -> Matrix:
    """Draw (T, K) smooth paths that start at 0, with speeds of up to ``limits`` either way."""
    steps = num_frames - 1
    speeds = rng.uniform(-1, 1, len(limits)) * limits * min(1.0, recipe.full_speed_steps / steps)
    change = rng.uniform(-1, 1, len(limits)) * recipe.acceleration
    t = np.arange(num_frames)[:, None]
    out: Matrix = speeds * (t + change * (t * t / (2 * steps) - t / 2))
    return out


def _draw_drift(limit: float, recipe: SmoothRecipe, num_frames: int, rng: Generator) -> Matrix:
    """Draw (T, 2), a smooth path in one direction that bends a little."""
    along, across = _draw_paths([limit, limit / 4], recipe, num_frames, rng).T
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([cos * along - sin * across, sin * along + cos * across], axis=1)


def _draw_camera(
    labels: NDArray[np.uint8],
    instances: int,
    recipe: SmoothRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to image pixel, such that every frame is inside the image."""
    height, width = labels.shape
    last = np.array([width - 1, height - 1])
    views = _draw_views(recipe, num_frames, size, rng)
    half = (size - 1) / 2
    corners = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    spots = transform(views, corners).reshape(-1, 2)
    low, high = spots.min(0), spots.max(0)  # of all frames, clip px around the first one's centre
    step = rng.uniform(*recipe.view) * min(height, width) / size  # image px per clip px
    step = min(step, float((last / (high - low)).min()))
    target = _draw_target(labels, instances, rng) + rng.uniform(-0.3, 0.3, 2) * step * size
    centre = np.clip(target, -step * low, last - step * high)
    base = translation(*centre) @ scaling(step) @ views @ translation(-half, -half)
    return base @ mirror(size) if rng.random() < recipe.flip else base


def _draw_views(recipe: SmoothRecipe, num_frames: int, size: int, rng: Generator) -> Matrix:
    """Draw (T, 3, 3): where a moving camera looks, in clip px around the first frame's centre."""
    shifts = _draw_drift(recipe.camera_shift, recipe, num_frames, rng) * size
    rotation, shear = np.radians([recipe.camera_rotate, recipe.camera_shear])
    limits = [recipe.camera_zoom, rotation, shear, recipe.camera_tilt, recipe.camera_tilt]
    paths = _draw_paths(limits, recipe, num_frames, rng)
    views = []
    for shift, (zoom, angle, slant, *tilt) in zip(shifts, paths, strict=True):
        view = translation(*shift) @ affine(angle, slant, math.exp(zoom), math.exp(zoom))
        perspective = np.eye(3)
        perspective[2, :2] = np.array(tilt) * 2 / size
        views.append(view @ perspective)
    return np.stack(views)


def _draw_target(labels: NDArray[np.uint8], instances: int, rng: Generator) -> Matrix:
    """Return an image point (x, y): the centre of an instance, or any point if there is none."""
    height, width = labels.shape
    point = rng.uniform(0, 1, 2) * (width, height)
    if instances:
        chosen = (labels == rng.integers(1, instances + 1)).view(np.uint8)
        x, y, w, h = cv2.boundingRect(chosen)
        if w:  # an instance may be hidden by earlier ones
            point = np.array([x + w / 2, y + h / 2])
    return point


def _draw_paste(
    cutout: Cutout, recipe: SmoothRecipe, num_frames: int, size: int, rng: Generator
) -> Matrix:
    """Draw (T, 3, 3), clip pixel to cut-out pixel: a size, a path and a shape that changes."""
    height, width = cutout.rgba.shape[:2]
    share = math.exp(rng.uniform(*np.log(recipe.paste_share)))
    factor = math.sqrt(share * size * size / cutout.area)
    factor = min(factor, recipe.paste_enlarge * size / REFERENCE_SIZE, size / max(height, width))
    start = rng.uniform(0.1, 0.9, 2) * size
    path = start + _draw_drift(recipe.paste_shift, recipe, num_frames, rng) * size
    if rng.random() < recipe.leave_probability:
        path = _draw_excursion(start, factor * math.hypot(height, width) / 2, num_frames, size, rng)
    rotation, shear = np.radians([recipe.paste_rotate, recipe.paste_shear])
    limits = [recipe.paste_zoom, recipe.paste_stretch, rotation, shear]
    first_angle = math.radians(rng.uniform(-recipe.paste_turn, recipe.paste_turn))
    side = -1.0 if rng.random() < recipe.flip else 1.0
    to_centre = translation(*cutout.centre)
    matrices = []
    for (x, y), (zoom, stretch, angle, slant) in zip(
        path, _draw_paths(limits, recipe, num_frames, rng), strict=True
    ):
        scale_x, scale_y = factor * math.exp(zoom + stretch), factor * math.exp(zoom - stretch)
        pose = affine(first_angle + angle, slant, side * scale_x, scale_y)
        matrices.append(to_centre @ inverse(pose) @ translation(-x, -y))
    return np.stack(matrices)


def _draw_excursion(
    start: Matrix, radius: float, num_frames: int, size: int, rng: Generator
) -> Matrix:
    """Draw (T, 2), clip px: out of the frame by the middle of the clip, and back at its end."""
    angle = rng.uniform(0, 2 * np.pi)
    heading = np.array([math.cos(angle), math.sin(angle)])
    room = np.where(heading > 0, size + radius - start, start + radius)
    distance = float((room / np.maximum(np.abs(heading), 1e-9)).min())
    phase = np.sin(np.pi * np.arange(num_frames) / (num_frames - 1))
    path: Matrix = start + heading * (1.2 * distance * phase)[:, None]
    return path
