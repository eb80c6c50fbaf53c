"""How a terminal shows a picture: which protocols there are, which is chosen, and their bytes.

The choice follows environment variables alone. The terminal is never asked, because a program that
waits for the answer hangs where none comes, and the answer of a slow line is read as keys.
"""

import base64
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stmtrain.errors import UsageError

Pixels = NDArray[np.uint8]

_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_ITERM2_PROGRAMS = ("iTerm.app", "WezTerm", "mintty")
_CHUNK = 4096  # most characters of one escape code, by the definition of kitty's protocol
_LEVELS = np.array([0, 95, 135, 175, 215, 255])  # of red, green and blue in the 6x6x6 cube
_HALF_BLOCK = "▀"
_RESET = "\x1b[0m"


class Protocol(StrEnum):
    """How pictures are sent to the terminal."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    BLOCKS = "blocks"
    BLOCKS_256 = "blocks256"
    DIGITS = "digits"

    @property
    def is_image(self) -> bool:
        """Whether the terminal receives an image instead of characters."""
        return self in (Protocol.KITTY, Protocol.ITERM2)


def parse_protocol(text: str | None) -> Protocol | None:
    """Return the protocol of a name.

    Raises:
        UsageError: There is no protocol of this name.
    """
    if text is not None and text not in list(Protocol):
        raise UsageError(f"--protocol: expected one of {', '.join(Protocol)}, found {text!r}")
    return None if text is None else Protocol(text)


def choose_protocol(
    console: Console, environ: Mapping[str, str], asked: Protocol | None = None
) -> Protocol:
    """Return the protocol with which the terminal shows the best picture.

    Images inside tmux and screen would need to pass through to a terminal that knows nothing of
    panes, so half blocks are used there: they work in every pane, over any connection.

    Args:
        console: Standard output.
        environ: Environment variables.
        asked: The user's choice; ``None`` decides by ``TERM``, ``TERM_PROGRAM`` and ``COLORTERM``.

    Raises:
        UsageError: Images were asked for where they cannot be shown.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    inside = "TMUX" in environ or "STY" in environ or term.startswith(("tmux", "screen"))
    if asked is not None:
        if asked.is_image and inside:
            raise UsageError(
                f"--protocol {asked}: tmux and screen show no images; omit it for half blocks, or "
                "run the command outside"
            )
        return asked
    if not console.is_terminal or console.no_color or console.options.ascii_only:
        return Protocol.DIGITS
    if not inside and term in _KITTY_TERMS:
        return Protocol.KITTY
    if not inside and (
        program in _ITERM2_PROGRAMS or environ.get("LC_TERMINAL") == "iTerm2"  # passes through ssh
    ):
        return Protocol.ITERM2
    if console.color_system == "truecolor":
        # screen, unlike tmux, does not know true colours, but hands COLORTERM down.
        return Protocol.BLOCKS_256 if "STY" in environ else Protocol.BLOCKS
    return Protocol.BLOCKS_256 if console.color_system == "256" else Protocol.DIGITS


def kitty(png: bytes, columns: int, rows: int, number: int | None = None) -> str:
    """Return the escape codes that show an image in kitty and ghostty; the cursor stays.

    Args:
        png: The image, a PNG file.
        columns: Width in character cells.
        rows: Height in character cells.
        number: Of the image, > 0; it replaces the image of this number. ``None`` replaces none.
    """
    data = base64.b64encode(png).decode()
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    name = "" if number is None else f"i={number},p=1,"
    keys = f"a=T,f=100,{name}c={columns},r={rows},C=1,q=2,"
    parts = []
    for place, chunk in enumerate(chunks, 1):
        parts.append(f"\x1b_G{keys}m={int(place < len(chunks))};{chunk}\x1b\\")
        keys = ""
    return "".join(parts)


def kitty_delete(number: int) -> str:
    """Return the escape code that removes an image from kitty's screen and memory."""
    return f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"


def iterm2(image: bytes, columns: int, rows: int) -> str:
    """Return the escape code that shows an image in iTerm2, WezTerm and mintty.

    Args:
        image: A JPEG or PNG file.
        columns: Width in character cells.
        rows: Height in character cells.
    """
    keys = f"inline=1;size={len(image)};width={columns};height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={keys}:{base64.b64encode(image).decode()}\x07"


Tags = Mapping[tuple[int, int], tuple[str, Pixels]]
"""By cell (row, column), a character and the colour (3,) uint8 behind it."""


def blocks(pixels: Pixels, tags: Tags, few_colours: bool) -> list[str]:
    """Return lines of half blocks: each character shows an upper and a lower pixel.

    Args:
        pixels: (2R, W, 3) uint8 RGB.
        tags: Characters that are written in white over the picture.
        few_colours: Use the 256 colours of xterm instead of 24 bits.

    Returns:
        R lines of W characters, each of which ends with the colours reset.
    """
    name = _names_256(pixels) if few_colours else _names(pixels)
    white = "5;231" if few_colours else "2;255;255;255"
    lines = []
    for row in range(len(pixels) // 2):
        cells = [
            (f"38;{upper};48;{lower}", _HALF_BLOCK)
            for upper, lower in zip(name[2 * row], name[2 * row + 1], strict=True)
        ]
        for (place, column), (character, paper) in tags.items():
            if place == row:
                colour = paper.reshape(1, 1, 3)
                (behind,) = (_names_256(colour) if few_colours else _names(colour))[0]
                cells[column] = (f"38;{white};48;{behind}", character)
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[tuple[str, str]]) -> str:
    """Join cells of (colours, character); colours are sent only where they change."""
    parts = [f"\x1b[{cells[0][0]}m{cells[0][1]}"]
    for (before, _), (colours, character) in pairwise(cells):
        change = "" if colours == before else f"\x1b[{colours}m"
        parts.append(change + character)
    return "".join(parts) + _RESET


def _names(pixels: Pixels) -> list[list[str]]:
    return [[f"2;{r};{g};{b}" for r, g, b in row] for row in pixels.tolist()]


def _names_256(pixels: Pixels) -> list[list[str]]:
    return [[f"5;{number}" for number in row] for row in nearest_256(pixels).tolist()]


def nearest_256(pixels: Pixels) -> Pixels:
    """Return the nearest of xterm's colours 16..255 for (H, W, 3) RGB: its cube, or its greys."""
    values = pixels.astype(np.int64)
    steps = np.abs(values[..., None] - _LEVELS).argmin(-1)  # H W 3
    grey = np.clip((values.mean(-1) - 3) // 10, 0, 23).astype(np.int64)
    miss = [((values - near) ** 2).sum(-1) for near in (_LEVELS[steps], (8 + 10 * grey)[..., None])]
    cube = 16 + steps @ np.array([36, 6, 1])
    return np.where(miss[1] < miss[0], 232 + grey, cube).astype(np.uint8)
