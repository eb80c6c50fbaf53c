"""Pictures of clips: masks over frames, strips, contact sheets and animated GIFs. Free of torch.

RGB frames and label maps become RGB arrays; only the ``save_`` functions write files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stmtrain.files import whole_file, writing
from stmtrain.images.encode import DAVIS_PALETTE
from stmtrain.images.masks import ids_present

Pixels = NDArray[np.uint8]

COLOURS: Pixels = np.interp(DAVIS_PALETTE, (0, 64, 128, 192, 224), (50, 125, 210, 240, 255)).astype(
    np.uint8
)
"""(256, 3) uint8 RGB: the DAVIS palette, lightened to be visible on dark pictures."""

_PAPER, _INK, _FAINT = (24, 24, 28), (240, 240, 240), (150, 150, 158)
_GAP = 6
_FONT_SIZE = 13
_LINE = 18


@dataclass(frozen=True)
class ClipView:
    """A clip to be drawn.

    Attributes:
        caption: For instance its sample key.
        names: T frame names.
        frames: T frames (H,W,3) uint8 RGB.
        masks: T masks (H,W) uint8 of object ids; ``None`` for a frame without a mask.
        object_ids: The ids in the legend.
    """

    caption: str
    names: Sequence[str]
    frames: Sequence[Pixels]
    masks: Sequence[Pixels | None]
    object_ids: Sequence[int]


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


def fit(view: ClipView, height: int) -> ClipView:
    """Scale the frames (bilinear) and masks (nearest pixel) of a clip to a height in pixels."""

    def scaled(pixels: Pixels, method: Image.Resampling) -> Pixels:
        width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
        return np.asarray(Image.fromarray(pixels).resize((width, height), method))

    # Pillow's bilinear filter covers all pixels when it scales down.
    frames = [scaled(frame, Image.Resampling.BILINEAR) for frame in view.frames]
    masks = [None if m is None else scaled(m, Image.Resampling.NEAREST) for m in view.masks]
    return replace(view, frames=frames, masks=masks)


def strip(pictures: Sequence[Pixels], gap: int = _GAP) -> Pixels:
    """Put pictures side by side, aligned at the top, with ``gap`` dark pixels in between."""
    height = max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] for p in pictures) + gap * (len(pictures) - 1)
    out = np.full((height, width, 3), _PAPER, np.uint8)
    left = 0
    for picture in pictures:
        out[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return out


def contact_sheet(views: Sequence[ClipView], height: int = 180, columns: int = 6) -> Pixels:
    """Draw clips below each other: caption and legend, then the frames, each above its name.

    Args:
        views: Clips, at least one.
        height: Height of a frame on the sheet, pixels.
        columns: Frames per line; a longer clip continues on the next line.

    Returns:
        (H,W,3) uint8 RGB.
    """
    rows = []
    for view in views:
        fitted = fit(view, height)
        rows.append(_title(fitted))
        steps = range(len(view.frames))
        rows += [_line(fitted, steps[start : start + columns]) for start in steps[::columns]]
    return _stack(rows)


def animation(views: Sequence[ClipView], height: int = 160) -> list[Pixels]:
    """Draw clips side by side, one picture per time step; a shorter clip is repeated.

    Returns:
        (H,W,3) uint8 RGB pictures of one size, as many as the longest clip has frames.
    """
    fitted = [fit(view, height) for view in views]
    titles = [_title(view) for view in fitted]
    pictures = []
    for step in range(max(len(view.frames) for view in views)):
        lines = [_line(view, [step % len(view.frames)]) for view in fitted]
        cells = [_stack(pair) for pair in zip(titles, lines, strict=True)]
        pictures.append(strip(cells, gap=0))
    return pictures


def save_png(path: Path, picture: Pixels) -> None:
    """Write (H,W,3) uint8 as PNG; the file is complete or absent."""
    with whole_file(path) as file, writing(path):
        Image.fromarray(picture).save(file, "PNG")


def save_gif(path: Path, pictures: Sequence[Pixels], milliseconds: int = 120) -> None:
    """Write pictures of one size as an endless animated GIF.

    Args:
        path: Target; it is complete or absent.
        pictures: (H,W,3) uint8 RGB, at least one.
        milliseconds: Duration of each picture, rounded to steps of 10.
    """
    # One palette for all pictures; with one palette each, backgrounds would flicker.
    sample = np.concatenate([p[::4, ::4] for p in pictures])
    palette = Image.fromarray(np.ascontiguousarray(sample)).quantize(
        255, method=Image.Quantize.MEDIANCUT
    )
    images = [
        Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        for p in pictures
    ]
    rest = {"save_all": True, "append_images": images[1:]}
    with whole_file(path) as file, writing(path):
        images[0].save(file, "GIF", duration=milliseconds, loop=0, **rest)


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
        pen.text((column, row), str(number), fill="white", font=_font(size), anchor="mm",
                 stroke_width=max(1, size // 10), stroke_fill="black")  # fmt: skip
    return np.asarray(image)


def _title(view: ClipView) -> Pixels:
    """Draw the caption and the legend."""
    font, middle = _font(_FONT_SIZE), _LINE // 2 + 3
    texts = [str(number) for number in view.object_ids]
    left = _GAP + font.getlength(view.caption) + 14
    width = left + sum(28 + font.getlength(text) for text in texts)
    image = Image.new("RGB", (int(width), _LINE + _GAP), _PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((_GAP, middle), view.caption, fill=_INK, font=font, anchor="lm")
    for number, text in zip(view.object_ids, texts, strict=True):
        red, green, blue = (int(v) for v in COLOURS[number])
        pen.rectangle((left, middle - 5, left + 9, middle + 4), fill=(red, green, blue))
        pen.text((left + 13, middle), text, fill=_FAINT, font=font, anchor="lm")
        left += 28 + font.getlength(text)
    return np.asarray(image)


def _line(view: ClipView, steps: Sequence[int]) -> Pixels:
    """Draw some of the frames with their masks side by side, each above its name."""
    cells = [overlay(view.frames[i], view.masks[i]) for i in steps]
    pictures = strip(cells)
    height, width = pictures.shape[:2]
    image = Image.new("RGB", (width + 2 * _GAP, height + _LINE), _PAPER)
    image.paste(Image.fromarray(pictures), (_GAP, 0))
    pen = ImageDraw.Draw(image)
    left = _GAP
    for i, cell in zip(steps, cells, strict=True):
        text = view.names[i] if view.masks[i] is not None else f"{view.names[i]}, no mask"
        place = (left + cell.shape[1] / 2, height + _LINE / 2)
        pen.text(place, text, fill=_FAINT, font=_font(_FONT_SIZE - 2), anchor="mm")
        left += cell.shape[1] + _GAP
    return np.asarray(image)


def _stack(rows: Sequence[Pixels]) -> Pixels:
    """Put pictures below each other, aligned at the left."""
    return strip([row.swapaxes(0, 1) for row in rows], gap=0).swapaxes(0, 1)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
