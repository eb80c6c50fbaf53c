"""Masks that differ a little from their frames: some tools round the sides of an image."""

from pathlib import Path

from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.png import png_header
from stmtrain.images.upright import size_distance

MISFIT = 2
"""Most pixels by which a mask's sides may differ from its frame's: some tools round so."""


def mask_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of a mask in pixels, from its header if it is a PNG."""
    header = png_header(read_file(path, most=26))
    if header:
        return header.height, header.width
    height, width = decode_mask(read_file(path), str(path)).shape
    return height, width


def is_misfit(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether a mask must be resampled to the size of its frame.

    Args:
        path: File of the mask.
        found: Its (height, width), pixels.
        size: (height, width) of the frame.

    Raises:
        DataError: A side differs by more than :data:`MISFIT` pixels.
    """
    if size_distance(found, size) > MISFIT:
        raise DataError(
            f"{path}: expected a mask of {size[1]}x{size[0]} pixels like its frame, found "
            f"{found[1]}x{found[0]}; create the mask at the frame's size, upright if the frame has "
            "an EXIF orientation"
        )
    return found != size
