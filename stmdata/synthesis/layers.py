"""What a scene is made of: layers, as numbers and references, and the matrices that place them.

For each layer, a scene has one 3x3 matrix per frame, which maps a pixel of the clip to a pixel of
the image or cut-out. :mod:`stmdata.synthesis.render` draws the scene.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.synthesis.bending import Deformation

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_PAD = 2  # px around a cut-out, so that interpolation at its edge reads its colours and not black


def translation(x: float, y: float) -> Matrix:
    """Return the matrix that moves points by (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float | None = None) -> Matrix:
    """Return the matrix that scales points about the origin."""
    return np.diag([x, x if y is None else y, 1.0])


def mirror(width: float) -> Matrix:
    """Return the matrix that swaps left and right of a picture of ``width`` pixels."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def affine(angle: float, shear: float, scale_x: float, scale_y: float) -> Matrix:
    """Return the matrix that scales, then shears along x, then rotates; angles in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    slant = np.array([[1.0, -np.tan(shear), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    out: Matrix = rotation @ slant @ scaling(scale_x, scale_y)
    return out


def inverse(matrix: Matrix) -> Matrix:
    """Return the inverse of matrices (..., 3, 3)."""
    out: Matrix = np.linalg.inv(matrix).astype(np.float64, copy=False)
    return out


def transform(matrix: Matrix, points: Matrix) -> Matrix:
    """Apply homographies (..., 3, 3) to points (N, 2); return (..., N, 2)."""
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(matrix, -1, -2)
    out: Matrix = homogeneous[..., :2] / homogeneous[..., 2:]
    return out


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object cut out of its image, at native size.

    Attributes:
        rgba: (h, w, 4) uint8; RGB and, as the fourth channel, 255 inside the object, 0 outside.
        area: Number of pixels inside the object.
    """

    rgba: Pixels
    area: int

    @property
    def centre(self) -> tuple[float, float]:
        """Return (x, y) of the centre of the cut-out, px."""
        height, width = self.rgba.shape[:2]
        return (width - 1) / 2, (height - 1) / 2


def cut_out(image: Pixels, mask: Pixels) -> Cutout:
    """Cut an object out of its image, with a margin of two pixels.

    Args:
        image: (h, w, 3) uint8, the object's box.
        mask: (h, w) uint8, nonzero inside the object.
    """
    alpha = np.where(mask > 0, np.uint8(255), np.uint8(0))
    margins = (_PAD, _PAD, _PAD, _PAD)
    rgb = cv2.copyMakeBorder(image, *margins, cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(alpha, *margins, cv2.BORDER_CONSTANT, value=0)
    return Cutout(np.dstack([rgb, padded]), cv2.countNonZero(alpha))


@dataclass(frozen=True, eq=False)
class Layer:
    """A cut-out in motion.

    Attributes:
        cutout: The object that is pasted.
        matrices: (T, 3, 3), clip pixel to cut-out pixel, affine.
        object_id: Its id in the label map, above those of the instances of the image.
        behind: Instances of the image with ids up to this one hide the object; 0 for none.
        deformation: How it bends, or None.
    """

    cutout: Cutout
    matrices: Matrix
    object_id: int
    behind: int = 0
    deformation: Deformation | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that determines the geometry of a clip.

    Attributes:
        size: Side of the clip, px.
        base: (T, 3, 3), clip pixel to image pixel; a homography per frame.
        base_ids: Ids of the image's label map that may become objects.
        layers: Pasted objects, back to front: the depth order in all frames.
        hard_edges: Paste complete pixels; otherwise edges are blended over about two pixels.
        wedges: Draw black where a warp leaves the image; otherwise repeat the image's edge.
    """

    size: int
    base: Matrix
    base_ids: tuple[int, ...]
    layers: tuple[Layer, ...]
    hard_edges: bool
    wedges: bool
