"""How a cut-out bends: drawn displacement fields, and where to read a pixel of the bent object.

Geometry only; :mod:`stmdata.synthesis.appearance` draws the fields.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Deformation", "bend_map", "deform"]

Array8 = NDArray[np.uint8]
NODES = 64  # places along each side of the output where a displacement is looked up


@dataclass(frozen=True, eq=False)
class Deformation:
    """How one object bends over a clip.

    Attributes:
        modes: (2, 16, 16, 2) float32, two displacement fields (x, y) over the object's box, in
            shares of its width and height; beyond the box their border repeats.
        weights: one pair per frame; the field of frame t is ``weights[t] @ modes``.
        reach: largest displacement of any frame, in shares of the box.
    """

    modes: NDArray[np.float32]
    weights: tuple[tuple[float, float], ...]
    reach: float


def deform(deformation: Deformation, image: Array8, mask: Array8, t: int) -> tuple[Array8, Array8]:
    """Bend a cut-out and its mask alike.

    Both grow by the same border on opposite sides, so that nothing is cut off and the centre
    stays the centre; the size is the same for every ``t``.

    Args:
        deformation: of this object.
        image: (h, w, 3) uint8; beyond its border its outermost pixels repeat.
        mask: (h, w) uint8, any labels; beyond its border it is 0. No label is invented.
        t: frame number, any order.

    Returns:
        image (h + 2b, w + 2a, 3) and mask (h + 2b, w + 2a), both uint8.
    """
    height, width = mask.shape
    if image.shape[:2] != mask.shape:
        raise ValueError(f"expected image and mask of one size, found {image.shape}, {mask.shape}")
    a, b = math.ceil(deformation.reach * width), math.ceil(deformation.reach * height)
    shift = np.array([[1.0, 0.0, -a], [0.0, 1.0, -b], [0.0, 0.0, 1.0]])
    where = bend_map(deformation, t, (width, height), shift, (width + 2 * a, height + 2 * b))
    return (
        cv2.remap(image, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        cv2.remap(mask, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT),
    )


def bend_map(
    deformation: Deformation,
    t: int,
    cutout: tuple[int, int],
    matrix: NDArray[np.float64],
    box: tuple[int, int],
) -> NDArray[np.float32]:
    """Return where to read a cut-out that bends and moves: both in one ``cv2.remap``.

    Args:
        deformation: of this object.
        t: frame number, any order.
        cutout: (width, height) of the cut-out, px.
        matrix: (3, 3), affine, output pixel to cut-out pixel without the bending.
        box: (width, height) of the output, px; whoever chooses it adds ``reach`` on every side.

    Returns:
        (height, width, 2) float32, x and y in the cut-out.
    """
    first, second = deformation.weights[t]
    field = first * deformation.modes[0] + second * deformation.modes[1]
    size, spans = np.array(cutout, np.float32), np.array(box, np.float32)
    # The displacement is smooth: look it up at few places of the output, then interpolate.
    nodes = [(np.arange(NODES, dtype=np.float32) + 0.5) * span / NODES - 0.5 for span in spans]
    spots = (_affine(matrix, *nodes) + 0.5) * (len(field) / size) - 0.5
    shifts = cv2.remap(field, spots, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    where = cv2.resize(shifts * size, box, interpolation=cv2.INTER_LINEAR)
    where += _affine(matrix, *(np.arange(side, dtype=np.float32) for side in box))
    return np.asarray(where, dtype=np.float32)


def _affine(
    matrix: NDArray[np.float64], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply an affine matrix to the grid of x and y; the result is (len(y), len(x), 2)."""
    out = np.empty((len(y), len(x), 2), np.float32)
    for axis in (0, 1):
        along, across, start = (np.float32(value) for value in matrix[axis])
        np.add(along * x + start, (across * y)[:, None], out=out[..., axis])
    return out
