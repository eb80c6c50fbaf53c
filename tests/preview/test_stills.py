"""Clips printed as still pictures: what is stated about them, and lines that fit."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from stmdata.drawn.scenes import draw_video
from stmtrain.images.draw import COLOURS, ClipView
from stmtrain.preview.protocol import Protocol
from stmtrain.preview.stills import print_stills

TEXT = (Protocol.BLOCKS, Protocol.BLOCKS_256, Protocol.DIGITS)


def drawn_view() -> ClipView:
    """Six frames of a drawn video whose objects have the ids 1 and 12."""
    frames, slots = draw_video(np.random.default_rng(0), frames=6, size=(48, 64), objects=2)
    masks = np.array([0, 1, 12], np.uint8)[slots]
    names = [f"{t:05d}" for t in range(6)]
    return ClipView("clip-0", names, list(frames), list(masks), (1, 12), ("set/a.tar", "video b"))


def printed(protocol: Protocol, width: int = 80, colours: str | None = "truecolor") -> str:
    out = io.StringIO()
    console = Console(
        width=width, file=out, force_terminal=colours is not None, color_system=colours  # type: ignore[arg-type]
    )  # fmt: skip
    print_stills(drawn_view(), console, protocol)
    return out.getvalue()


def test_caption_provenance_frame_names_and_objects_are_shown_in_their_colours() -> None:
    out = printed(Protocol.BLOCKS, 100)
    for word in ("clip-0", "set/a.tar, video b", "00000", "00005", "▀", "■"):
        assert word in out
    assert re.search(r"1\S* \d+ to \d+ px", out)
    for number in (1, 12):
        red, green, blue = COLOURS[number]
        assert f"38;2;{red};{green};{blue}m■" in out
        red, green, blue = COLOURS[number] // 2
        assert f"48;2;{red};{green};{blue}m{str(number)[0]}" in out


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 133, 400])
@pytest.mark.parametrize("protocol", TEXT)
def test_every_line_fits_the_terminal(width: int, protocol: Protocol) -> None:
    colours = None if protocol is Protocol.DIGITS else "truecolor"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed(protocol, width, colours)).splitlines()
    assert max(map(len, lines)) <= width
    assert max(map(len, lines)) > min(width, 200) // 2
    mark = "..." if protocol is Protocol.DIGITS else "▀▀▀"
    pictures = [line.split(" ") for line in lines if mark in line]
    assert len({len(part) for line in pictures for part in line}) <= 1


def test_without_colours_masks_are_drawn_with_symbols() -> None:
    out = printed(Protocol.DIGITS, colours=None)
    assert "▀" not in out
    assert "\x1b" not in out
    for word in ("[1]", "[c=12]", "11111", "ccccc", ".....", "00005"):
        assert word in out


@pytest.mark.parametrize("protocol", [Protocol.KITTY, Protocol.ITERM2])
def test_images_are_printed_over_empty_lines(protocol: Protocol) -> None:
    out = printed(protocol, 100)
    codes = re.findall(r"(\n+)\x1b\[(\d+)A\x1b7(\x1b[_\]].*?)\x1b8\x1b\[(\d+)B", out)
    assert len(codes) == 2  # lines of three frames
    for empty, up, code, down in codes:
        assert len(empty) == 1 + int(up) == 1 + int(down)
        assert f"r={up}," in code or f"height={up};" in code
