"""Show clips: play them, print them, or save them; decided by the options and the terminal."""

import os

from rich.console import Console

from stmtrain.preview.clips import Clips
from stmtrain.preview.keyboard import can_play, keyboard
from stmtrain.preview.player import play
from stmtrain.preview.protocol import Protocol, choose_protocol
from stmtrain.preview.stills import print_stills


def plays(console: Console, still: bool) -> bool:
    """Return whether :func:`show` plays clips: someone can press keys, and does not object."""
    return not still and can_play(console.file)


def show(clips: Clips, console: Console, asked: Protocol | None, *, still: bool = False) -> None:
    """Play clips in a terminal; elsewhere, or if ``still``, print them.

    Args:
        clips: At least one.
        console: Standard output.
        asked: How pictures are sent to the terminal; ``None`` decides by the environment.
        still: Print the clips in a terminal too.

    Raises:
        UsageError: The terminal cannot show what was asked for.
    """
    protocol = choose_protocol(console, os.environ, asked)
    if plays(console, still):
        with keyboard(console.file) as keys:
            play(clips, console, protocol, keys)
        return
    for clip in clips:
        for view in clip:
            print_stills(view, console, protocol)
