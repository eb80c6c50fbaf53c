"""The only image decoder: bytes to RGB frames and label maps. Free of torch.

Input is untrusted: the size in the header is checked against ``MAX_PIXELS`` before any pixel is
decoded, and every error names the file or sample.
"""

import io
import struct

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from stmtrain.errors import DataError
from stmtrain.images.masks import VOID
from stmtrain.images.png import read_plain_png
from stmtrain.images.upright import (
    fit_annotation,
    jpeg_orientation,
    orientation,
    to_8_bits,
    turn_back,
)

MAX_PIXELS = 64_000_000
"""Size of the largest image that is decoded, pixels; an 8K frame has 33 million."""

# Not every format that Pillow can open: for some it starts other programs.
_STILL_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
_JPEG = b"\xff\xd8"
_DARKEST = 64  # 8 bits of 16: a sensor's 12 or 14 bits in 16 never reach it
_MASK_FORMATS = ("PNG", "BMP", "GIF", "TIFF")
_TIFF_TILE = (322, 323)  # tags of a tile's width and height
_OPEN_ERRORS = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)


def frame_size(data: bytes, where: str) -> tuple[int, int]:
    """Return (height, width) of a JPEG from its header alone."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise DataError(f"{where}: expected a JPEG image ({error}); replace the file") from None
    _check_pixels(width, height, where)
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


def decode_still(
    data: bytes,
    where: str,
    size: tuple[int, int] | None = None,
    *,
    like: str = "its annotation",
    scale: bool = True,
) -> NDArray[np.uint8]:
    """Decode a still image of a common format (JPEG, PNG, WebP, TIFF, ...) as it was annotated.

    It is turned upright by its EXIF orientation, unless only the image as stored has the annotated
    size. Grey images of more than 8 bits are scaled by their own smallest and largest value.

    Args:
        data: Bytes of the file.
        where: File; opens the error message.
        size: (height, width) of its annotation, px, if there is one.
        like: What states ``size``, in the error message.
        scale: ``False`` refuses more than 8 bits; use it for frames of videos, each of which would
            be scaled differently.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous; grey becomes three equal channels.

    Raises:
        DataError: It is not an image, damaged, larger than ``MAX_PIXELS``, has another size than
            annotated, or more than 8 bits without ``scale``.
    """
    pixels, turned = decode_stored(data, where, scale=scale)
    return fit_annotation(pixels, turned, size, like, where)


def decode_stored(data: bytes, where: str, *, scale: bool) -> tuple[NDArray[np.uint8], int]:
    """Do what :func:`decode_still` does, except for turning the image.

    Returns:
        (H, W, 3) uint8 RGB as stored, and the EXIF orientation, 1..8.
    """
    if data.startswith(_JPEG):
        try:
            return decode_frame(data, where), jpeg_orientation(data)
        except DataError:  # CMYK, ...: Pillow reads it, or has the better error
            pass
    try:
        with Image.open(io.BytesIO(data), formats=_STILL_FORMATS) as image:
            _check_pixels(*image.size, where)
            _check_tile(image, where)
            tiff_turned = orientation(image) if image.format == "TIFF" else 1
            pixels = _to_rgb(image, where, scale)
            if tiff_turned > 1:  # Pillow turns them by itself
                return turn_back(pixels, tiff_turned), tiff_turned
            return pixels, orientation(image)
    except UnidentifiedImageError:
        if not data.strip(b"\0"):
            raise DataError(
                f"{where}: expected an image, found {'zeros only' if data else 'an empty file'}; "
                "copy or download it again"
            ) from None
        raise DataError(
            f"{where}: expected an image, found other data or colours of more than 8 bits; convert "
            "it to an 8-bit PNG or JPEG"
        ) from None
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected an image ({error}); replace the file") from None


def _to_rgb(image: Image.Image, where: str, scale: bool) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        if not scale:
            raise DataError(
                f"{where}: expected 8 bits per channel in a frame, found mode {image.mode}; "
                "convert all frames of the video with one scale, for instance to 8-bit PNG"
            )
        return np.repeat(to_8_bits(np.asarray(image))[..., None], 3, axis=2)
    deep = ";16" in str(getattr(image, "tile", ""))  # colours, of which Pillow takes the high bytes
    pixels = np.asarray(image.convert("RGB"))
    if deep and pixels.max() < _DARKEST:
        raise DataError(
            f"{where}: expected colours of 16 bits up to 65535, found only dark ones, up to "
            f"{int(pixels.max()) * 257}; scale the image to 8 bits"
        )
    return pixels


def decode_mask(data: bytes, where: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decode a label map: palette or grey PNG, with or without an alpha channel.

    The colours of the palette are ignored; its indices are the ids. RGB counts as grey if its
    channels are equal. An alpha channel is ignored where it is opaque (a file of DAVIS 2016 has
    one), and is the mask where everything that is not transparent has one colour. More than 8 bits
    are refused: they may hold ids that no palette PNG can.

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
        return mask if mask.flags.writeable else mask.copy()
    _check_size(mask.shape, out, where)
    out[:] = mask
    return out


def decode_wide_mask(data: bytes, where: str) -> NDArray[np.uint32]:
    """Decode a mask whose ids need more than 8 bits.

    Args:
        data: PNG bytes: grey of 8 or 16 bits, or palette.
        where: File; opens the error message.

    Returns:
        (H, W) uint32 ids as stored.

    Raises:
        DataError: It is not a PNG of this kind, damaged, or too large.
    """
    try:
        plain = read_plain_png(data, MAX_PIXELS)  # which also checks the CRC of any other PNG
        if plain is not None:
            return plain.astype(np.uint32)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            _check_pixels(*image.size, where)
            if image.mode not in ("P", "L", "I", "I;16"):
                raise DataError(
                    f"{where}: expected a mask of 8 or 16 bits, found mode {image.mode}; "
                    "restore the original file"
                )
            return np.asarray(image).astype(np.uint32)
    except UnidentifiedImageError:
        raise DataError(f"{where}: expected a mask PNG, found other data; replace it") from None
    except _OPEN_ERRORS as error:
        raise DataError(f"{where}: expected a mask PNG ({error}); replace the file") from None


def _mask_by_pillow(data: bytes, where: str) -> NDArray[np.uint8]:
    if data.startswith(_JPEG):
        raise DataError(
            f"{where}: is a JPEG, whose compression changes the ids in a mask; save the mask as PNG"
        )
    with Image.open(io.BytesIO(data), formats=_MASK_FORMATS) as opened:
        image: Image.Image = opened
        _check_pixels(*image.size, where)
        _check_tile(opened, where)
        if image.mode.startswith("I"):
            top = int(np.asarray(image).max())
            advice = "save it with 8 bits" if top <= VOID else "number its objects from 1"
            raise DataError(
                f"{where}: expected a mask of 8 bits per pixel, found mode {image.mode}, "
                f"16 bits or more, up to {top}; {advice}, as a palette or grey PNG"
            )
        if image.mode in ("LA", "PA", "RGBA"):
            image = _without_alpha(image, where)
        if image.mode == "1" or (image.mode == "RGB" and _is_grey(np.asarray(image))):
            image = image.convert("L")
        if image.mode not in ("P", "L"):
            raise DataError(
                f"{where}: expected a palette or grey mask of 8 bits (one id per pixel), found "
                f"mode {image.mode}; save the mask as a palette PNG"
            )
        return np.asarray(image)


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    return bool((rgb == rgb[..., :1]).all())


def _without_alpha(image: Image.Image, where: str) -> Image.Image:
    """Return the band that holds the mask: alpha if all that is not transparent has one colour."""
    pixels = np.asarray(image)
    alpha, colours = pixels[..., -1], pixels[..., :-1]
    if alpha.min() == VOID:
        return image.convert("L" if image.mode == "LA" else image.mode.removesuffix("A"))
    shown = colours[alpha > 0]
    if alpha.min() == alpha.max() or (shown != shown[0]).any():
        raise DataError(
            f"{where}: expected one id per pixel, found mode {image.mode}, whose values and "
            "transparency (alpha) both differ; save the mask without an alpha channel"
        )
    return Image.fromarray(alpha)


def _check_size(found: tuple[int, ...], out: NDArray[np.uint8], where: str) -> None:
    if found != out.shape[:2]:
        raise DataError(
            f"{where}: expected {out.shape[1]}x{out.shape[0]} pixels as its record states, found "
            f'{found[1]}x{found[0]}; run "stm shards verify"'
        )


def _check_pixels(width: int, height: int, where: str) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{where}: {width}x{height} exceeds {MAX_PIXELS} pixels; scale it down")


def _check_tile(image: Image.Image, where: str) -> None:
    """Refuse a TIFF whose tiles, each of which is decoded as a whole, exceed ``MAX_PIXELS``."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        sizes = [int(image.tag_v2.get(tag, 0)) for tag in _TIFF_TILE]
        _check_pixels(sizes[0], sizes[1], where)
