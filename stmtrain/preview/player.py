"""Play clips in a terminal: pictures, texts and keys."""

import time
from dataclasses import dataclass, replace
from functools import lru_cache

from rich.console import Console
from rich.text import Text

from stmtrain.preview.cells import MaskStyle, Picture, draw_cells, fit_cells
from stmtrain.preview.clips import Clips, captions, frame_name, pace, steps_of
from stmtrain.preview.keyboard import Keyboard
from stmtrain.preview.labels import fill, legend, provenance, under
from stmtrain.preview.protocol import Protocol, kitty_delete

_POLL = 0.25  # seconds between two looks at the size of the terminal
_STYLES = {"m": MaskStyle.OFF, "c": MaskStyle.CONTOURS}
_KEPT = 64  # drawn frames in memory, up to 1 MB each
_LEGEND = 2  # most lines of the legend of a view
_NUMBER = 0x53544D  # of the image in kitty

KEYS = (
    ("space", "pause"),
    ("← →", "step"),
    ("n p", "next, previous clip"),
    ("m", "masks"),
    ("c", "contours"),
    ("- +", "slower, faster"),
    ("q", "quit"),
)
"""The keys, as they are shown."""


@dataclass(frozen=True)
class State:
    """What is on the screen: which clip and frame, and how."""

    clip: int = 0
    frame: int = 0
    playing: bool = True
    speed: float = 1.0
    style: MaskStyle = MaskStyle.FILLED

    def press(self, key: str, clips: int, frames: int) -> "State | None":
        """Return the state after a key, or ``None`` to quit; other keys change nothing.

        Args:
            key: A character, or ``left``, ``right``, ``up``, ``down``.
            clips: Number of clips.
            frames: Number of frames of this clip.
        """
        match key:
            case "q" | "Q":
                return None
            case " ":
                return replace(self, playing=not self.playing)
            case "right" | "." | "left" | ",":
                by = 1 if key in ("right", ".") else -1
                return replace(self, playing=False, frame=(self.frame + by) % frames)
            case "n" | "down" | "p" | "up":
                by = 1 if key in ("n", "down") else -1
                return replace(self, clip=(self.clip + by) % clips, frame=0)
            case "m" | "c":
                other = _STYLES[key]
                return replace(self, style=MaskStyle.FILLED if self.style is other else other)
            case "+" | "=":
                return replace(self, speed=min(8.0, self.speed * 1.5))
            case "-" | "_":
                return replace(self, speed=max(0.05, self.speed / 1.5))
        return self

    def rate(self, frames: int) -> float:
        """Return how many frames per second are shown of a clip of so many frames."""
        return self.speed * pace(frames)


def play(clips: Clips, console: Console, protocol: Protocol, keyboard: Keyboard) -> None:
    """Play clips until the user quits.

    Args:
        clips: At least one.
        console: The terminal; prints all texts that are not ours.
        protocol: How pictures are shown.
        keyboard: Keys; it has taken the terminal over.
    """
    screen, state, due = _Screen(clips, console, protocol), State(), 0.0
    shown: tuple[object, ...] = ()
    screen.busy()
    try:
        while True:
            length = screen.length(state.clip)
            if (state, console.size) != shown:
                screen.show(state)
                shown, due = (state, console.size), time.monotonic() + 1 / state.rate(length)
            wait = max(0.0, due - time.monotonic()) if state.playing else _POLL
            key = keyboard.read(min(_POLL, wait))
            if key is not None:
                after = state.press(key, len(clips), length)
                if after is None:
                    return
                if after.clip != state.clip:
                    screen.busy()
                state = after
            elif state.playing and time.monotonic() >= due:
                state = replace(state, frame=(state.frame + 1) % length)
    except KeyboardInterrupt:
        return
    finally:
        screen.close()


class _Screen:
    """Writes complete screens; what was drawn once is kept for the next round of the clip."""

    def __init__(self, clips: Clips, console: Console, protocol: Protocol) -> None:
        self._clips, self._console, self._protocol = clips, console, protocol
        self._views = lru_cache(maxsize=8)(clips.__getitem__)
        self._drawn = lru_cache(maxsize=_KEPT)(self._draw)
        self._layout: tuple[int, ...] = ()

    def length(self, clip: int) -> int:
        """Return the number of frames of the longest view of a clip."""
        return steps_of(self._views(clip))

    def busy(self) -> None:
        """Say that something takes time."""
        self._write(f"\x1b[{self._console.height};1H\x1b[2Kloading")

    def close(self) -> None:
        """Remove the picture where it is not part of the text."""
        if self._protocol is Protocol.KITTY:
            self._write(kitty_delete(_NUMBER))

    def show(self, state: State) -> None:
        """Show a frame; the screen is cleared only where its parts move."""
        width, height = self._console.size
        above, picture, below = self._drawn(state.clip, state.frame, state.style, width, height)
        lines = [*self._text(self._title(state)), *above, *picture, *below]
        layout = (state.clip, width, height, len(above), len(picture))
        code = "" if layout == self._layout else "\x1b[2J"
        self._layout = layout
        first = len(lines) - len(below) - len(picture) + 1
        for row, line in enumerate(lines[:height], 1):
            if not (self._protocol.is_image and first <= row < first + len(picture)):
                # Not after the line: the cursor stays on the last column of a full one.
                code += f"\x1b[{row};1H\x1b[K{line}"
            elif line:
                code += f"\x1b[{row};1H{line}"
        self._write(code)

    def _draw(
        self, clip: int, frame: int, style: MaskStyle, width: int, height: int
    ) -> tuple[list[str], list[str], list[str]]:
        """Return the lines above the picture, of the picture, and below it."""
        views = self._views(clip)
        steps = [frame % len(view.frames) for view in views]
        pictures = [Picture(v.frames[t], v.masks[t]) for v, t in zip(views, steps, strict=True)]
        about = list(dict.fromkeys(part for view in views for part in view.about))
        labels = captions(views)[1]
        texts = []
        for view, label, picture in zip(views, labels, pictures, strict=True):
            items = legend(view.object_ids, [picture.mask], self._protocol)
            texts += fill([Text(label, style="bold"), *items] if label else items, width)[:_LEGEND]
        above = self._text(provenance(about), wrap=True) + self._text(*texts)
        keys = self._text(
            *fill([Text.assemble((k, "bold"), (f" {m}", "dim")) for k, m in KEYS], width)
        )
        rows = max(1, height - 1 - len(above) - 1 - len(keys))
        sizes = fit_cells([picture.frame.shape for picture in pictures], width, rows)
        drawn = draw_cells(pictures, sizes, self._protocol, style, _NUMBER)
        names = [
            frame_name(v.names[t], p.mask) for v, t, p in zip(views, steps, pictures, strict=True)
        ]
        empty = [""] * (rows - len(drawn))
        below = [*self._text(under(names, [columns for _, columns in sizes])), *empty, *keys]
        return above, drawn, below

    def _title(self, state: State) -> Text:
        views, length = self._views(state.clip), self.length(state.clip)
        pace = f"{state.rate(length):.3g} frames/s" if state.playing else "paused"
        parts = [
            captions(views)[0],
            f"clip {state.clip + 1} of {len(self._clips)}",
            f"frame {state.frame + 1} of {length}",
            pace,
        ]
        return Text("  ".join(filter(None, parts)), style="bold")

    def _text(self, *texts: Text, wrap: bool = False) -> list[str]:
        """Return texts as lines that fit the screen, printed by the console."""
        with self._console.capture() as capture:
            for text in texts:
                self._console.print(text, no_wrap=not wrap, overflow="fold" if wrap else "crop")
        return capture.get().splitlines()

    def _write(self, code: str) -> None:
        """Write a screen at once; terminals that can show it at once do so (mode 2026)."""
        self._console.file.write(f"\x1b[?2026h{code}\x1b[?2026l")
        self._console.file.flush()
