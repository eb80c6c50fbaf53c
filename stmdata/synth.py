"""Still image to clip: ``(image, label map, pool, recipe, rng) -> Clip``; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmdata.layers import Cutout, Scene, render
from stmdata.motion import draw_classic
from stmdata.recipes import REFERENCE_SIZE, ClassicRecipe, SynthRecipe

__all__ = ["Clip", "Skip", "synthesise"]


class Skip(StrEnum):
    """Why an image gave no clip."""

    NO_OBJECT = "no object of real size in frame 0"


@dataclass(frozen=True)
class Clip:
    """A pseudo-video.

    Attributes:
        frames: (T, S, S, 3) uint8, RGB.
        masks: (T, S, S) uint8; 0 background, ids 1.. without gaps, each in frame 0.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def synthesise(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: SynthRecipe,
    rng: Generator,
    *,
    num_frames: int = 3,
    size: int = REFERENCE_SIZE,
) -> Clip | Skip:
    """Make one clip of an image and its objects."""
    for _ in range(recipe.max_draws):
        assert isinstance(recipe, ClassicRecipe)
        scene = draw_classic(labels, pool, recipe, num_frames, size, rng)
        frames, masks = render(image, labels, scene)
        objects = _choose_objects(masks[0], scene, recipe, rng)
        if objects:
            slots = np.zeros(256, np.uint8)
            slots[objects] = np.arange(1, len(objects) + 1)
            return Clip(frames, cv2.LUT(masks.reshape(-1, size), slots).reshape(masks.shape))
    return Skip.NO_OBJECT


def _choose_objects(
    mask: NDArray[np.uint8], scene: Scene, recipe: SynthRecipe, rng: Generator
) -> list[int]:
    """Return the ids of the clip's objects, ascending: large enough in frame 0, not too many."""
    least = recipe.min_object_area * (scene.size / REFERENCE_SIZE) ** 2
    areas = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    candidates = [*scene.base_ids, *(layer.object_id for layer in scene.layers)]
    real = [i for i in candidates if areas[i] > least]
    return sorted(int(i) for i in rng.permutation(real)[: recipe.max_objects])
