"""What is sent to each kind of terminal, to the byte, and when it is chosen."""

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from stmtrain.errors import UsageError
from stmtrain.preview.protocol import (
    Protocol,
    blocks,
    choose_protocol,
    iterm2,
    kitty,
    kitty_delete,
    nearest_256,
    parse_protocol,
)

PIXELS = np.array(
    [[[255, 0, 0], [255, 0, 0], [1, 2, 3]], [[0, 0, 255], [0, 0, 255], [200, 200, 200]]], np.uint8
)
TAG = {(0, 2): ("7", np.array([0, 95, 0], np.uint8))}


def test_half_blocks_in_true_colour() -> None:
    assert blocks(PIXELS, {}, few_colours=False) == [
        "\x1b[38;2;255;0;0;48;2;0;0;255m▀▀\x1b[38;2;1;2;3;48;2;200;200;200m▀\x1b[0m"
    ]
    assert blocks(PIXELS, TAG, few_colours=False) == [
        "\x1b[38;2;255;0;0;48;2;0;0;255m▀▀\x1b[38;2;255;255;255;48;2;0;95;0m7\x1b[0m"
    ]


def test_half_blocks_in_256_colours() -> None:
    assert blocks(PIXELS, {}, few_colours=True) == [
        "\x1b[38;5;196;48;5;21m▀▀\x1b[38;5;16;48;5;251m▀\x1b[0m"
    ]
    assert blocks(PIXELS, TAG, few_colours=True) == [
        "\x1b[38;5;196;48;5;21m▀▀\x1b[38;5;231;48;5;22m7\x1b[0m"
    ]


def test_kitty() -> None:
    assert kitty(b"PNG", 20, 10, 7) == ("\x1b_Ga=T,f=100,i=7,p=1,c=20,r=10,C=1,q=2,m=0;UE5H\x1b\\")
    assert kitty(b"PNG", 20, 10) == "\x1b_Ga=T,f=100,c=20,r=10,C=1,q=2,m=0;UE5H\x1b\\"
    assert kitty_delete(7) == "\x1b_Ga=d,d=I,i=7,q=2\x1b\\"


@pytest.mark.parametrize("size", [3072, 3073, 9000])
def test_kitty_receives_large_images_in_parts(size: int) -> None:
    data = bytes(range(256)) * 40
    codes = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(data[:size], 20, 10))
    assert base64.b64decode("".join(payload for _, payload in codes)) == data[:size]
    assert all(len(payload) <= 4096 for _, payload in codes)
    assert [keys[-3:] for keys, _ in codes] == [*["m=1"] * (len(codes) - 1), "m=0"][-len(codes) :]
    assert [keys for keys, _ in codes[1:-1]] == ["m=1"] * (len(codes) - 2)


def test_iterm2() -> None:
    assert iterm2(b"JPEG", 20, 10) == (
        "\x1b]1337;File=inline=1;size=4;width=20;height=10;preserveAspectRatio=1:SlBFRw==\x07"
    )


def xterm(number: int) -> tuple[int, ...]:
    """Return the colour of xterm's numbers 16..255, as its documentation defines them."""
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    return tuple(levels[(number - 16) // step % 6] for step in (36, 6, 1))


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_the_nearest_of_256_colours_is_taken(colour: tuple[int, ...]) -> None:
    found = xterm(int(nearest_256(np.array([[colour]], np.uint8))[0, 0]))

    def far(other: tuple[int, ...]) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, other, strict=True))

    assert far(found) == min(far(xterm(number)) for number in range(16, 256))


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), **{"force_terminal": True, "color_system": "256"} | options)  # type: ignore[arg-type]


TRUE = {"color_system": "truecolor"}


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        ({"TERM": "xterm-kitty"}, TRUE, "kitty"),
        ({"TERM": "xterm-ghostty"}, TRUE, "kitty"),
        ({"TERM": "xterm-kitty"}, {}, "kitty"),  # by ssh, which passes TERM alone
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, TRUE, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, {}, "iterm2"),  # by ssh
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, TRUE, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, {}, "blocks256"),
        ({"TERM": "xterm-256color"}, TRUE, "blocks"),
        ({"TERM": "xterm-256color"}, {}, "blocks256"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "TMUX": "/tmp/1"}, TRUE, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/1"}, TRUE, "blocks"),
        ({"TERM": "screen-256color", "LC_TERMINAL": "iTerm2"}, {}, "blocks256"),
        ({"TERM": "screen-256color", "STY": "1.a"}, TRUE, "blocks256"),
        ({"TERM": "xterm"}, {"color_system": "standard"}, "digits"),
        ({"TERM": "xterm-kitty"}, {"no_color": True}, "digits"),
        ({"TERM": "xterm-kitty"}, {"force_terminal": False}, "digits"),
    ],
)
def test_the_environment_decides(
    environ: dict[str, str], options: dict[str, object], expected: str
) -> None:
    assert choose_protocol(console(**options), environ) == expected


def test_a_terminal_without_unicode_gets_digits() -> None:
    ascii_only = Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), force_terminal=True)
    assert choose_protocol(ascii_only, {"TERM": "xterm-kitty"}) == "digits"


def test_the_user_decides() -> None:
    pipe = console(force_terminal=False)
    for protocol in Protocol:
        assert choose_protocol(pipe, {"TERM": "xterm"}, parse_protocol(protocol.value)) == protocol
    assert parse_protocol(None) is None
    with pytest.raises(UsageError, match=r"--protocol: expected .*kitty.* found 'sixel'"):
        parse_protocol("sixel")
    for environ in ({"TMUX": "/tmp/1"}, {"TERM": "screen"}):
        assert choose_protocol(pipe, environ, Protocol.BLOCKS) == "blocks"
        with pytest.raises(UsageError, match="kitty: tmux and screen show no images"):
            choose_protocol(pipe, environ, Protocol.KITTY)


def test_images_can_be_decoded_again() -> None:
    from stmtrain.preview.cells import Picture, draw_cells

    frame = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    for protocol, kind in ((Protocol.KITTY, "PNG"), (Protocol.ITERM2, "JPEG")):
        lines = draw_cells([Picture(frame, None)] * 2, [(2, 8)] * 2, protocol)
        assert lines[1:] == [""]
        separator = ":" if kind == "JPEG" else ";"
        payload = lines[0].split(separator, 1)[1].split("\x07" if kind == "JPEG" else "\x1b")[0]
        with Image.open(io.BytesIO(base64.b64decode(payload.rpartition(":")[2]))) as image:
            assert image.format == kind
            assert image.size == (8 * 10 * 2 + 10, 40)
