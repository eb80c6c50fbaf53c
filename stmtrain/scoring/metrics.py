"""Region similarity J, boundary accuracy F, and their statistics; NumPy only.

The measures of two binary masks of an object in a frame equal those of the official DAVIS
evaluation code. Definitions: Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for
Video Object Segmentation*, CVPR 2016, section 4.

The implementation is fast because it works on bits. The two masks are cropped to the pixels that
they cover, and each becomes one Python integer, one bit per pixel, row after row. Contours,
dilation and counting are then shifts and ``bit_count``: exact, and an order of magnitude faster
than dilating images.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 0.008
"""Largest distance at which two contours match, as a fraction of the frame's diagonal."""

RECALL_THRESHOLD = 0.5
"""An object counts as found in a frame if its measure there exceeds this."""

DECAY_BINS = 4
"""Decay is the mean over the first of this many equal parts of a video minus the last one's."""

Mask = NDArray[np.bool_]


class Statistics(NamedTuple):
    """Mean, recall and decay of a measure over the frames of one object."""

    mean: float
    recall: float
    decay: float


def j_and_f(prediction: Mask, truth: Mask, tolerance: float = TOLERANCE) -> tuple[float, float]:
    """Compare one object's mask with the ground truth.

    J is the intersection over union of the masks. F is the F-measure of the contours: precision is
    the share of the predicted contour that has true contour within the tolerance, recall the share
    of the true contour that has predicted contour within it.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        tolerance: Distance at which contours match, as a fraction of the frame's diagonal; rounded
            up to whole pixels.

    Returns:
        J, 1 if both masks are empty; F, 1 if neither mask has a contour and 0 if only one has.
        Both are in [0, 1].

    Raises:
        ValueError: A mask is not (H, W) bool, or the shapes differ.
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape != truth.shape:
            raise ValueError(
                f"{name}: expected (H, W) bool like truth, {truth.shape}, "
                f"found {mask.dtype} {mask.shape}"
            )
    height, width = truth.shape
    radius = math.ceil(tolerance * math.sqrt(height**2 + width**2))
    box = _box_of(prediction | truth)
    if box is None:
        return 1.0, 1.0
    prediction, truth = prediction[box], truth[box]
    return _jaccard(prediction, truth), _boundary_f(prediction, truth, radius)


def statistics(values: Sequence[float] | NDArray[np.float64]) -> Statistics:
    """Summarise a measure over the frames of one object.

    Args:
        values: Per scored frame in time order, each in [0, 1]; at least one.

    Returns:
        Mean; recall, the share of frames above ``RECALL_THRESHOLD``; decay, the mean of the first
        quarter minus that of the last (adjacent quarters share a frame, as in the official code).
        Frame positions are 64-bit integers, whereas the official code's 8-bit integers overflow
        in videos of more than 256 frames.

    Raises:
        ValueError: No values.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"expected one value per frame, at least one, found shape {array.shape}")
    # Halves round up, not to even: the official code adds the same 1e-10.
    edges = np.round(np.linspace(1, array.size, DECAY_BINS + 1) + 1e-10).astype(np.int64) - 1
    first, last = array[edges[0] : edges[1] + 1], array[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(array.mean()),
        recall=float((array > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()),
    )


def _jaccard(prediction: Mask, truth: Mask) -> float:
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def _box_of(mask: Mask) -> tuple[slice, slice] | None:
    """Return the rows and columns that the mask covers plus one on each side; None if empty.

    The margin keeps the contour, which is up to one pixel up and left of the object, in the box.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1])
    columns = np.flatnonzero(mask[top : bottom + 1].any(axis=0))
    left, right = int(columns[0]), int(columns[-1])
    return slice(max(top - 1, 0), bottom + 2), slice(max(left - 1, 0), right + 2)


def _boundary_f(prediction: Mask, truth: Mask, radius: int) -> float:
    """F of two masks of one shape; ``radius`` in pixels."""
    height, width = truth.shape
    # A row is followed by zero bits: dilated by the radius, it must not reach the next row.
    stride = 8 * math.ceil((width + max(radius, 1)) / 8)
    row = ((1 << width) - 1).to_bytes(stride // 8, "little")
    inside = int.from_bytes(row * height, "little")
    predicted = _contour(prediction, stride) & inside
    true = _contour(truth, stride) & inside
    num_predicted, num_true = predicted.bit_count(), true.bit_count()
    if not num_predicted or not num_true:
        return float(num_predicted == num_true)
    precision = (predicted & _dilate(true, radius, stride)).bit_count() / num_predicted
    recall = (true & _dilate(predicted, radius, stride)).bit_count() / num_true
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _contour(mask: Mask, stride: int) -> int:
    """Return the pixels that differ from their right, lower or lower right neighbour, as bits.

    The last row and column are repeated once, so that the frame's edge is not a contour. Bits
    beyond the mask's width and height are undefined.
    """
    height, width = mask.shape
    padded = np.zeros((height + 1, stride), np.bool_)
    padded[:height, :width] = mask
    padded[height] = padded[height - 1]
    padded[:, width] = padded[:, width - 1]
    bits = int.from_bytes(np.packbits(padded, bitorder="little").tobytes(), "little")
    return (bits ^ bits >> 1) | (bits ^ bits >> stride) | (bits ^ bits >> stride + 1)


def _dilate(bits: int, radius: int, stride: int) -> int:
    """Set every pixel within ``radius`` of a set pixel; the disk is x^2 + y^2 <= radius^2.

    A disk is a stack of horizontal runs. Each run length is grown once, from the next shorter one,
    and then shifted to the rows above and below that have it.
    """
    half_widths = [math.isqrt(radius**2 - y**2) for y in range(radius + 1)]
    grown, reach = {0: bits}, 0
    for half_width in sorted(set(half_widths)):
        while reach < half_width:
            step = min(half_width - reach, 2 * reach + 1)  # a longer step would leave a hole
            bits |= bits << step | bits >> step
            reach += step
        grown[half_width] = bits
    disk = grown[half_widths[0]]
    for y in range(1, radius + 1):
        run = grown[half_widths[y]]
        disk |= run << y * stride | run >> y * stride
    return disk
