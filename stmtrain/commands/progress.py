"""What commands show while they work: one progress bar with rate, counts and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Report", "progress_bar"]

Report = Callable[[int, int, str], None]
"""Called with (done, total, note); ``total`` 0 means not known yet."""

_LINES = 10
"""Lines printed over a whole run where the output is not a terminal."""


class _RateColumn(ProgressColumn):
    """Units per second over the last moments."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """Show the rate, or nothing before the first one is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bar(console: Console, title: str, unit: str) -> Iterator[Report]:
    """Show progress on a terminal as a bar, elsewhere as about ten lines.

    Args:
        console: Where to print.
        title: What is being done.
        unit: What is counted, plural ("clips").
    """
    if not console.is_terminal:
        yield _line_report(console, title, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, note="")

        def report(done: int, total: int, note: str) -> None:
            progress.update(task, completed=done, total=total or None, note=note)

        yield report


def _line_report(console: Console, title: str, unit: str) -> Report:
    printed = -1

    def report(done: int, total: int, note: str) -> None:
        nonlocal printed
        tenth = done * _LINES // total if total else 0
        if tenth != printed:
            printed = tenth
            count = f"{done}/{total}" if total else str(done)
            console.print(f"{title}: {count} {unit}  {note}".rstrip(), highlight=False)

    return report
