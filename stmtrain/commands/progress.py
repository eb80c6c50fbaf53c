"""The progress bar of all commands: rate, counts and remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
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

from stmtrain.commands.command import safe_text
from stmtrain.processes import Progress

_LINES = 10
"""Lines printed in the course of a command if the output is not a terminal."""


class _RateColumn(ProgressColumn):
    """Recent rate in units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bar(console: Console, title: str, unit: str) -> Iterator[Progress]:
    """Show progress as a bar on a terminal, elsewhere as about ten lines.

    Args:
        console: Where to print.
        title: What the command is doing.
        unit: What is counted, in the plural ("clips").

    Yields:
        The callback to be called with (done, total, note).
    """
    if not console.is_terminal:
        yield _progress_lines(console, title, unit)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with ProgressDisplay(*columns, console=console) as display:
        task = display.add_task(safe_text(title), total=None, note="")

        def progress(done: int, total: int, note: str) -> None:
            display.update(task, completed=done, total=total or None, note=safe_text(note))

        yield progress


def _progress_lines(console: Console, title: str, unit: str) -> Progress:
    printed = -1

    def progress(done: int, total: int, note: str) -> None:
        nonlocal printed
        tenth = done * _LINES // total if total else 0
        if tenth != printed:
            printed = tenth
            count = f"{done}/{total}" if total else str(done)
            text = f"{title}: {count} {unit}  {note}".rstrip()
            console.print(text)

    return progress
