"""COCO's run-length masks: read, check and draw them.

Runs go down the columns and alternate between 0 and 1, starting with 0. They are untrusted: what
does not fill its image is refused before anything is drawn. Free of torch.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


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


def fills(runs: NDArray[np.int64], pixels: int) -> bool:
    """Return whether runs are not negative and add up to the pixels of an image."""
    return bool(runs.size and runs.min() >= 0 and runs.max() <= pixels and runs.sum() == pixels)


def decode_rle(counts: str | Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Draw run lengths, or COCO's compressed string of them.

    Args:
        counts: As in a JSON file.
        size: (height, width) of the image, px.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: They are malformed, or do not fill the image.
    """
    runs = read_runs(counts.encode()) if isinstance(counts, str) else np.array(counts, np.int64)
    if runs.ndim != 1 or not fills(runs, size[0] * size[1]):
        raise ValueError(f"runs do not fill {size[1]}x{size[0]} pixels")
    return runs_to_flags(runs).reshape(size[1], size[0]).T


def runs_to_flags(runs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Expand run lengths >= 0, zeros first, to one flag per pixel."""
    return np.repeat(np.arange(runs.size) % 2 == 1, runs)


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
