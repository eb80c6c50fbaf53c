"""The progress bar of all commands: rate, counts and remaining time."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as ProgressDisplay
from rich.text import Text

from stmtrain.commands.command import print_plain, safe_text
from stmtrain.processes import Progress

_PAUSE = 10.0
"""Least time between two lines of progress if the output is not a terminal, seconds."""


class _RateColumn(ProgressColumn):
    """Recent rate in units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        text = f"{speed:.1f} {self.unit}/s" if speed else ""
        return Text(text, style="progress.data.speed", no_wrap=True)


class _Display(ProgressDisplay):
    """A bar with its note in a line below, where it needs no room of the bar."""

    note = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bar, then the note."""
        yield self.make_tasks_table(self.tasks)
        if self.note:
            yield Text(f"  {self.note}", no_wrap=True, overflow="ellipsis")


@contextmanager
def progress_bar(console: Console, title: str, unit: str) -> Iterator[Progress]:
    """Show progress as a bar on a terminal, elsewhere as lines.

    Args:
        console: Where to print.
        title: What the command is doing.
        unit: What is counted, in the plural ("clips").

    Yields:
        The callback to be called with (done, total, note).
    """
    if not console.is_terminal:
        yield _Lines(console, title, unit)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _Display(*columns, console=console) as display:
        task = display.add_task(safe_text(title), total=None)

        def progress(done: int, total: int, note: str) -> None:
            display.note = safe_text(note)
            display.update(task, completed=done, total=total or None)

        yield progress


@dataclass
class _Lines:
    """Progress as lines: at the start, at the end, and more and more rarely in between.

    A line is due when ten seconds and a twentieth of the time so far have passed, so that minutes
    give dozens of lines and days a few hundred.
    """

    console: Console
    title: str
    unit: str
    began: float = 0.0
    first: int = -1  # done at the first call: what an earlier run did says nothing about the speed
    printed: float = -math.inf
    ended: bool = False

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self.first < 0:
            self.began, self.first = now, done
        ends = 0 < total <= done and not self.ended
        if not ends and now - self.printed < max(_PAUSE, (now - self.began) / 20):
            return
        self.printed, self.ended = now, self.ended or ends
        count = f"{done}/{total}" if total else str(done)
        text = f"{self.title}: {count} {self.unit}"
        left = (now - self.began) * (total - done) / max(1, done - self.first)
        if done > self.first and left > 0:
            text += f", {timedelta(seconds=round(left))} left"
        print_plain(self.console, f"{text}  {note}".rstrip())
