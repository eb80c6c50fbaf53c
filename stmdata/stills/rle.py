"""COCO's run-length masks from polygons and files, and outlines in float32 that draw exactly.

pycocotools converts polygons to runs; because it trusts its input, runs from files are read and
checked with :mod:`stmtrain.images.rle` first.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray

from stmtrain.images.rle import fills, read_runs


def polygon_rle(
    parts: Sequence[Sequence[float] | NDArray[np.float64]], size: tuple[int, int]
) -> bytes:
    """Return the compressed runs of a union of polygons.

    Args:
        parts: Flat x, y, x, y, ... in px; three points or more each.
        size: (height, width) of the image, px.
    """
    rles = coco_mask.frPyObjects(list(parts), *size)
    counts: bytes = (coco_mask.merge(rles) if len(rles) > 1 else rles[0])["counts"]
    return counts


def compress_rle(
    counts: str | Sequence[int], size: tuple[int, int], image_size: tuple[int, int]
) -> bytes | None:
    """Check an RLE from a file and compress it; return ``None`` unless it fills its image.

    Args:
        counts: Run lengths, or COCO's compressed string of run lengths.
        size: (height, width) that the RLE states, px.
        image_size: (height, width) of its image, px.
    """
    pixels = image_size[0] * image_size[1]
    if tuple(size) != tuple(image_size) or pixels >= 2**31:
        return None
    if isinstance(counts, str):
        data = counts.encode()
        try:
            runs = read_runs(data)
        except ValueError:
            return None
        return data if fills(runs, pixels) else None
    if sum(counts) != pixels or min(counts) < 0:
        return None
    packed: bytes = coco_mask.frPyObjects({"size": [*size], "counts": [*counts]}, *size)["counts"]
    return packed


def round_outline(exact: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round coordinates to float32 without changing what pycocotools draws.

    pycocotools snaps a coordinate x to trunc(5x + 0.5). One in twenty of COCO's coordinates, which
    have two decimals, is on a boundary of that grid, and rounding may move it across. The
    neighbouring float32 is then on the right side; 5x is exact in double precision for every
    float32, so the coordinate stays there.
    """
    near = exact.astype(np.float32)
    want = np.trunc(5.0 * exact + 0.5)
    got = np.trunc(5.0 * near.astype(np.float64) + 0.5)
    toward = np.where(got < want, np.float32(np.inf), np.float32(-np.inf))
    return np.where(got == want, near, np.nextafter(near, toward))
