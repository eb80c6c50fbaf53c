"""Pictures in character cells: how large they are, and the lines that show them.

A cell is about twice as high as it is wide. Half blocks show two pixels in it, digits one id.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.images.draw import COLOURS, contours, label_places, overlay, scale, strip
from stmtrain.images.encode import encode_frame, encode_picture
from stmtrain.images.masks import shrink_mask
from stmtrain.preview.protocol import Protocol, Tags, blocks, iterm2, kitty

Pixels = NDArray[np.uint8]

GAP = 1
"""Cells between two pictures."""

_CELL = (20, 10)  # (height, width) in pixels for which images are drawn; the terminal scales them
_JPEG_QUALITY = 90
_SYMBOLS = (".123456789" + string.ascii_lowercase + string.ascii_uppercase).ljust(255, "#") + "*"
"""The character of each object id in output without colours."""


class MaskStyle(StrEnum):
    """How masks are drawn."""

    FILLED = "filled"
    CONTOURS = "contours"
    OFF = "off"


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame with its mask: (H, W, 3) uint8 RGB, and (H, W) uint8 ids or ``None``."""

    frame: Pixels
    mask: Pixels | None


def symbol(object_id: int) -> str:
    """Return the character that stands for an object where there are no colours."""
    return _SYMBOLS[object_id]


def fit_cells(shapes: Sequence[tuple[int, ...]], columns: int, rows: int) -> list[tuple[int, int]]:
    """Return the (rows, columns) of pictures side by side, as large as fits, all equally high.

    Args:
        shapes: (height, width, ...) of each picture, pixels.
        columns: Most columns of all pictures and the gaps between them.
        rows: Most rows.
    """
    aspects = [2 * shape[1] / shape[0] for shape in shapes]
    room = columns - GAP * (len(shapes) - 1)
    high = max(1, min(rows, int(room / sum(aspects))))
    widest = max(1, room // len(shapes))
    wide = [max(1, round(high * aspect)) for aspect in aspects]
    if sum(wide) > room:  # by rounding, or because not even one row fits
        wide = [max(1, min(width, widest, int(high * aspect))) for width, aspect in
                zip(wide, aspects, strict=True)]  # fmt: skip
    return [(high, width) for width in wide]


def draw_cells(
    pictures: Sequence[Picture],
    sizes: Sequence[tuple[int, int]],
    protocol: Protocol,
    style: MaskStyle = MaskStyle.FILLED,
    number: int | None = None,
) -> list[str]:
    """Draw pictures side by side as lines for the terminal.

    An object id is written on each object, and an object too small for the cells keeps a mark.

    Args:
        pictures: At least one.
        sizes: (rows, columns) of each, as of :func:`fit_cells`.
        protocol: An image is in the first line; it covers the others, which are empty.
        style: How masks are drawn. Digits always show them, because they show nothing else.
        number: Of the image in kitty; it replaces the image of this number.

    Returns:
        As many lines as the highest picture has rows.
    """
    if protocol.is_image:
        return _image(pictures, sizes, protocol, style, number)
    cells = []
    for picture, size in zip(pictures, sizes, strict=True):
        if protocol == Protocol.DIGITS:
            cells.append(_digits(picture, size))
        else:
            cells.append(_blocks(picture, size, style, protocol == Protocol.BLOCKS_256))
    return [(" " * GAP).join(line) for line in zip(*cells, strict=True)]


def _digits(picture: Picture, size: tuple[int, int]) -> list[str]:
    if picture.mask is None:
        return [_SYMBOLS[0] * size[1]] * size[0]
    return ["".join(_SYMBOLS[i] for i in line) for line in shrink_mask(picture.mask, size).tolist()]


def _blocks(
    picture: Picture, size: tuple[int, int], style: MaskStyle, few_colours: bool
) -> list[str]:
    rows, columns = size
    mask = None if style is MaskStyle.OFF else picture.mask
    filled = mask if style is MaskStyle.FILLED else None
    drawn = Image.fromarray(overlay(picture.frame, filled, alpha=0.5, ids=False))
    pixels = np.array(drawn.resize((columns, 2 * rows), Image.Resampling.BOX))
    if mask is None:
        return blocks(pixels, {}, few_colours)
    small = shrink_mask(mask, (2 * rows, columns))
    if style is MaskStyle.CONTOURS:  # one pixel wide here, however large the frame is
        edge = contours(small, width=1)
        pixels[edge] = COLOURS[small[edge]]
    return blocks(pixels, _tags(small), few_colours)


def _tags(mask: Pixels) -> Tags:
    """Place the id of each object on it, in cells that no other id takes; (2R, W) mask.

    The smallest objects choose first. Where there is no room for all digits of an id, its symbol
    is written, and where there is no free cell, nothing.
    """
    rows, columns = len(mask) // 2, mask.shape[1]
    taken = np.zeros((rows, columns), bool)
    tags: dict[tuple[int, int], tuple[str, Pixels]] = {}
    counts = np.bincount(mask.reshape(-1), minlength=256)
    places = label_places(mask)
    for object_id in sorted(places, key=lambda number: counts[number]):
        y, x = places[object_id]
        for text in (str(object_id), symbol(object_id)):
            spot = _free(taken, y // 2, x - (len(text) - 1) // 2, len(text))
            if spot is not None:
                row, left = spot
                taken[row, left : left + len(text)] = True
                paper = COLOURS[object_id] // 2
                tags.update({(row, left + i): (digit, paper) for i, digit in enumerate(text)})
                break
    return tags


def _free(taken: NDArray[np.bool_], row: int, left: int, length: int) -> tuple[int, int] | None:
    """Return the free run of ``length`` cells in a row that begins nearest to (row, left)."""
    rows, columns = taken.shape
    if length > columns:
        return None
    runs = np.lib.stride_tricks.sliding_window_view(taken, length, axis=1).any(-1)
    if runs.all():
        return None
    far = 4 * (np.arange(rows)[:, None] - row) ** 2 + (np.arange(runs.shape[1]) - left) ** 2
    found = np.unravel_index(np.where(runs, far.max() + 1, far).argmin(), runs.shape)
    return int(found[0]), int(found[1])


def _image(
    pictures: Sequence[Picture],
    sizes: Sequence[tuple[int, int]],
    protocol: Protocol,
    style: MaskStyle,
    number: int | None,
) -> list[str]:
    """Draw one image of all pictures, never larger than the frames are."""
    shrink = min(
        1.0, *(p.frame.shape[0] / (s[0] * _CELL[0]) for p, s in zip(pictures, sizes, strict=True))
    )
    drawn = []
    for picture, (rows, columns) in zip(pictures, sizes, strict=True):
        size = max(1, round(rows * _CELL[0] * shrink)), max(1, round(columns * _CELL[1] * shrink))
        frame, mask = scale(picture.frame, picture.mask, size)
        alpha = 0.45 if style is MaskStyle.FILLED else 0.0
        drawn.append(overlay(frame, None if style is MaskStyle.OFF else mask, alpha))
    image = strip(drawn, gap=round(GAP * _CELL[1] * shrink))
    high, wide = sizes[0][0], sum(columns for _, columns in sizes) + GAP * (len(sizes) - 1)
    if protocol == Protocol.KITTY:
        code = kitty(encode_picture(image, level=1), wide, high, number)
    else:
        code = iterm2(encode_frame(image, _JPEG_QUALITY), wide, high)
    return [code] + [""] * (high - 1)
