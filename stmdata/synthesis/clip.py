"""Still image to clip: a pure function of image, label map, cut-outs, recipe and generator.

The family of the recipe decides where everything is, one renderer draws it, and the objects that
are large enough in frame 0 become the objects of the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmdata.synthesis.appearance import draw_deformation
from stmdata.synthesis.appearance_policy import (
    NONE,
    AppearancePolicy,
    draw_appearance,
    load_policy,
)
from stmdata.synthesis.classic import draw_classic
from stmdata.synthesis.layers import Cutout, Scene
from stmdata.synthesis.recipe import (
    REFERENCE_SIZE,
    ClassicRecipe,
    SmoothRecipe,
    SynthRecipe,
    load_recipe,
)
from stmdata.synthesis.render import render
from stmdata.synthesis.smooth import draw_smooth
from stmtrain.errors import DataError, UsageError
from stmtrain.images.masks import VOID, areas, ids_present, is_binary


class Skip(StrEnum):
    """The reason why an image gave no clip."""

    TOO_SMALL = "image too small"
    NO_OBJECT = "no object of real size in frame 0"


@dataclass(frozen=True, eq=False)
class Clip:
    """A pseudo-video.

    Attributes:
        frames: (T, S, S, 3) uint8, RGB.
        masks: (T, S, S) uint8; 0 background, ids 1.. without gaps, each in frame 0 and the same
            object in every frame.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]


def synthesise(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    *,
    recipe: str | Path = "default",
    appearance: str | Path | None = None,
    frames: int = 3,
    size: int = REFERENCE_SIZE,
    seed: int = 0,
) -> Clip:
    """Make a pseudo-video of one image and its objects.

    Args:
        image: (H, W, 3) uint8, RGB; any size.
        mask: (H, W) uint8: 0 background, 1..254 objects; 255 is background too, or, where it is
            the only value besides 0, the one object.
        recipe: ``default``, ``classic``, or a TOML file. Objects of other images are not pasted.
        appearance: ``none``, ``light``, ``strong``, or a TOML file; by default the recipe's.
        frames: Number of frames, >= 2.
        size: Side of the clip, pixels.
        seed: Decides every random choice.

    Returns:
        The clip. Its object ids follow the order of the ids in ``mask``; objects that are too
        small in its first frame become background.

    Raises:
        UsageError: ``image`` and ``mask`` do not fit each other, or the recipe is unknown.
        DataError: The image is too small, or has no object that is large enough.

    Example:
        >>> image, mask = np.full((300, 400, 3), 90, np.uint8), np.zeros((300, 400), np.uint8)
        >>> mask[100:200, 100:250] = 1
        >>> clip = synthesise(image, mask, appearance="none", size=128)
        >>> clip.frames.shape, clip.masks.shape
        ((3, 128, 128, 3), (3, 128, 128))
    """
    if image.dtype != np.uint8 or mask.dtype != np.uint8 or image.shape != (*mask.shape, 3):
        raise UsageError(
            "expected an image (H, W, 3) and a mask (H, W), both uint8, found "
            f"{image.dtype} {image.shape} and {mask.dtype} {mask.shape}"
        )
    if frames < 2 or size < 32:
        raise UsageError(f"expected 2 frames or more of 32 px or more, found {frames} of {size}")
    ids = (VOID,) if is_binary(mask) else tuple(ids_present(mask))
    labels = np.zeros_like(mask)
    for number, object_id in enumerate(ids, 1):
        labels[mask == object_id] = number
    chosen = load_recipe(recipe)
    clip = draw_clip(
        image,
        labels,
        [],
        chosen,
        np.random.default_rng(seed),
        num_frames=frames,
        size=size,
        policy=load_policy(chosen.appearance if appearance is None else appearance),
    )
    if isinstance(clip, Skip):
        raise DataError(f"image of {image.shape[1]}x{image.shape[0]} px: {clip}; use another image")
    return clip


def draw_clip(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: SynthRecipe,
    rng: Generator,
    *,
    num_frames: int = 3,
    size: int = REFERENCE_SIZE,
    policy: AppearancePolicy = NONE,
) -> Clip | Skip:
    """Make one clip from an image and its objects.

    Args:
        image: (H, W, 3) uint8, RGB; any size.
        labels: (H, W) uint8; 0 background, 1.. instances, at most 254 together with the pastes.
        pool: Cut-outs to paste.
        recipe: The numbers; the caller loads ``policy`` from its ``appearance`` field.
        rng: Source of every random choice; the caller owns the seed.
        num_frames: Frames of the clip, >= 2.
        size: Side of the clip, px.
        policy: Appearance and deformation.

    Returns:
        The clip, with at least one object in frame 0, or the reason why there is none.
    """
    if min(image.shape[:2]) < recipe.min_side:
        return Skip.TOO_SMALL
    for _ in range(recipe.max_draws):
        scene = _draw_scene(labels, pool, recipe, num_frames, size, rng)
        looks = None
        if policy is not NONE:
            looks = draw_appearance(policy, num_frames, rng)
            bent = tuple(
                replace(layer, deformation=draw_deformation(policy, num_frames, rng))
                for layer in scene.layers
            )
            scene = replace(scene, layers=bent)
        frames, masks = render(image, labels, scene, looks)
        objects = _choose_objects(masks[0], scene, recipe, rng)
        if objects:
            slots = np.zeros(256, np.uint8)
            slots[objects] = np.arange(1, len(objects) + 1)
            flat = masks.reshape(-1, size)
            cv2.LUT(flat, slots, flat)
            return Clip(frames, masks)
    return Skip.NO_OBJECT


def _draw_scene(
    labels: NDArray[np.uint8],
    pool: Sequence[Cutout],
    recipe: SynthRecipe,
    num_frames: int,
    size: int,
    rng: Generator,
) -> Scene:
    """Draw the geometry of the clip, by the family of the recipe."""
    if isinstance(recipe, ClassicRecipe):
        return draw_classic(labels, pool, recipe, num_frames, size, rng)
    if isinstance(recipe, SmoothRecipe):
        return draw_smooth(labels, pool, recipe, num_frames, size, rng)
    raise TypeError(f"expected a recipe of a known family, found {type(recipe).__name__}")


def _choose_objects(
    mask: NDArray[np.uint8], scene: Scene, recipe: SynthRecipe, rng: Generator
) -> list[int]:
    """Return the ids of the clip's objects, ascending; none if the clip must be drawn again."""
    smallest = recipe.min_object_area * (scene.size / REFERENCE_SIZE) ** 2
    largest = recipe.max_object_share * scene.size**2
    candidates = [*scene.base_ids, *(layer.object_id for layer in scene.layers)]
    counts = areas(mask)
    visible = [i for i in candidates if counts[i] > smallest]
    if all(counts[i] > largest for i in visible):
        return []
    return sorted(int(i) for i in rng.permutation(visible)[: recipe.max_objects])
