"""One object in one frame, as the annotation formats store it, and how it is drawn.

A :data:`Shape` is drawn on request, so that a video of thousands of masks takes no memory before
they are read. Objects of a frame may overlap; :func:`paint` decides which is on top.
"""

import base64
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.polygons import fill_coco, fill_opencv
from stmtrain.images.rle import decode_rle, fills, runs_to_flags

Size = tuple[int, int]
Flags = NDArray[np.bool_]

Shape = Callable[[Size], Flags]
"""Draws an object: (height, width) of the frame in, (H, W) bool out; picklable. Raises ValueError,
or DataError that names a file, if it is damaged or of another size."""

Overlap = Literal["smaller", "higher", "lower"]
"""What is on top where objects overlap: the smaller area in this frame, the higher or the lower
id."""
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)

MAX_BITMAP = 64 << 20
"""Most bytes to which the bitmap of one object may inflate."""


def paint(objects: Mapping[int, Flags], size: Size, overlap: Overlap) -> NDArray[np.uint8]:
    """Paint objects into one label map.

    Args:
        objects: Id in 1..254 to (H, W) bool.
        size: (height, width) of the frame, px.
        overlap: Which object is on top. Of two with the same area, the higher id is.

    Returns:
        (H, W) uint8, 0 background.
    """
    order = sorted(objects, reverse=overlap == "lower")
    if overlap == "smaller":
        order.sort(key=lambda i: -np.count_nonzero(objects[i]))
    out = np.zeros(size, np.uint8)
    for object_id in order:
        out[objects[object_id]] = object_id
    return out


def draw_segment(segment: Any, size: Size) -> Flags:
    """Draw a segmentation of COCO's kind: polygons, or RLE with its size."""
    if isinstance(segment, list):
        return fill_coco(segment, size)
    stated = tuple(int(side) for side in segment["size"])
    if stated != size:
        raise ValueError(f"RLE of {stated[1]}x{stated[0]} pixels in a frame of {size[1]}x{size[0]}")
    return decode_rle(segment["counts"], size)


def draw_rle(counts: str, size: Size) -> Flags:
    """Draw COCO's compressed RLE, whose size is that of its frame."""
    return decode_rle(counts, size)


def draw_rings(rings: Sequence[Sequence[Sequence[float]]], size: Size) -> Flags:
    """Draw the rings of an object of VISOR."""
    return fill_opencv(rings, size)


def draw_file(path: Path, size: Size) -> Flags:
    """Draw an image of one object: any pixel above 0."""
    mask = decode_mask(read_file(path), str(path))
    if mask.shape != size:
        raise DataError(
            f"{path}: expected a mask of {size[1]}x{size[0]} pixels like its frame, found "
            f"{mask.shape[1]}x{mask.shape[0]}; make the mask again at the frame's size"
        )
    return mask > 0


def draw_boxed_runs(runs: str, box: tuple[int, int, int, int], size: Size) -> Flags:
    """Draw the RLE of CVAT: runs within a box (left, top, width, height), row by row."""
    left, top, width, height = box
    lengths = np.array([int(run) for run in runs.split(",")], np.int64)
    if min(width, height) < 1 or width * height > size[0] * size[1]:
        raise ValueError(f"box of {width}x{height} in a frame of {size[1]}x{size[0]} pixels")
    if not fills(lengths, width * height):
        raise ValueError(f"runs do not fill the box of {width}x{height} pixels")
    return _place(runs_to_flags(lengths).reshape(height, width), (top, left), size)


def draw_bitmap(data: str, origin: tuple[int, int], size: Size) -> Flags:
    """Draw a bitmap of Supervisely: base64 of a deflated PNG, at ``origin`` (x, y)."""
    packed = base64.b64decode(data, validate=True)
    inflater = zlib.decompressobj()
    try:
        png = inflater.decompress(packed, MAX_BITMAP)
    except zlib.error as error:
        raise ValueError(f"bitmap cannot be inflated: {error}") from None
    if not inflater.eof:
        raise ValueError(f"bitmap is cut short, or has more than {MAX_BITMAP} bytes")
    return _place(decode_mask(png, "bitmap") > 0, (origin[1], origin[0]), size)


def _place(part: Flags, corner: tuple[int, int], size: Size) -> Flags:
    """Put a part of an image at (top, left), cut at the borders of the image."""
    out = np.zeros(size, np.bool_)
    (top, left), (height, width) = corner, part.shape
    first_row, first_column = max(-top, 0), max(-left, 0)
    part = part[first_row : max(size[0] - top, 0), first_column : max(size[1] - left, 0)]
    if not part.size:
        raise ValueError(f"{width}x{height} pixels at ({left}, {top}) lie outside the frame")
    rows = slice(top + first_row, top + first_row + part.shape[0])
    out[rows, left + first_column : left + first_column + part.shape[1]] = part
    return out
