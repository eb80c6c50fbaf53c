"""Layers of a clip: what a scene is made of, as numbers and references; and the matrices to say it.

A scene holds for every layer one 3x3 matrix per frame that maps a pixel of the clip to a pixel of
the layer's source. :mod:`stmdata.synthesis.render` draws it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.synthesis.bending import Deformation

__all__ = [
    "Cutout",
    "Layer",
    "Scene",
    "affine",
    "cut_out",
    "inverse",
    "scaling",
    "transform",
    "translation",
]

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_PAD = 2  # px around a cut-out, so that interpolation at its edge finds colours and not black


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object lifted from its image, at native size.

    Attributes:
        rgba: (h, w, 4) uint8; RGB and, as the fourth channel, 255 inside the object, 0 outside.
        area: Pixels inside the object.
    """

    rgba: Pixels
    area: int

    @property
    def centre(self) -> tuple[float, float]:
        """Return (x, y) of the middle of the cut-out, px."""
        height, width = self.rgba.shape[:2]
        return (width - 1) / 2, (height - 1) / 2


@dataclass(frozen=True, eq=False)
class Layer:
    """A cut-out in motion.

    Attributes:
        cutout: What is pasted.
        matrices: (T, 3, 3), clip pixel to cut-out pixel, affine.
        object_id: Its id in the label map, above those of the image's instances.
        behind: The image's instances with ids up to this one hide it; 0 for none.
        deformation: How it bends, or None.
    """

    cutout: Cutout
    matrices: Matrix
    object_id: int
    behind: int = 0
    deformation: Deformation | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that decides a clip's geometry.

    Attributes:
        size: Side of the clip, px.
        base: (T, 3, 3), clip pixel to image pixel; a homography per frame.
        base_ids: Ids of the image's label map that may become objects.
        layers: Pasted objects, back to front: the depth order of all frames.
        hard_edges: Paste whole pixels; otherwise edges are blended over about two pixels.
        wedges: Black where a warp leaves the image; otherwise the image's edge is repeated.
    """

    size: int
    base: Matrix
    base_ids: tuple[int, ...]
    layers: tuple[Layer, ...]
    hard_edges: bool
    wedges: bool


def cut_out(image: Pixels, mask: Pixels) -> Cutout:
    """Lift an object from its image.

    Args:
        image: (h, w, 3) uint8, the object's box.
        mask: (h, w) uint8, not 0 inside the object.

    Returns:
        The cut-out with a margin of two pixels.
    """
    alpha = np.where(mask > 0, np.uint8(255), np.uint8(0))
    around = (_PAD, _PAD, _PAD, _PAD)
    rgb = cv2.copyMakeBorder(image, *around, cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(alpha, *around, cv2.BORDER_CONSTANT, value=0)
    return Cutout(np.dstack([rgb, padded]), cv2.countNonZero(alpha))


def translation(x: float, y: float) -> Matrix:
    """Return the matrix that moves points by (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float | None = None) -> Matrix:
    """Return the matrix that scales points about the origin."""
    return np.diag([x, x if y is None else y, 1.0])


def affine(turn: float, shear: float, wide: float, high: float) -> Matrix:
    """Return the matrix that scales by (wide, high), then shears along x, then rotates; radians."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    slant = np.array([[1.0, -np.tan(shear), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    out: Matrix = rotation @ slant @ scaling(wide, high)
    return out


def inverse(matrix: Matrix) -> Matrix:
    """Return the inverse of matrices (..., 3, 3)."""
    out: Matrix = np.linalg.inv(matrix).astype(np.float64, copy=False)
    return out


def transform(matrix: Matrix, points: Matrix) -> Matrix:
    """Apply a homography (..., 3, 3) to points (N, 2); the result is (..., N, 2)."""
    ahead = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(matrix, -1, -2)
    out: Matrix = ahead[..., :2] / ahead[..., 2:]
    return out
