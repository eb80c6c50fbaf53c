"""Clips as text: half blocks in colours, symbols without colours, and lines that fit."""

import io

import numpy as np
import pytest
from rich.console import Console

from stmdata.drawn.scenes import draw_video
from stmtrain.images.draw import COLOURS, ClipView
from stmtrain.images.terminal import terminal


def drawn_view():
    """Six frames of a drawn video whose objects have the ids 1 and 12."""
    frames, slots = draw_video(np.random.default_rng(0), frames=6, size=(48, 64), objects=2)
    masks = np.array([0, 1, 12], np.uint8)[slots]
    names = [f"{t:05d}" for t in range(6)]
    return ClipView("clip-0", names, list(frames), list(masks), (1, 12))


def colour_console(width=80, **options):
    options = {"force_terminal": True, "color_system": "truecolor"} | options
    return Console(width=width, file=io.StringIO(), **options)


def plain_console(width=80):
    return Console(width=width, file=io.StringIO(), color_system=None)


def test_the_caption_frame_names_and_ids_are_shown_in_their_colours():
    console = colour_console(100)
    console.print(terminal(drawn_view(), console))
    out = console.file.getvalue()
    for word in ("clip-0", "00000", "00005", "▀", "■"):
        assert word in out
    for number in (1, 12):
        red, green, blue = COLOURS[number]
        assert f"38;2;{red};{green};{blue}m■" in out
        red, green, blue = COLOURS[number] // 2
        for digit in str(number):
            assert f"[1;38;2;255;255;255;48;2;{red};{green};{blue}m{digit}" in out


def test_a_character_shows_the_upper_and_the_lower_of_two_pixels():
    red, blue = (250, 0, 0), (0, 0, 250)
    frame = np.zeros((48, 48, 3), np.uint8)
    frame[::2], frame[1::2] = red, blue
    console = colour_console(48)
    view = ClipView("two", ["0"], [frame], [None], [])
    lines = console.render_lines(terminal(view, console), pad=False)
    pixels = [segment for line in lines for segment in line if "▀" in segment.text]
    assert sum(len(segment.text) for segment in pixels) == 24 * 48
    assert {tuple(segment.style.color.triplet) for segment in pixels} == {red}
    assert {tuple(segment.style.bgcolor.triplet) for segment in pixels} == {blue}


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 133, 400])
@pytest.mark.parametrize("make", [colour_console, plain_console])
def test_every_line_fits_the_terminal(width, make):
    console = make(width)
    view = drawn_view()
    lines = console.render_lines(terminal(view, console), pad=False)
    lengths = [sum(segment.cell_length for segment in line) for line in lines]
    assert max(lengths) <= width
    assert max(lengths) > min(width, 200) // 2
    pictures = [line for line in ("".join(s.text for s in line) for line in lines) if "..." in line]
    assert len({len(part) for line in pictures for part in line.split()}) <= 1


@pytest.mark.parametrize(
    "console",
    [
        plain_console(),
        colour_console(no_color=True),
        colour_console(color_system="standard"),
        Console(width=80, file=io.TextIOWrapper(io.BytesIO(), "ascii"), force_terminal=True),
    ],
    ids=["pipe", "NO_COLOR", "16 colours", "ascii"],
)
def test_without_colours_masks_are_drawn_with_symbols(console):
    console.print(terminal(drawn_view(), console))
    file = console.file
    file.flush()
    out = file.getvalue() if isinstance(file, io.StringIO) else file.buffer.getvalue().decode()
    assert "▀" not in out
    for word in ("[1]", "[c=12]", "11111", "ccccc", ".....", "00005"):
        assert word in out
