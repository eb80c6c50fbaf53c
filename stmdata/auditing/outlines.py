"""Whether annotations that are stored as outlines or runs lie within their frame."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmdata.auditing.reading import Size
from stmtrain.datasets.ids import ObjectId
from stmtrain.datasets.shapes import Shape, draw_boxed_runs, draw_rings, draw_segment

_SLACK = 2.0
"""Outlines may reach so far beyond the frame, pixels: tools round, and count from 0 or 1."""


def outside(shapes: Mapping[ObjectId, Shape], size: Size) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the objects of a frame: a kind of fault, and what was found.

    Args:
        shapes: The objects of a frame.
        size: (height, width) of the frame, pixels.
    """
    for object_id, shape in shapes.items():
        if not isinstance(shape, partial):
            continue
        first = shape.args[0]
        if shape.func is draw_segment and not isinstance(first, list):
            stated = first.get("size") if isinstance(first, dict) else None
            if stated is not None and list(stated) != list(size):
                frame = f"{size[1]}x{size[0]}"
                yield "size", f"object {object_id} stored for {stated[1]}x{stated[0]}, not {frame}"
            continue
        points = _points(shape, first)
        if points is not None and len(points):
            limits = np.array([size[1], size[0]])
            over = max(float((points - limits).max()), float((-points).max()))
            if over > _SLACK:
                yield "outside", f"object {object_id} beyond the frame by {over:.0f} px"


def _points(shape: "partial[Any]", first: Any) -> NDArray[np.float64] | None:
    """Return the points (x, y) of an outline, or the corners of its box; None if it has none."""
    try:
        if shape.func in (draw_segment, draw_rings):
            rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in first]
            return np.concatenate(rings)
        if shape.func is draw_boxed_runs:
            left, top, width, height = shape.args[1]
            return np.array([[left, top], [left + width, top + height]], np.float64)
    except (TypeError, ValueError):  # malformed: drawing it has the better message
        return None
    return None
