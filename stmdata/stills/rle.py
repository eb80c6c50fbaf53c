"""COCO's run-length masks: read, check and draw them; and outlines in float32 that draw exactly.

Runs go down the columns and alternate between 0 and 1, starting with 0. pycocotools converts
polygons to runs; because it trusts its input, runs from files are read and checked here.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray


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


def read_runs(counts: bytes) -> NDArray[np.int64]:
    """Expand compressed counts.

    Each number is a sequence of characters from code 48 on, with five bits each and a bit for "more
    follows"; low bits first, signed. From the fourth run on, a number is the difference to the run
    two before (``rleFrString`` of pycocotools).

    Returns:
        (R,) int64 run lengths, px; they may be negative or exceed the image.

    Raises:
        ValueError: The string is empty, incomplete, or has other characters.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if digits.size == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("not a compressed RLE")
    ends = np.flatnonzero(digits < 32) + 1
    starts = np.concatenate(([0], ends[:-1]))
    lengths = ends - starts
    if lengths.max() > 7:  # 35 bits
        raise ValueError("not a compressed RLE")
    place = np.arange(digits.size) - np.repeat(starts, lengths)
    runs: NDArray[np.int64] = np.add.reduceat((digits & 31) << (5 * place), starts)
    runs -= np.where(digits[ends - 1] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


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
        fills = runs.min() >= 0 and runs.max() <= pixels and runs.sum() == pixels
        return data if fills else None
    if sum(counts) != pixels or min(counts) < 0:
        return None
    packed: bytes = coco_mask.frPyObjects({"size": [*size], "counts": [*counts]}, *size)["counts"]
    return packed


def draw_runs(runs: NDArray[np.int64], height: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Draw the smallest box that contains all set pixels.

    This takes an eighth of the time to decode the complete image.

    Args:
        runs: (R,) int64, >= 0, that fill an image.
        height: Of the image, px.

    Returns:
        (h, w) uint8, 0 or 1, C-contiguous, and the (top, left) of the box, px. The shape is (0, 0)
        if no pixel is set.
    """
    pairs = np.cumsum(runs)[: len(runs) // 2 * 2].reshape(-1, 2)
    spans = pairs[pairs[:, 1] > pairs[:, 0]]
    if not len(spans):
        return np.zeros((0, 0), np.uint8), (0, 0)
    left, right = int(spans[0, 0]) // height, (int(spans[-1, 1]) - 1) // height + 1
    borders = np.concatenate(([left * height], spans.reshape(-1), [right * height]))
    lengths = np.diff(borders)
    values = np.arange(lengths.size, dtype=np.int64) & 1
    columns = np.repeat(values.astype(np.uint8), lengths).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(columns[:, top:bottom].T), (top, left)


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
