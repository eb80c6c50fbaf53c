"""Pictures of clips: masks over frames, in the colours and with the ids of their objects.

RGB frames and label maps become RGB arrays. Free of torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stmtrain.images.encode import DAVIS_PALETTE
from stmtrain.images.masks import areas, ids_present, shrink_mask

Pixels = NDArray[np.uint8]

COLOURS: Pixels = np.interp(DAVIS_PALETTE, (0, 64, 128, 192, 224), (50, 125, 210, 240, 255)).astype(
    np.uint8
)
"""(256, 3) uint8 RGB: the DAVIS palette, lightened to be visible on dark pictures."""

PAPER = (24, 24, 28)
"""RGB of the background of all pictures."""


@dataclass(frozen=True)
class ClipView:
    """A clip to be drawn.

    Attributes:
        caption: For instance its sample key.
        names: T frame names.
        frames: T frames (H,W,3) uint8 RGB.
        masks: T masks (H,W) uint8 of object ids; ``None`` for a frame without a mask.
        object_ids: The ids in the legend.
        about: Where the clip comes from, in parts.
        jpegs: T frames as they are stored; empty if they are stored nowhere.
    """

    caption: str
    names: Sequence[str]
    frames: Sequence[Pixels]
    masks: Sequence[Pixels | None]
    object_ids: Sequence[int]
    about: Sequence[str] = ()
    jpegs: Sequence[bytes] = ()


def area_texts(object_ids: Sequence[int], masks: Sequence[Pixels | None]) -> list[str]:
    """State the area of each object in these masks, as "1840 px" or "0 to 1840 px"."""
    counts = np.array([areas(mask) for mask in masks if mask is not None]).reshape(-1, 256)
    texts = []
    for number in object_ids:
        least, most = (int(f(counts[:, number])) if len(counts) else 0 for f in (np.min, np.max))
        texts.append(f"{most} px" if least == most else f"{least} to {most} px")
    return texts


def overlay(frame: Pixels, mask: Pixels | None, alpha: float = 0.45, ids: bool = True) -> Pixels:
    """Draw a label map over its frame: tinted objects with contour lines and ids.

    Args:
        frame: (H,W,3) uint8 RGB.
        mask: (H,W) uint8 object ids, 0 background, 255 void; ``None`` draws nothing.
        alpha: Weight of the colour inside an object, 0..1; contours are solid.
        ids: Write the object ids.

    Returns:
        (H,W,3) uint8 RGB, a new array.

    Raises:
        ValueError: Mask and frame differ in size.
    """
    if mask is None:
        return frame.copy()
    if mask.shape != frame.shape[:2]:
        raise ValueError(f"expected a mask of {frame.shape[:2]}, found {mask.shape}")
    out = frame.copy()
    inside = mask > 0
    tint = COLOURS[mask[inside]]
    out[inside] = (frame[inside] * (1 - alpha) + tint * alpha + 0.5).astype(np.uint8)
    edge = contours(mask, width=max(1, round(min(mask.shape) / 200)))
    out[edge] = COLOURS[mask[edge]]
    return _write_ids(out, mask) if ids else out


def label_places(mask: Pixels) -> dict[int, tuple[int, int]]:
    """Map each object id in an (H,W) mask to a (row, column) where it can be written.

    It is the pixel of the object that is surrounded by most of the object, both nearby and in a
    square of the object's area: on the larger part of a divided object, and not in the hole of a
    ring.
    """
    places = {}
    for number in ids_present(mask):
        own = mask == number
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        box = own[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        half = np.sqrt(box.sum()) / 2
        score = _share(box, max(1, int(half))) + _share(box, max(1, int(half / 4)))
        row, column = divmod(int((score * box).argmax()), box.shape[1])
        places[number] = (int(rows[0]) + row, int(columns[0]) + column)
    return places


def scale(
    frame: Pixels, mask: Pixels | None, size: tuple[int, int]
) -> tuple[Pixels, Pixels | None]:
    """Scale a frame (bilinear) and its mask (nearest pixel, no object is lost) to (height, width).

    Pillow's bilinear filter covers all pixels when it scales down.
    """
    image = Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image), None if mask is None else shrink_mask(mask, size)


def strip(pictures: Sequence[Pixels], gap: int = 6) -> Pixels:
    """Put pictures side by side, aligned at the top, with ``gap`` dark pixels in between."""
    height = max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] for p in pictures) + gap * (len(pictures) - 1)
    out = np.full((height, width, 3), PAPER, np.uint8)
    left = 0
    for picture in pictures:
        out[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return out


def contours(mask: Pixels, width: int) -> NDArray[np.bool_]:
    """Mark the pixels of objects that have another label within ``width`` rows or columns."""
    edge = np.zeros(mask.shape, bool)
    for shift in range(1, width + 1):
        down = mask[shift:] != mask[:-shift]
        right = mask[:, shift:] != mask[:, :-shift]
        edge[shift:] |= down
        edge[:-shift] |= down
        edge[:, shift:] |= right
        edge[:, :-shift] |= right
    return edge & (mask > 0)


def _share(own: NDArray[np.bool_], half: int) -> NDArray[np.float64]:
    """Return the set share of the square that extends ``half`` pixels around each pixel, 0..1."""
    height, width = own.shape
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = own.cumsum(0).cumsum(1)
    top, bottom = (np.clip(np.arange(height) + d, 0, height) for d in (-half, half + 1))
    left, right = (np.clip(np.arange(width) + d, 0, width) for d in (-half, half + 1))
    strips = total[bottom] - total[top]
    return (strips[:, right] - strips[:, left]) / (2 * half + 1) ** 2


def _write_ids(picture: Pixels, mask: Pixels) -> Pixels:
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    size = max(10, min(mask.shape) // 14)
    for number, (row, column) in label_places(mask).items():
        pen.text((column, row), str(number), fill="white", font=font(size), anchor="mm",
                 stroke_width=max(1, size // 10), stroke_fill="black")  # fmt: skip
    return np.asarray(image)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font of all pictures in a size in pixels."""
    return ImageFont.load_default(size)
