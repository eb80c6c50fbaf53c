"""Playing clips: keys, screens, and the terminal that is given back as it was."""

import contextlib
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import replace
from fcntl import ioctl

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stmtrain.commands.console import SafeConsole
from stmtrain.images.draw import ClipView
from stmtrain.preview.cells import MaskStyle
from stmtrain.preview.clips import Lazy
from stmtrain.preview.keyboard import Keyboard
from stmtrain.preview.player import KEYS, State, play
from stmtrain.preview.protocol import Protocol
from stmtrain.preview.stills import print_stills
from tests.paths import ROOT

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def view(number: int, frames: int = 3) -> ClipView:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 5:20] = 1
    pictures = [np.full((20, 30, 3), 10 * t, np.uint8) for t in range(frames)]
    names = [f"f{number}-{t}" for t in range(frames)]
    return ClipView(f"clip{number}", names, pictures, [mask] * frames, [1], [f"from{number}"])


class Keys(Keyboard):
    """Keys that are pressed one after the other, each after some time; ``None`` is none."""

    def __init__(self, keys: Sequence[str | None]) -> None:
        super().__init__(-1)
        self._left = [*keys, "q"]

    def read(self, seconds: float) -> str | None:
        time.sleep(min(seconds, 0.01))
        return self._left.pop(0)


def played(keys: list[str], clips: int = 3, size: tuple[int, int] = (60, 20)) -> list[str]:
    """Play with some keys, and return the texts of the screens."""
    out = io.StringIO()
    console = Console(width=size[0], height=size[1], file=out, force_terminal=True)
    play([(view(i),) for i in range(clips)], console, Protocol.DIGITS, Keys(keys))
    screens = out.getvalue().split("\x1b[?2026h")[1:]
    return [CODES.sub("\n", screen) for screen in screens]


def test_keys_move_through_frames_and_clips() -> None:
    screens = played(["right", "right", "left", "n", "n", "n", "p"])
    texts = [s for s in screens if "loading" not in s]
    shown = [re.search(r"f(\d)-(\d)", text) for text in texts]
    assert [match.group() for match in shown if match] == [
        "f0-0", "f0-1", "f0-2", "f0-1", "f1-0", "f2-0", "f0-0", "f2-0",
    ]  # fmt: skip
    assert all(f"clip{m.group(1)}" in t for m, t in zip(shown, texts, strict=True) if m)
    assert "from0" in texts[0]
    assert "clip 1 of 3" in texts[0]
    assert "paused" in texts[1]
    assert "frame 2 of 3" in texts[1]


@pytest.mark.parametrize(
    ("protocol", "code"),
    [
        (Protocol.KITTY, r"\x1b_Ga=T,f=100,i=5461069,"),
        (Protocol.ITERM2, r"\x1b\]1337;File=inline=1;"),
    ],
)
def test_images_replace_each_other_and_are_removed(protocol: Protocol, code: str) -> None:
    out = io.StringIO()
    # In one process, rich writes a colour as it did first, whatever the console.
    console = Console(width=60, height=20, file=out, force_terminal=True, color_system="truecolor")
    play([(view(0),), (view(1),)], console, protocol, Keys(["right", "n"]))
    written = out.getvalue()
    places = re.findall(rf"\x1b\[(\d+);1H{code}", written)
    assert len(places) == 3
    assert len(set(places)) == 1
    row = int(places[0])
    screens = written.split("\x1b[?2026h")[1:]
    assert f"\x1b[{row};1H\x1b[K" not in written  # which would erase the picture
    assert [s.count("\x1b[2J") for s in screens if re.search(code, s)] == [1, 0, 1]
    assert written.endswith("\x1b_Ga=d,d=I,i=5461069,q=2\x1b\\\x1b[?2026l") == (
        protocol is Protocol.KITTY
    )


@pytest.mark.parametrize("size", [(120, 40), (60, 20), (25, 14)])
def test_keys_are_shown_and_everything_fits(size: tuple[int, int]) -> None:
    out = io.StringIO()
    console = Console(width=size[0], height=size[1], file=out, force_terminal=True)
    play([(view(0), view(1))], console, Protocol.DIGITS, Keys([]))
    written = out.getvalue().replace("\x1b[K", "")
    rows: dict[int, str] = {}
    for row, text in re.findall(r"\x1b\[(\d+);1H([^\x1b]*(?:\x1b\[[0-9;]*m[^\x1b]*)*)", written):
        rows[int(row)] = CODES.sub("", text)
    assert max(rows) <= size[1]
    assert max(map(len, rows.values())) <= size[0]
    everything = "\n".join(rows.values())
    for key, meaning in KEYS:
        assert f"{key} {meaning}" in everything
    assert "clip0" in everything
    assert "clip1" in everything


def test_states_follow_their_keys() -> None:
    state = State()
    paused = state.press(" ", 5, 3)
    assert paused == replace(state, playing=False)
    assert paused.press(" ", 5, 3) == state
    assert state.press("m", 5, 3).style is MaskStyle.OFF  # type: ignore[union-attr]
    assert state.press("c", 5, 3).style is MaskStyle.CONTOURS  # type: ignore[union-attr]
    assert state.press("c", 5, 3).press("c", 5, 3) == state  # type: ignore[union-attr]
    assert state.press("+", 5, 3).rate(3) > state.rate(3) > state.press("-", 5, 3).rate(3)  # type: ignore[union-attr]
    assert state.press("q", 5, 3) is None
    assert state.press("x", 5, 3) == state


@given(st.lists(st.sampled_from([*" .,npmc+-x", "left", "right", "up", "down"]), max_size=40))
def test_no_keys_leave_what_there_is(keys: list[str]) -> None:
    state: State | None = State()
    for key in keys:
        assert state is not None
        state = state.press(key, 3, 4)
        assert state is not None
        assert 0 <= state.clip < 3
        assert 0 <= state.frame < 4
        assert 0.1 < state.rate(4) < 30


def test_frames_change_by_themselves_until_paused() -> None:
    out = io.StringIO()
    console = Console(width=60, height=20, file=out, force_terminal=True)
    waited = [None] * 110  # a little more than one second
    play([(view(0, frames=20),)], console, Protocol.DIGITS, Keys(["+", "+", *waited]))
    frames = [int(number) for number in re.findall(r"f0-(\d+)", out.getvalue())]
    steps = list(dict.fromkeys(frames))
    assert steps == list(range(len(steps)))  # none is passed over, and the first is shown too
    assert len(steps) > 8
    paused = io.StringIO()
    console = Console(width=60, height=20, file=paused, force_terminal=True)
    play([(view(0, frames=20),)], console, Protocol.DIGITS, Keys([" ", *waited[:40]]))
    assert set(re.findall(r"f0-(\d+)", paused.getvalue())) == {"0"}


def test_clips_are_made_when_they_are_shown() -> None:
    made: list[int] = []

    def make(number: int) -> tuple[ClipView]:
        made.append(number)
        return (view(number),)

    console = Console(width=60, height=20, file=io.StringIO(), force_terminal=True)
    play(Lazy(10**6, make), console, Protocol.DIGITS, Keys(["n", "right", "p", "p"]))
    assert made == [0, 1, 10**6 - 1]


def test_foreign_text_does_not_control_the_terminal() -> None:
    evil = "x[/b]\x1b]0;PWN\x07\x1b[2J\u202e"
    out = io.StringIO()
    console = SafeConsole(width=60, height=20, file=out, force_terminal=True)
    clip = replace(view(0), caption=evil, about=[evil], names=[evil] * 3)
    play([(clip, replace(clip, caption=f"{evil} b"))], console, Protocol.DIGITS, Keys(["n"]))
    print_stills(clip, console, Protocol.DIGITS)
    assert "PWN" in out.getvalue()
    assert not re.search("\x1b\\]0|\x07|\u202e|PWN\x1b\\[2J", out.getvalue())


def test_keys_are_read_from_what_terminals_send() -> None:
    reader, writer = os.pipe()
    keys = Keyboard(reader)
    os.write(writer, b"n\x1b[C\x1bOD\x1b[1;5Aq\x1b[3~\xc3\xa4 \x1b")
    found = [keys.read(0) for _ in range(7)]
    assert found == ["n", "right", "left", "up", "q", " ", None]
    os.close(writer)
    assert keys.read(0) == "q"
    os.close(reader)


PLAY = """
import sys
from rich.console import Console
from tests.preview.test_player import view
from stmtrain.preview.show import show
show([(view(0),), (view(1),)], Console(), None)
print("over")
"""


@pytest.mark.parametrize(
    ("end", "code"), [(b"q", 0), (b"\x03", 0), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_terminal_is_given_back(end: bytes | int, code: int) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        os.execve(sys.executable, [sys.executable, "-c", PLAY], environ)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(terminal)
    output = until(terminal, b"clip0")
    time.sleep(0.1)
    os.write(terminal, b"n")
    output += until(terminal, b"clip1")
    if isinstance(end, bytes):
        os.write(terminal, end)
    else:
        os.kill(child, end)
    output += until(terminal, b"1049l")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert output.index(b"\x1b[?1049h") < output.index(b"clip0")
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")
    if code == 0:
        assert termios.tcgetattr(terminal)[3] == before[3]
    os.close(terminal)


def until(terminal: int, text: bytes) -> bytes:
    """Read what a program writes to its terminal, until it has written a text."""
    output, limit = b"", time.monotonic() + 60
    while text not in output and time.monotonic() < limit:
        if select.select([terminal], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):  # Linux reports the end in this way
                output += os.read(terminal, 1 << 16)
    assert text in output, output
    return output
