"""The only image decoder: bytes to RGB frames and label maps. Free of torch.

Input is untrusted: the size in the header is checked against ``MAX_PIXELS`` before any pixel is
decoded, and every error names the file or sample.
"""

import io
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stmtrain.errors import DataError
from stmtrain.images.png import read_plain_png

MAX_PIXELS = 64_000_000
"""Size of the largest image that is decoded, pixels; an 8K frame has 33 million."""

# Not every format that Pillow can open: for some it starts other programs.
_STILL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
_MASK_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
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


def decode_frame(
    data: bytes, where: str, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Decode a JPEG frame.

    Args:
        data: JPEG bytes.
        where: File, or shard and sample; opens the error message.
        out: (H, W, 3) uint8 to decode into, of the size that the record states; without a copy if
            it is contiguous. Its pixels are undefined after an error.

    Returns:
        (H, W, 3) uint8, RGB; ``out`` if given.

    Raises:
        DataError: It is not a JPEG, truncated, larger than ``MAX_PIXELS``, or its size is not that
            of ``out``.
    """
    size = frame_size(data, where)
    direct = None
    if out is not None:
        _check_size(size, out, where)
        direct = out if out.flags.c_contiguous else None
    try:
        frame: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", strict=True, buffer=direct)
    except ValueError as error:
        raise DataError(f"{where}: JPEG is damaged ({error}); replace the file") from None
    if out is None:
        return frame
    if direct is None:
        out[:] = frame
    return out


def decode_still(data: bytes, where: str) -> NDArray[np.uint8]:
    """Decode a still image of a common format (PNG, grey or CMYK JPEG, ...) to (H, W, 3) RGB."""
    try:
        with Image.open(io.BytesIO(data), formats=_STILL_FORMATS) as image:
            _check_pixels(image, where)
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        raise DataError(f"{where}: expected an image, found other data; replace it") from None
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected an image ({error}); replace the file") from None


def decode_mask(data: bytes, where: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decode a label map: palette or grey PNG, with or without an alpha channel.

    The colours of the palette are ignored; its indices are the ids. An alpha channel is dropped:
    DAVIS-2016 has grey masks and one file with alpha.

    Args:
        data: PNG bytes (or BMP, GIF, TIFF).
        where: File, or shard and sample; opens the error message.
        out: (H, W) uint8 to decode into, of the size that the record states.

    Returns:
        (H, W) uint8 as stored: ids for palette images, grey levels for grey ones; ``out`` if given.

    Raises:
        DataError: It is not an image, damaged, a colour image, too large, or its size is not that
            of ``out``.
    """
    try:
        mask = read_plain_png(data, MAX_PIXELS)
        if mask is None:
            mask = _mask_by_pillow(data, where)
    except UnidentifiedImageError:
        raise DataError(f"{where}: expected a mask PNG, found other data; replace it") from None
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected a mask PNG ({error}); replace the file") from None
    if out is None:
        return mask.copy()
    _check_size(mask.shape, out, where)
    out[:] = mask
    return out


def _mask_by_pillow(data: bytes, where: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=_MASK_FORMATS) as image:
        _check_pixels(image, where)
        if image.mode in ("1", "LA"):
            image = image.convert("L")  # type: ignore[assignment]
        if image.mode not in ("P", "L"):
            raise DataError(
                f"{where}: expected a palette or grey mask (one id per pixel), found mode "
                f"{image.mode}; save the mask as a palette PNG"
            )
        return np.asarray(image)


def _check_size(found: tuple[int, ...], out: NDArray[np.uint8], where: str) -> None:
    if found != out.shape[:2]:
        raise DataError(
            f"{where}: expected {out.shape[1]}x{out.shape[0]} pixels as its record states, found "
            f'{found[1]}x{found[0]}; run "stm shards verify"'
        )


def _check_pixels(image: Image.Image, where: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{where}: {image.width}x{image.height} exceeds {MAX_PIXELS} pixels; scale it down"
        )
