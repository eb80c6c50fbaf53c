"""Run what writes shards: with a progress bar, and a table at the end of what was made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stmtrain.commands.command import open_console
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from stmdata.packing.pack import SetPlan
    from stmtrain.processes import Progress
    from stmtrain.shards.manifest import Manifest


def run_packing(
    plan: "Callable[[], SetPlan]", out: Path, unit: str, workers: str, overwrite: bool
) -> None:
    """Pack a set of ``unit`` ("clips") into ``out``, with the values of the options.

    ``plan`` is called once the progress bar is shown, because it may take a while.
    """
    from stmdata.packing.pack import pack

    def make(progress: "Progress") -> "Manifest":
        number = resolve_workers(workers)
        return pack(plan(), out, workers=number, overwrite=overwrite, progress=progress)

    show_making(out, unit, make)


def show_making(out: Path, unit: str, make: "Callable[[Progress], Manifest]") -> None:
    """Make a set with a progress bar, then show what it contains and what was skipped."""
    from stmdata.checking.table import manifest_table
    from stmtrain.commands.progress import progress_bar

    console = open_console()
    with progress_bar(console, str(out), unit) as progress:
        manifest = make(progress)
    console.print(manifest_table(str(out), manifest))
