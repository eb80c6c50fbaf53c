"""Pictures as annotation tools show them: turned upright, and with 8 bits per channel.

Cameras store a photograph as the sensor saw it, with an EXIF orientation that says how to turn it.
Annotation tools show it upright; libraries that ignore EXIF read it as stored. Where annotations
state a size, that size decides; where both ways have it, the picture is turned upright.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.errors import DataError

_TAG = 0x0112
_SCAN = 0xDA  # the JPEG segment after which the pixels begin
_BACK = {6: 8, 8: 6}  # the orientation that undoes another; all others undo themselves


def jpeg_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a JPEG, 1..8; 1 if it has none."""
    if b"Exif\0\0" not in data:  # microseconds, where Pillow takes a tenth of a millisecond
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return orientation(image)
    except OSError:
        return 1


def without_exif(data: bytes) -> bytes:
    """Return a JPEG without its EXIF segments, so that no reader turns it; same pixels."""
    kept, start = [data[:2]], 2
    while data[start : start + 1] == b"\xff" and data[start + 1] != _SCAN:
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if data[start + 4 : start + 10] != b"Exif\0\0":
            kept.append(data[start:end])
        start = end
    return b"".join([*kept, data[start:]])


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an open image, 1..8; damaged EXIF data counts as none."""
    try:
        found = image.getexif().get(_TAG, 1)
    except Exception:  # noqa: BLE001 - of any kind, from a parser of foreign bytes: viewers ignore it
        return 1
    return found if found in range(1, 9) else 1


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, C) pixels as an EXIF orientation, 1..8, asks for; a view where possible."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def turn_back(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo :func:`turn`."""
    return turn(pixels, _BACK.get(orientation, orientation))


def turned_size(
    stored: tuple[int, int], orientation: int, annotated: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the size of a picture as it is turned: upright, unless it only fits as stored.

    Args:
        stored: Its (height, width) as stored, px.
        orientation: EXIF orientation, 1..8.
        annotated: (height, width) of its annotation, which may be a little off; ``None`` if there
            is none.
    """
    upright = stored[::-1] if orientation >= 5 else stored
    if annotated is None:
        return upright
    return min(upright, stored, key=lambda size: size_distance(size, annotated))


def size_distance(size: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return the larger difference of two sizes' sides, pixels."""
    return max(abs(a - b) for a, b in zip(size, other, strict=True))


def fit_annotation(
    stored: NDArray[np.uint8],
    orientation: int,
    size: tuple[int, int] | None,
    like: str,
    where: str,
) -> NDArray[np.uint8]:
    """Choose how a picture is turned: upright, or as stored if only that has the annotated size.

    Args:
        stored: (H, W, 3) uint8 RGB.
        orientation: EXIF orientation, 1..8.
        size: (height, width) of the annotation, px; ``None`` if there is none.
        like: What states the size, in the error message.
        where: File; opens the error message.

    Raises:
        DataError: It has the annotated size neither way.
    """
    for pixels in (turn(stored, orientation), stored):
        if size is None or pixels.shape[:2] == size:
            return np.ascontiguousarray(pixels)
    height, width = stored.shape[:2]
    turned = ""
    if orientation > 1:
        turned = f" as stored, with EXIF orientation {orientation}"
        turned += f" ({height}x{width} upright)" if orientation >= 5 else ""
    assert size is not None
    raise DataError(
        f"{where}: expected {size[1]}x{size[0]} pixels like {like}, found {width}x{height}{turned};"
        " use the image that was annotated, or resize one of them"
    )


def to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale grey values of more than 8 bits, the smallest finite one to 0 and the largest to 255.

    Args:
        values: (H, W) integers or floats; NaN counts as smallest.

    Returns:
        (H, W) uint8; 0 if all values are equal.
    """
    exact = values.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    exact = np.nan_to_num(exact, nan=low, posinf=high, neginf=low)
    return np.rint((exact - low) * (255 / (high - low or 1))).astype(np.uint8)
