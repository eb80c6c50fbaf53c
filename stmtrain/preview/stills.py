"""Clips printed as still pictures: caption, provenance, legend, and the frames side by side."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from stmtrain.images.draw import ClipView
from stmtrain.preview.cells import Picture, draw_cells, fit_cells
from stmtrain.preview.clips import frame_name
from stmtrain.preview.labels import fill, legend, provenance, under
from stmtrain.preview.protocol import Protocol

_NARROWEST, _WIDEST = 24, 48
"""Width of a frame, characters; a narrower terminal shows fewer frames per line."""


def print_stills(view: ClipView, console: Console, protocol: Protocol) -> None:
    """Print a clip so that every line fits the console.

    Args:
        view: The clip.
        console: Prints all texts that are not ours.
        protocol: With digits, masks are drawn with their ids: ``1`` to ``9``, then letters, ``#``
            for higher ids, and ``*`` for void.
    """
    pictures = [Picture(*pair) for pair in zip(view.frames, view.masks, strict=True)]
    console.print(Text(view.caption, style="bold"), no_wrap=True, overflow="crop")
    if view.about:
        console.print(provenance(view.about))
    columns = console.width
    items = legend(view.object_ids, [picture.mask for picture in pictures], protocol)
    for text in fill(items, columns) if items else ():
        console.print(text, no_wrap=True, overflow="crop")
    lines = math.ceil(len(pictures) / max(1, (columns + 1) // (_NARROWEST + 1)))
    per_line = math.ceil(len(pictures) / lines)
    widest = min(columns, (_WIDEST + 1) * per_line - 1)
    for start in range(0, len(pictures), per_line):
        steps = range(start, min(start + per_line, len(pictures)))
        drawn = [pictures[t] for t in steps]
        width = widest * len(steps) // per_line
        sizes = fit_cells([picture.frame.shape for picture in drawn], width, width)
        _print_lines(draw_cells(drawn, sizes, protocol), console, protocol)
        names = [frame_name(view.names[t], pictures[t].mask) for t in steps]
        console.print(
            under(names, [columns for _, columns in sizes]), no_wrap=True, overflow="crop"
        )
    console.print()


def _print_lines(lines: Sequence[str], console: Console, protocol: Protocol) -> None:
    """Print what :func:`draw_cells` returned; the cursor goes below it."""
    if protocol.is_image:
        # The lines exist before the image is drawn, so that nothing scrolls while it is.
        high = len(lines)
        console.file.write("\n" * high + f"\x1b[{high}A\x1b7{lines[0]}\x1b8\x1b[{high}B")
    else:
        console.file.write("".join(f"{line}\n" for line in lines))
