"""The colour changes of a clip, as numbers: one 3x4 matrix per frame.

Brightness, contrast, saturation and hue are all linear in RGB, so that together they cost one small
matrix per frame, which ``augment.py`` applies on the batch's device.
"""

import math

import numpy as np
from numpy.typing import NDArray

from stmtrain.streaming.clips import ClipRecipe

_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601

Array = NDArray[np.float64]


def colour_numbers(recipe: ClipRecipe) -> int:
    """Return how many random numbers the colours of one clip need."""
    return 5 + 3 * recipe.frames


def colour_matrices(recipe: ClipRecipe, numbers: Array) -> Array:
    """Turn random numbers into colour changes; many clips take hardly longer than one.

    Args:
        recipe: Ranges and probabilities.
        numbers: (B, ``colour_numbers(recipe)``) in [0, 1). For the clip: brightness, contrast,
            saturation, whether it becomes grey, and hue; then the first three for each frame.

    Returns:
        (B, T, 3, 4) float64: ``rgb' = m[:, :3] @ rgb + m[:, 3]``, rgb in [0, 1], not clamped.
    """
    signed = 2 * numbers - 1
    strengths = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    factors = np.empty((len(numbers), 1 + recipe.frames, 3))
    factors[:, 0] = 1 + strengths * signed[:, :3]
    factors[numbers[:, 3] < recipe.greyscale, 0, 2] = 0.0
    jitter = signed[:, 5:].reshape(-1, recipe.frames, 3)
    factors[:, 1:] = 1 + recipe.frame_jitter * jitter
    matrices = _compose(factors)
    clips, frames = matrices[:, :1], matrices[:, 1:]
    if recipe.hue:
        turns = [_turn_hue(math.radians(recipe.hue) * hue) for hue in signed[:, 4].tolist()]
        clips = np.stack(turns)[:, None] @ clips
    return np.asarray((frames @ clips)[:, :, :3])


def _compose(factors: Array) -> Array:
    """Compose saturation, then contrast about 0.5, then brightness; each leaves grey grey.

    ``factors`` (..., 3) are those of brightness, contrast and saturation; 1 changes nothing. The
    result are (..., 4, 4) homogeneous matrices.
    """
    brightness, contrast, saturation = np.moveaxis(factors, -1, 0)[..., None]
    out = np.zeros((*factors.shape[:-1], 4, 4))
    saturated = saturation[..., None] * np.eye(3) + (1 - saturation[..., None]) * _LUMA
    out[..., :3, :3] = (brightness * contrast)[..., None] * saturated
    out[..., :3, 3] = brightness * (1 - contrast) / 2
    out[..., 3, 3] = 1.0
    return out


def _turn_hue(hue: float) -> Array:
    """Return the (4, 4) rotation of RGB by ``hue`` radians about the grey axis (1, 1, 1)."""
    axis = np.full((3, 3), 1 / 3)  # projection on the axis
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    out = np.eye(4)
    out[:3, :3] = math.cos(hue) * (np.eye(3) - axis) + math.sin(hue) * cross + axis
    return out
