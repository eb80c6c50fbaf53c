"""The texts around pictures in a terminal: captions, legends and names, in one line each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style
from rich.text import Text

from stmtrain.images.draw import COLOURS, area_texts
from stmtrain.preview.cells import GAP, symbol
from stmtrain.preview.protocol import Protocol


def legend(
    object_ids: Sequence[int], masks: Sequence[NDArray[np.uint8] | None], protocol: Protocol
) -> list[Text]:
    """Name objects in their colours or symbols, with their areas in these masks."""
    items = []
    for number, area in zip(object_ids, area_texts(object_ids, masks), strict=True):
        if protocol is Protocol.DIGITS:
            name = Text(f"[{number}]" if number < 10 else f"[{symbol(number)}={number}]")
        else:
            red, green, blue = (int(value) for value in COLOURS[number])
            name = Text.assemble(("■ ", Style(color=Color.from_rgb(red, green, blue))), str(number))
        items.append(name.append(f" {area}", "dim"))
    return items


def fill(items: Sequence[Text], width: int) -> list[Text]:
    """Put short texts into lines of at most ``width`` columns; none is divided."""
    lines = [Text()]
    for item in items:
        if lines[-1] and lines[-1].cell_len + 2 + item.cell_len > width:
            lines.append(Text())
        lines[-1].append("  " if lines[-1] else "").append(item)
    return lines


def provenance(about: Sequence[str]) -> Text:
    """Say in parts where a clip comes from; longer than a line, it is to be wrapped."""
    return Text(", ".join(about), style="dim")


def under(texts: Sequence[str], widths: Sequence[int], style: str = "dim") -> Text:
    """Centre each text under a picture of so many columns."""
    cells = [f"{text[:width]:^{width}}" for text, width in zip(texts, widths, strict=True)]
    return Text((" " * GAP).join(cells).rstrip(), style=style)
