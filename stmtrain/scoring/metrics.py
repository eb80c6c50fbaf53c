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
from dataclasses import dataclass
from functools import lru_cache
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


@dataclass(frozen=True)
class Rule:
    """How one object's masks in a frame are compared.

    Attributes:
        tolerance: Distance at which contours match, as a fraction of the frame's diagonal.
        object_tolerance: That of a second F, as a fraction of the square root of the true area;
            the smaller of both distances holds. 0: there is no second F.
        rounded: Whether ``tolerance`` is rounded up to whole pixels beside ``object_tolerance``.
            If not, the disk of a fractional radius is built as MOSE v2 does, a little lopsided,
            and serves both F wherever it is the smaller one.
        smoothing: Pixels added to the intersection and to the union.
    """

    tolerance: float = TOLERANCE
    object_tolerance: float = 0.0
    rounded: bool = True
    smoothing: int = 0

    def radii(self, shape: tuple[int, ...], true_area: int) -> tuple[float, float]:
        """Return the distances of F and of the second F in pixels."""
        limit = self.tolerance * math.sqrt(shape[0] ** 2 + shape[1] ** 2)
        rounded = math.ceil(limit)
        if not self.object_tolerance:
            return rounded, rounded
        if self.rounded:
            limit = rounded
        own = math.ceil(self.object_tolerance * math.sqrt(true_area)) if true_area else limit
        return (rounded, own) if own < limit else (limit, limit)


class Measures(NamedTuple):
    """J, F and the second F of one object in one frame, in [0, 1], and the masks' areas."""

    j: float
    f: float
    f_dot: float
    true_area: int
    area: int


NOTHING = Measures(1.0, 1.0, 1.0, 0, 0)
"""Of two empty masks."""


def j_and_f(prediction: Mask, truth: Mask, tolerance: float = TOLERANCE) -> tuple[float, float]:
    """Return J and F of :func:`measure` by the rule of DAVIS."""
    return measure(prediction, truth, Rule(tolerance))[:2]


def measure(prediction: Mask, truth: Mask, rule: Rule) -> Measures:
    """Compare one object's mask with the ground truth.

    J is the intersection over union of the masks. F is the F-measure of the contours: precision is
    the share of the predicted contour that has true contour within the tolerance, recall the share
    of the true contour that has predicted contour within it.

    Args:
        prediction: (H, W) bool.
        truth: (H, W) bool.
        rule: Tolerances and smoothing.

    Returns:
        J, 1 if both masks are empty; F, 1 if neither mask has a contour and 0 if only one has.

    Raises:
        ValueError: A mask is not (H, W) bool, or the shapes differ.
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.shape != truth.shape:
            raise ValueError(
                f"{name}: expected (H, W) bool like truth, {truth.shape}, "
                f"found {mask.dtype} {mask.shape}"
            )
    box = _box_of(prediction | truth)
    if box is None:
        return NOTHING
    shape = truth.shape
    prediction, truth = prediction[box], truth[box]
    area, true_area = np.count_nonzero(prediction), np.count_nonzero(truth)
    both = np.count_nonzero(prediction & truth)
    j = (both + rule.smoothing) / (area + true_area - both + rule.smoothing)
    f, f_dot = _boundary_f(prediction, truth, rule.radii(shape, true_area))
    return Measures(j, f, f_dot, true_area, area)


def statistics(values: Sequence[float] | NDArray[np.float64], short: bool = False) -> Statistics:
    """Summarise a measure over the frames of one object.

    Args:
        values: Per scored frame in time order, each in [0, 1]; at least one.
        short: Frame positions are 8-bit integers, as in the official code: they overflow in videos
            of more than 256 frames, whose decay is wrong, or NaN.

    Returns:
        Mean; recall, the share of frames above ``RECALL_THRESHOLD``; decay, the mean of the first
        quarter minus that of the last (adjacent quarters share a frame, as in the official code).

    Raises:
        ValueError: No values.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"expected one value per frame, at least one, found shape {array.shape}")
    # Halves round up, not to even: the official code adds the same 1e-10.
    edges = np.round(np.linspace(1, array.size, DECAY_BINS + 1) + 1e-10).astype(np.int64) - 1
    if short:
        edges &= 255
    first, last = array[edges[0] : edges[1] + 1], array[edges[-2] : edges[-1] + 1]
    return Statistics(
        mean=float(array.mean()),
        recall=float((array > RECALL_THRESHOLD).mean()),
        decay=float(first.mean() - last.mean()) if first.size and last.size else math.nan,
    )


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


def _boundary_f(prediction: Mask, truth: Mask, radii: tuple[float, float]) -> tuple[float, float]:
    """F of two masks of one shape at two distances in pixels."""
    height, width = truth.shape
    # A row is followed by zero bits: dilated by a radius, it must not reach the next row.
    stride = 8 * math.ceil((width + math.ceil(max(*radii, 1)) + 1) / 8)
    row = ((1 << width) - 1).to_bytes(stride // 8, "little")
    inside = int.from_bytes(row * height, "little")
    predicted = _contour(prediction, stride) & inside
    true = _contour(truth, stride) & inside
    first = _matched(predicted, true, radii[0], stride)
    return first, first if radii[1] == radii[0] else _matched(predicted, true, radii[1], stride)


def _matched(predicted: int, true: int, radius: float, stride: int) -> float:
    """F of two contours, as bits, at one distance in pixels."""
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


def _dilate(bits: int, radius: float, stride: int) -> int:
    """Set every pixel within ``radius`` of a set pixel.

    A disk is a stack of horizontal runs. Each length of run is grown once, from the next shorter
    one, and then shifted to the rows and columns that have it.
    """
    rows = _disk(radius)
    margin = max(abs(first) for _, first, _ in rows)  # keeps what runs over the left edge
    bits <<= margin
    runs, length = {}, 1
    for wanted in sorted({last - first + 1 for _, first, last in rows}):
        while length < wanted:
            step = min(wanted - length, length)  # a longer step would leave a hole
            bits |= bits >> step
            length += step
        runs[wanted] = bits
    disk = 0
    for y, first, last in rows:
        shift = y * stride + first + margin
        run = runs[last - first + 1]
        disk |= run >> shift if shift >= 0 else run << -shift
    return disk


@lru_cache
def _disk(radius: float) -> tuple[tuple[int, int, int], ...]:
    """Return the rows of a disk: its offset, and the first and last column's; pixels.

    The grid -radius, -radius + 1, ... and the anchor in its middle are those of MOSE v2; a
    fractional radius makes the disk lopsided by less than a pixel.
    """
    grid = np.arange(-radius, radius + 1)
    anchor = len(grid) // 2
    rows = []
    for y, inside in enumerate(grid[:, None] ** 2 + grid**2 <= radius**2):
        columns = np.flatnonzero(inside)
        if columns.size:
            rows.append((y - anchor, int(columns[0]) - anchor, int(columns[-1]) - anchor))
    # Below 0.71 no pixel is inside, which OpenCV takes for the first one.
    return tuple(rows) or ((-anchor, -anchor, -anchor),)
