"""Draw a clip as text: two pixels per character, or digits where there are no colours.

Upper half blocks in 24-bit colour show two pixels each. If the output has no colours or no half
blocks, masks are drawn with the digits of their object ids.
"""

import math
import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.text import Text

from stmtrain.images.draw import COLOURS, ClipView, label_places, overlay

_HALF_BLOCK = "▀"
_NARROWEST, _WIDEST = 24, 48
"""Width of a frame, characters; a narrower terminal shows fewer frames per line."""
_SYMBOLS = (".123456789" + string.ascii_lowercase + string.ascii_uppercase).ljust(255, "#") + "*"
"""The character of each object id in output without colours."""


def terminal(view: ClipView, console: Console) -> RenderableType:
    """Draw a clip as text that fits the console: caption with legend, frames, frame names.

    With colours, every character shows two pixels, and object ids are written on their objects.
    Without (a pipe, ``NO_COLOR``, 16 colours, ASCII), masks are drawn with their ids: ``1`` to
    ``9``, then letters, ``#`` for higher ids, and ``*`` for void.
    """
    colour = _shows_colour(console)
    rows = math.ceil(len(view.frames) / max(1, (console.width + 1) // (_NARROWEST + 1)))
    per_row = math.ceil(len(view.frames) / rows)
    width = max(1, min(_WIDEST, (console.width - per_row + 1) // per_row))
    lines: list[Text] = [_legend(view, colour)]
    for start in range(0, len(view.frames), per_row):
        part = slice(start, start + per_row)
        cells = [
            _colour_cell(f, m, width) if colour else _plain_cell(f, m, width)
            for f, m in zip(view.frames[part], view.masks[part], strict=True)
        ]
        lines += [Text(" ").join(row) for row in zip(*cells, strict=True)]
        lines.append(_names(view.names[part], view.masks[part], width))
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    return Group(*lines, Text())


def _shows_colour(console: Console) -> bool:
    rich_enough = console.color_system in ("256", "truecolor")
    return rich_enough and not console.no_color and not console.options.ascii_only


def _legend(view: ClipView, colour: bool) -> Text:
    line = Text(view.caption, style="bold")
    for number in view.object_ids:
        line.append("  ")
        if colour:
            line.append("■ ", _style(COLOURS[number]))
            line.append(str(number), "not bold")
        else:
            symbol = _SYMBOLS[number]
            line.append(f"[{number}]" if number < 10 else f"[{symbol}={number}]", "not bold")
    return line


def _names(names: Sequence[str], masks: Sequence[NDArray[np.uint8] | None], width: int) -> Text:
    texts = [n if m is not None else f"{n} no mask" for n, m in zip(names, masks, strict=True)]
    return Text(" ".join(f"{text[:width]:^{width}}" for text in texts).rstrip(), style="dim")


def _colour_cell(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None, width: int
) -> list[Text]:
    """Draw a frame with its mask as ``width`` half blocks per line, with ids on the objects."""
    rows = max(1, round(frame.shape[0] * width / frame.shape[1] / 2))
    picture = Image.fromarray(overlay(frame, mask, alpha=0.5, ids=False))
    pixels = np.asarray(picture.resize((width, 2 * rows), Image.Resampling.BOX))
    tags = _tags(mask, rows, width)
    lines = []
    for row in range(rows):
        line = Text()
        for column in range(width):
            upper, lower = pixels[2 * row, column], pixels[2 * row + 1, column]
            if (row, column) in tags:
                line.append(*tags[row, column])
            else:
                line.append(_HALF_BLOCK, _style(upper, lower))
        lines.append(line)
    return lines


def _plain_cell(frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None, width: int) -> list[Text]:
    """Draw a mask with one symbol per character cell, ``width`` characters per line."""
    rows = max(1, round(frame.shape[0] * width / frame.shape[1] / 2))
    image = Image.fromarray(np.zeros(frame.shape[:2], np.uint8) if mask is None else mask)
    small = np.asarray(image.resize((width, rows), Image.Resampling.NEAREST))
    return [Text("".join(_SYMBOLS[number] for number in line)) for line in small]


def _tags(
    mask: NDArray[np.uint8] | None, rows: int, width: int
) -> dict[tuple[int, int], tuple[str, Style]]:
    """Map character cells (row, column) to the digits of object ids and their style."""
    tags: dict[tuple[int, int], tuple[str, Style]] = {}
    if mask is None:
        return tags
    for number, (y, x) in label_places(mask).items():
        text = str(number)
        style = _style((255, 255, 255), COLOURS[number] // 2, bold=True)
        row, column = y * rows // mask.shape[0], x * width // mask.shape[1]
        left = max(0, min(column - (len(text) - 1) // 2, width - len(text)))
        tags.update({(row, left + i): (digit, style) for i, digit in enumerate(text)})
    return tags


def _style(
    ink: Sequence[int] | NDArray[np.uint8],
    paper: NDArray[np.uint8] | None = None,
    bold: bool | None = None,
) -> Style:
    background = None if paper is None else Color.from_rgb(*(int(v) for v in paper))
    return Style(color=Color.from_rgb(*(int(v) for v in ink)), bgcolor=background, bold=bold)
