"""Images, label maps, cut-outs and policies that the tests of synthesis share."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from hypothesis import strategies as st

from stmdata.synthesis.appearance_policy import STRONG
from stmdata.synthesis.clip import Clip, Skip
from stmdata.synthesis.layers import Cutout, Scene, cut_out, inverse, transform
from tests import known

KNOWN = Path(__file__).parent / "synthesis" / "known.json"

EVERYTHING = dataclasses.replace(
    STRONG, **{f.name: 1.0 for f in dataclasses.fields(STRONG) if f.name.endswith("_p")}
)


def picture(size: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth colours with some texture, away from black and white."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 40, 200)


COLOURS = np.array(
    [[128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255]], np.uint8
)


SEEDS = st.integers(0, 2**32)


def disc(radius: int, colour: Sequence[int] = (0, 0, 0)) -> Cutout:
    """A disc whose colour fills its whole box, so that every pixel of it has that colour."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    mask = (x * x + y * y <= radius * radius).astype(np.uint8)
    image = np.empty((*mask.shape, 3), np.uint8)
    image[:] = colour
    return cut_out(image, mask)


def painted(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Label map with rectangles 1..count, large ones, later ones over earlier ones."""
    labels = np.zeros((height, width), np.uint8)
    for object_id in range(1, count + 1):
        top, left = rng.integers(height // 2), rng.integers(width // 2)
        h, w = rng.integers(height // 4, height // 2), rng.integers(width // 4, width // 2)
        labels[top : top + h, left : left + w] = object_id
    return labels


def made(outcome: Clip | Skip) -> Clip:
    assert isinstance(outcome, Clip)
    return outcome


def agrees(name: str, numbers: object, tolerance: float) -> bool:
    """Compare numbers with those of earlier revisions."""
    return known.agrees(KNOWN, name, numbers, tolerance)


def positions(scene: Scene) -> np.ndarray:
    """Return where a scene is: two corners of each frame, and the upper edge of each layer."""
    side = scene.size - 1.0
    rows = [transform(scene.base, np.array([[0.0, 0.0], [side, side]]))]
    for layer in scene.layers:
        edge = np.array([[0.0, 0.0], [layer.cutout.rgba.shape[1] - 1.0, 0.0]])
        rows.append(transform(inverse(layer.matrices), edge))
    return np.stack(rows)
