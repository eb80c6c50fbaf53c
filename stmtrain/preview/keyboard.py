"""Single keys from a terminal, which is given back as it was found."""

import os
import re
import select
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, NoReturn

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # another screen, without cursor, empty
_LEAVE = "\x1b[?2026l\x1b[0m\x1b[2J\x1b[?25h\x1b[?1049l"
_ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}
_KEY = re.compile(rb"\x1b[\[O][0-9;]*([A-Za-z~])|\x1b|([\x20-\x7e])|.", re.DOTALL)


class Keyboard:
    """Keys that were pressed, in their order."""

    def __init__(self, descriptor: int) -> None:
        """Read from an open terminal that sends every key at once."""
        self._descriptor = descriptor
        self._waiting: list[str] = []

    def read(self, seconds: float) -> str | None:
        """Return the next key, or ``None`` if none is pressed in this time.

        A key is its character, or ``left``, ``right``, ``up``, ``down``; other keys are passed
        over. The end of the input is ``q``.
        """
        if not self._waiting and select.select([self._descriptor], [], [], seconds)[0]:
            data = os.read(self._descriptor, 1024)
            self._waiting = list(_keys(data)) if data else ["q"]
        return self._waiting.pop(0) if self._waiting else None


@contextmanager
def keyboard(screen: IO[str]) -> Iterator[Keyboard]:
    """Take over the terminal of standard input, and give it back whatever happens.

    Keys arrive at once and are not echoed. Ctrl-C interrupts as always; Ctrl-Z is off, because it
    would leave a shell without cursor.

    Args:
        screen: Where pictures are written; it gets a screen of its own.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    now = termios.tcgetattr(descriptor)
    now[3] &= ~(termios.ICANON | termios.ECHO)
    now[6][termios.VSUSP] = b"\x00"
    handler = signal.signal(signal.SIGTERM, _end)
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, now)
        screen.write(_ENTER)
        yield Keyboard(descriptor)
    finally:
        screen.write(_LEAVE)
        screen.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, handler)


def can_play(screen: IO[str]) -> bool:
    """Return whether keys can be read and pictures replaced: both ends are a terminal."""
    return sys.stdin.isatty() and screen.isatty()


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _keys(data: bytes) -> Iterator[str]:
    for match in _KEY.finditer(data):
        end, character = match.groups()
        if character:
            yield character.decode()
        elif end and end.decode() in _ARROWS:
            yield _ARROWS[end.decode()]
