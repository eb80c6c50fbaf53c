"""Bytes to pixels, the only image decoder: RGB frames and label maps. Torch-free.

Input is untrusted: the header is checked against ``MAX_PIXELS`` before any pixel is decoded, and
every failure names the place.
"""

import io
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from stmtrain.errors import DataError

__all__ = ["MAX_PIXELS", "decode_frame", "decode_mask", "decode_still", "frame_size"]

MAX_PIXELS = 64_000_000
"""Largest image that is decoded, pixels: an 8K frame has 33 million."""

_OPEN_ERRORS = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)


def frame_size(data: bytes, where: str) -> tuple[int, int]:
    """Return (height, width) of a JPEG from its header alone."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DataError(f"{where}: expected a JPEG image ({error}); replace the file") from None
    if height * width > MAX_PIXELS:
        raise DataError(f"{where}: {width}x{height} exceeds {MAX_PIXELS} pixels; scale it down")
    return int(height), int(width)


def decode_frame(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode a JPEG frame.

    Args:
        data: JPEG bytes.
        where: File, or shard and sample; opens the error message.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        DataError: Not a JPEG, truncated, or larger than ``MAX_PIXELS``.
    """
    frame_size(data, where)
    try:
        frame: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        raise DataError(f"{where}: JPEG is damaged ({error}); replace the file") from None
    return frame


def decode_still(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode any still image that Pillow reads (PNG, grey or CMYK JPEG, ...) to (H, W, 3) RGB."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_pixels(image, where)
            return np.asarray(image.convert("RGB"))
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected an image ({error}); replace the file") from None


def decode_mask(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode a label map: palette or grey PNG, with or without an alpha channel.

    The palette's colours are ignored, its indices are the ids. DAVIS-2016 has grey masks and one
    file with an alpha channel; alpha is dropped.

    Returns:
        (H, W) uint8 as stored: ids for palette images, grey levels for grey ones.

    Raises:
        DataError: Not an image, damaged, a colour image, or too large.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_pixels(image, where)
            if image.mode in ("1", "LA"):
                image = image.convert("L")  # type: ignore[assignment]
            if image.mode not in ("P", "L"):
                raise DataError(
                    f"{where}: expected a palette or grey mask (one id per pixel), found mode "
                    f"{image.mode}; save the mask as a palette PNG"
                )
            return np.array(image)
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected a mask PNG ({error}); replace the file") from None


def _check_pixels(image: Image.Image, where: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{where}: {image.width}x{image.height} exceeds {MAX_PIXELS} pixels; scale it down"
        )
