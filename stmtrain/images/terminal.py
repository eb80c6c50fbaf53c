"""Look at a shard set: clips in the terminal, as a contact sheet (PNG) or as an animation (GIF).

In come a shard set and which samples to show; out goes text with two pixels per character (upper
half blocks in 24-bit colour), or a picture file. Where the output has no colours or cannot show
half blocks, the masks are drawn with the digits of their object ids. No torch.
"""

import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.style import Style
from rich.text import Text

from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.draw import (
    COLOURS,
    ClipView,
    animation,
    contact_sheet,
    label_places,
    overlay,
    save_gif,
    save_png,
)
from stmtrain.shards.reader import ShardSet

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache

__all__ = ["choose_frames", "choose_samples", "preview", "read_view", "terminal"]

_HALF_BLOCK = "▀"
_NARROWEST, _WIDEST = 24, 48
"""Characters for a frame; a narrower terminal shows fewer frames in a row."""
_SYMBOLS = (".123456789" + string.ascii_lowercase + string.ascii_uppercase).ljust(255, "#") + "*"
"""The character of each object id where there are no colours."""
_STILL_FRAMES, _GIF_FRAMES = 6, 40


def preview(
    shards: Path | str,
    *,
    count: int = 4,
    frames: int | None = None,
    key: str | None = None,
    seed: int = 0,
    save: Path | None = None,
    console: Console | None = None,
    cache: "Cache | None" = None,
) -> list[str]:
    """Show clips of a shard set in the terminal, or save them as a picture.

    Args:
        shards: Folder or URL of the set.
        count: Number of samples, drawn by ``seed`` without repetition; >= 1.
        frames: Frames per sample, evenly spaced; 6 by default, and for a GIF up to 40.
        key: Show this sample instead.
        seed: Which samples are drawn.
        save: ``.png`` for a contact sheet or ``.gif`` for an animation, instead of the terminal.
        console: Where to print; standard output by default.
        cache: Where shards from a URL are kept; the user's cache by default.

    Returns:
        The sample keys shown.

    Raises:
        UsageError: Unknown key or file type, a count below 1, or ``save`` cannot be written.
        DataError: The set or a sample in it is damaged.
        RemoteError: The server does not answer, or refuses.
    """
    kind = _check_request(count, frames, save)
    animated = kind == ".gif"
    limit = frames or (_GIF_FRAMES if animated else _STILL_FRAMES)
    shard_set = ShardSet.open(shards, cache)
    views = [
        read_view(shard_set, index, limit, evenly=animated)
        for index in choose_samples(shard_set, count=count, key=key, seed=seed)
    ]
    console = console or Console()
    if save is None:
        for view in views:
            console.print(terminal(view, console))
    elif animated:
        save_gif(save, animation(views))
    else:
        save_png(save, contact_sheet(views))
    return [view.caption for view in views]


def choose_samples(shard_set: ShardSet, *, count: int, key: str | None, seed: int) -> list[int]:
    """Return the index of ``key``, or ``count`` indices drawn by ``seed``, ascending."""
    if not len(shard_set):
        raise ShardError(f"{shard_set.name}: the set holds no sample; check what it was made from")
    if key is not None:
        for index, known in enumerate(shard_set.keys()):
            if known == key:
                return [index]
        example = next(shard_set.keys())
        raise UsageError(f"{shard_set.name}: no sample {key!r}; keys look like {example!r}")
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(shard_set), size=min(count, len(shard_set)), replace=False)
    return sorted(int(i) for i in drawn)


def choose_frames(names: Sequence[str], limit: int, prefer: Sequence[str] = ()) -> list[str]:
    """Return at most ``limit`` names in their order, evenly spaced and from first to last.

    Args:
        names: All frame names.
        limit: Most names to return, >= 1.
        prefer: Names to take before any other, for instance those of frames with a mask.
    """
    taken = set(_evenly(prefer, limit))
    rest = [name for name in names if name not in set(prefer)]
    taken |= set(_evenly(rest, limit - len(taken)))
    return [name for name in names if name in taken]


def read_view(shard_set: ShardSet, index: int, limit: int, *, evenly: bool = False) -> ClipView:
    """Read and decode at most ``limit`` frames of a sample; only these are read from the shard.

    Args:
        shard_set: An open set.
        index: Sample index.
        limit: Most frames.
        evenly: Take them evenly spaced in time; otherwise frames with a mask are preferred.

    Raises:
        DataError: A frame or mask cannot be decoded, or a mask differs from its frame in size.
    """
    meta, where = shard_set.meta(index), shard_set.where(index)
    names = choose_frames(meta.frames, limit, () if evenly else meta.mask_frames)
    sample = shard_set.read(index, names, meta)
    frames = [decode_frame(sample.frames[n], f"{where}, frame {n}") for n in names]
    masks = [
        decode_mask(sample.masks[n], f"{where}, mask {n}") if n in sample.masks else None
        for n in names
    ]
    for name, frame, mask in zip(names, frames, masks, strict=True):
        if mask is not None and mask.shape != frame.shape[:2]:
            raise DataError(
                f"{where}: mask {name} is {mask.shape[1]}x{mask.shape[0]}, its frame "
                f'{frame.shape[1]}x{frame.shape[0]}; run "stm shards verify"'
            )
    return ClipView(meta.sample_key, names, frames, masks, meta.object_ids)


def terminal(view: ClipView, console: Console) -> RenderableType:
    """Draw a clip as text that fits the console: caption with legend, frames, frame names.

    With colours every character shows two pixels and the object ids stand on their objects. Where
    they cannot be shown (a pipe, ``NO_COLOR``, 16 colours, ASCII) the masks are drawn with their
    ids: ``1`` to ``9``, then letters, ``#`` beyond those, ``*`` for void.
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


def _evenly(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    places = np.linspace(0, len(names) - 1, limit).round().astype(int)
    return [names[i] for i in places]


def _check_request(count: int, frames: int | None, save: Path | None) -> str:
    """Refuse what cannot be shown; return the suffix of ``save``, or an empty string."""
    if count < 1 or (frames is not None and frames < 1):
        raise UsageError(f"expected at least one sample and one frame, found {count} and {frames}")
    kind = save.suffix.lower() if save is not None else ""
    if kind not in ("", ".png", ".gif") or (save is not None and not kind):
        raise UsageError(f"{save}: expected a name that ends in .png or .gif, found {kind!r}")
    return kind


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
    """Draw a frame with its mask as ``width`` half blocks a line; ids stand on the objects."""
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
    """Draw a mask with one symbol per character cell, as ``width`` characters a line."""
    rows = max(1, round(frame.shape[0] * width / frame.shape[1] / 2))
    image = Image.fromarray(np.zeros(frame.shape[:2], np.uint8) if mask is None else mask)
    small = np.asarray(image.resize((width, rows), Image.Resampling.NEAREST))
    return [Text("".join(_SYMBOLS[number] for number in line)) for line in small]


def _tags(
    mask: NDArray[np.uint8] | None, rows: int, width: int
) -> dict[tuple[int, int], tuple[str, Style]]:
    """Place the object ids on character cells: (row, column) to digit and style."""
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
