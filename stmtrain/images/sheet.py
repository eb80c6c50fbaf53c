"""Pictures and films of whole clips: contact sheets, animations, and their files. Free of torch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from stmtrain.files import whole_file, write_whole, writing
from stmtrain.images.draw import (
    COLOURS,
    PAPER,
    ClipView,
    Pixels,
    area_texts,
    font,
    overlay,
    scale,
    strip,
)
from stmtrain.images.encode import encode_picture

_INK, _FAINT = (240, 240, 240), (150, 150, 158)
_GAP = 6
_FONT_SIZE = 13
_LINE = 18


def contact_sheet(views: Sequence[ClipView], height: int = 180, columns: int = 6) -> Pixels:
    """Draw clips below each other: where they come from, then the frames, each above its name.

    Args:
        views: Clips, at least one.
        height: Height of a frame on the sheet, pixels.
        columns: Frames per line; a longer clip continues on the next line.

    Returns:
        (H,W,3) uint8 RGB.
    """
    rows = []
    for view in views:
        pairs = list(zip(view.frames, view.masks, strict=True))
        areas = area_texts(view.object_ids, [mask for _, mask in pairs])
        named = [f"object {i}: {area}" for i, area in zip(view.object_ids, areas, strict=True)]
        fitted = _fit(replace(view, frames=[f for f, _ in pairs], masks=[m for _, m in pairs]),
                      height)  # fmt: skip
        steps = range(len(pairs))
        lines = [_line(fitted, steps[start : start + columns]) for start in steps[::columns]]
        rows += [_title(view), *_about(view.about, lines[0].shape[1]),
                 *_about(named, lines[0].shape[1]), *lines]  # fmt: skip
    return _stack(rows)


def animation(clips: Sequence[Sequence[ClipView]], height: int = 180) -> Iterator[Pixels]:
    """Draw the views of clips side by side, one picture per time step; shorter ones are repeated.

    Clips of one view are side by side too; otherwise each clip has a line of its own.

    Args:
        clips: At least one clip of at least one view.
        height: Height of a frame, pixels.

    Yields:
        (H,W,3) uint8 RGB pictures of one size, as many as the longest view has frames.
    """
    single = all(len(clip) == 1 for clip in clips)
    lines = [[view for clip in clips for view in clip]] if single else clips
    titles = [[_narrow_title(view, height) for view in line] for line in lines]
    for step in range(max(len(view.frames) for line in lines for view in line)):
        rows = []
        for line, above in zip(lines, titles, strict=True):
            high = max(len(title) for title in above)  # so that pictures are at one height
            cells = [
                _stack([_pad(title, high), _still(view, step, height)])
                for view, title in zip(line, above, strict=True)
            ]
            rows.append(strip(cells, gap=0))
        yield _stack(rows)


def save_png(path: Path, picture: Pixels) -> None:
    """Write (H,W,3) uint8 as PNG; the file is complete or absent."""
    write_whole(path, encode_picture(picture))


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


def _fit(view: ClipView, height: int) -> ClipView:
    """Scale the frames and masks of a clip to a height in pixels."""
    scaled = [
        scale(frame, mask, (height, max(1, round(frame.shape[1] * height / frame.shape[0]))))
        for frame, mask in zip(view.frames, view.masks, strict=True)
    ]
    frames, masks = zip(*scaled, strict=True)
    return replace(view, frames=frames, masks=masks)


def _still(view: ClipView, step: int, height: int) -> Pixels:
    """Draw one frame of a clip, above its name."""
    t = step % len(view.frames)
    one = replace(view, names=[view.names[t]], frames=[view.frames[t]], masks=[view.masks[t]])
    return _line(_fit(one, height), [0])


def _title(view: ClipView) -> Pixels:
    """Draw the caption and the legend next to it."""
    caption = _text(view.caption)
    legend = [_entry(number) for number in view.object_ids]
    return _pad(strip([caption, *legend], gap=0), _LINE + _GAP)


def _narrow_title(view: ClipView, height: int) -> Pixels:
    """Draw the caption, and the legend below it, no wider than a frame of this height is."""
    frame = view.frames[0]
    width = round(frame.shape[1] * height / frame.shape[0]) + 2 * _GAP
    lines = [[_text(view.caption)[:, :width]], []]
    for number in view.object_ids:
        entry = _entry(number)
        if lines[-1] and sum(p.shape[1] for p in (*lines[-1], entry)) > width:
            lines.append([])
        lines[-1].append(entry)
    return _stack([strip(line, gap=0) for line in lines if line])


def _text(text: str) -> Pixels:
    plain = font(_FONT_SIZE)
    image = Image.new("RGB", (int(plain.getlength(text)) + _GAP + 14, _LINE), PAPER)
    ImageDraw.Draw(image).text((_GAP, _LINE / 2), text, fill=_INK, font=plain, anchor="lm")
    return np.asarray(image)


def _entry(number: int) -> Pixels:
    """Draw an object's entry in a legend."""
    plain, middle = font(_FONT_SIZE), _LINE // 2
    image = Image.new("RGB", (int(28 + plain.getlength(str(number))), _LINE), PAPER)
    pen = ImageDraw.Draw(image)
    red, green, blue = (int(v) for v in COLOURS[number])
    pen.rectangle((_GAP, middle - 5, _GAP + 9, middle + 4), fill=(red, green, blue))
    pen.text((_GAP + 13, middle), str(number), fill=_FAINT, font=plain, anchor="lm")
    return np.asarray(image)


def _pad(picture: Pixels, height: int) -> Pixels:
    """Add lines at the bottom until a picture has this height."""
    rest = np.full((height - len(picture), picture.shape[1], 3), PAPER, np.uint8)
    return np.concatenate([picture, rest])


def _about(parts: Sequence[str], width: int) -> list[Pixels]:
    """Draw texts, separated by commas, in lines of at most ``width`` pixels where they can be."""
    small, lines = font(_FONT_SIZE - 2), [""]
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and small.getlength(longer) > width - 2 * _GAP:
            lines[-1] += ","
            lines.append(part)
        else:
            lines[-1] = longer
    drawn = []
    for line in filter(None, lines):
        image = Image.new("RGB", (int(small.getlength(line)) + 2 * _GAP, _LINE), PAPER)
        ImageDraw.Draw(image).text((_GAP, _LINE / 2), line, fill=_FAINT, font=small, anchor="lm")
        drawn.append(np.asarray(image))
    return drawn


def _line(view: ClipView, steps: Sequence[int]) -> Pixels:
    """Draw some of the frames with their masks side by side, each above its name."""
    cells = [overlay(view.frames[i], view.masks[i]) for i in steps]
    pictures = strip(cells)
    height, width = pictures.shape[:2]
    image = Image.new("RGB", (width + 2 * _GAP, height + _LINE), PAPER)
    image.paste(Image.fromarray(pictures), (_GAP, 0))
    pen = ImageDraw.Draw(image)
    left = _GAP
    for i, cell in zip(steps, cells, strict=True):
        text = view.names[i] if view.masks[i] is not None else f"{view.names[i]}, no mask"
        place = (left + cell.shape[1] / 2, height + _LINE / 2)
        pen.text(place, text, fill=_FAINT, font=font(_FONT_SIZE - 2), anchor="mm")
        left += cell.shape[1] + _GAP
    return np.asarray(image)


def _stack(rows: Sequence[Pixels]) -> Pixels:
    """Put pictures below each other, aligned at the left."""
    return strip([row.swapaxes(0, 1) for row in rows], gap=0).swapaxes(0, 1)
