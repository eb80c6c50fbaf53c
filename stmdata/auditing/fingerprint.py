"""What a frame shows, in 256 numbers that compression and scaling leave nearly unchanged.

A thumbnail is the frame in grey, averaged over a grid of 16 x 16. Two are compared by their
correlation, which does not depend on brightness and contrast. On real videos, a frame and its copy
at half size and JPEG quality 50 correlate by at least 0.967, and frames of different videos by at
most 0.874.
"""

from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from stmtrain.errors import DataError

SIDE = 16
ALIKE = 0.95
"""Least correlation of two thumbnails of the same picture."""
FLAT = 4.0
"""Grey values: thumbnails of a smaller standard deviation show too little to be compared."""

Thumbs = NDArray[np.uint8]
"""(T, 16, 16) uint8."""
Vectors = NDArray[np.float32]
"""(T, 256) float32, each of mean 0 and length 1, or 0 where the thumbnail is flat."""

FRAME_SHARE, MASK_SHARE = 0.5, 0.2
"""A frame or mask is misplaced if its distance to the most similar one elsewhere is smaller than
this share of that to its neighbours. On real videos the shares are at least 1.0 and 0.22; of one
that was swapped with another they are mostly below 0.2 and 0.1."""
_SWAP_SHARE = 0.6
"""The same for two of which each fits where the other is."""
_ELSEWHERE = 2
"""Frames up to so far away are no evidence: motion may stop for a moment."""
_BLOCK = 1024
"""Frames that are compared with each other; longer videos are cut into blocks."""
_SAME = 1e-3
"""Distances below this are no motion."""


def jpeg_thumb(data: bytes, where: str) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """Decode a JPEG at the smallest scale that a thumbnail needs, which proves that it is complete.

    Returns:
        (height, width) of the stored image, and its thumbnail.

    Raises:
        DataError: It is no JPEG, or damaged.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        grey = simplejpeg.decode_jpeg(
            data, "GRAY", min_height=min(height, 2 * SIDE), min_width=min(width, 2 * SIDE)
        )
    except ValueError as error:
        raise DataError(f"{where}: JPEG is damaged ({error}); replace the file") from None
    return (int(height), int(width)), shrink(grey[..., 0])


def shrink(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average a grey image (H, W) uint8 over a grid of 16 x 16."""
    return np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX))


def vectors(thumbs: Thumbs) -> Vectors:
    """Return thumbnails as vectors whose products are their correlations; flat ones are 0."""
    flat = thumbs.reshape(len(thumbs), SIDE * SIDE).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(lengths < FLAT * SIDE, 0, flat / np.maximum(lengths, 1)).astype(np.float32)


class Misplaced(NamedTuple):
    """Places of pictures that fit elsewhere in a video much better than where they are.

    Attributes:
        swapped: Pictures each of which fits where another one of them is.
        single: All others.
    """

    swapped: list[int]
    single: list[int]


def misplaced(thumbs: Thumbs, share: float = FRAME_SHARE) -> Misplaced:
    """Find pictures that differ from both their neighbours, and are like one farther away.

    Args:
        thumbs: (T, 16, 16) uint8, in time order.
        share: By how much they are more like that one, as a share of the distances.
    """
    swapped, single = [], []
    for start in range(0, len(thumbs), _BLOCK):
        found = _misplaced(vectors(thumbs[start : start + _BLOCK]), share)
        swapped += [start + place for place in found.swapped]
        single += [start + place for place in found.single]
    return Misplaced(swapped, single)


def _misplaced(known: Vectors, share: float) -> Misplaced:
    distances = 1 - known @ known.T
    count = len(known)
    shares: dict[int, float] = {}
    fits: dict[int, int] = {}
    for place in np.flatnonzero(known.any(axis=1)).tolist():
        near = [distances[place, i] for i in (place - 1, place + 1) if 0 <= i < count]
        outside = np.r_[0 : max(0, place - _ELSEWHERE), place + _ELSEWHERE + 1 : count]
        if near and len(outside):
            fits[place] = int(outside[distances[place, outside].argmin()])
            closest = max(float(distances[place, fits[place]]), _SAME)
            shares[place] = closest / max(float(min(near)), _SAME)

    def partners(place: int) -> list[int]:
        there = range(fits[place] - 1, fits[place] + 2)
        return [i for i in there if shares.get(i, 1.0) < _SWAP_SHARE and abs(fits[i] - place) <= 1]

    swapped = [p for p in shares if shares[p] < _SWAP_SHARE and partners(p)]
    # At either end one neighbour is too little evidence.
    single = [p for p in shares if shares[p] < share and p not in swapped and 0 < p < count - 1]
    return Misplaced(swapped, single)
