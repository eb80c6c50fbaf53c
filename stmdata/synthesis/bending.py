"""How a cut-out bends: displacement fields, and where to read each pixel of the bent object.

This module has the geometry only; :mod:`stmdata.synthesis.appearance` draws the fields.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

NODES = 64  # positions along each side of the output where a displacement is looked up


@dataclass(frozen=True, eq=False)
class Deformation:
    """How one object bends over a clip.

    Attributes:
        modes: (2, 16, 16, 2) float32, two displacement fields (x, y) over the object's box, as
            shares of its width and height; their border is repeated beyond the box.
        weights: One pair per frame; the field of frame t is ``weights[t] @ modes``.
        reach: Largest displacement in any frame, as a share of the box.
    """

    modes: NDArray[np.float32]
    weights: tuple[tuple[float, float], ...]
    reach: float


def bend_map(
    deformation: Deformation,
    t: int,
    cutout: tuple[int, int],
    matrix: NDArray[np.float64],
    box: tuple[int, int],
) -> NDArray[np.float32]:
    """Return where to read a cut-out that bends and moves, for a single ``cv2.remap``.

    Args:
        deformation: How the object bends.
        t: Frame number, in any order.
        cutout: (width, height) of the cut-out, px.
        matrix: (3, 3), affine, output pixel to cut-out pixel without the bending.
        box: (width, height) of the output, px; the caller adds ``reach`` on every side.

    Returns:
        (height, width, 2) float32, x and y in the cut-out.
    """
    first, second = deformation.weights[t]
    field = first * deformation.modes[0] + second * deformation.modes[1]
    size, spans = np.array(cutout, np.float32), np.array(box, np.float32)
    # The displacement is smooth: look it up at few positions of the output, then interpolate.
    nodes = [(np.arange(NODES, dtype=np.float32) + 0.5) * span / NODES - 0.5 for span in spans]
    spots = (_affine(matrix, *nodes) + 0.5) * (len(field) / size) - 0.5
    shifts = cv2.remap(field, spots, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    where = cv2.resize(shifts * size, box, interpolation=cv2.INTER_LINEAR)
    where += _affine(matrix, *(np.arange(side, dtype=np.float32) for side in box))
    return np.asarray(where, dtype=np.float32)


def _affine(
    matrix: NDArray[np.float64], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply an affine matrix to the grid of x and y; return (len(y), len(x), 2)."""
    out = np.empty((len(y), len(x), 2), np.float32)
    for axis in (0, 1):
        along, across, start = (np.float32(value) for value in matrix[axis])
        np.add(along * x + start, (across * y)[:, None], out=out[..., axis])
    return out
