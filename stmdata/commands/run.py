"""Run what makes shards, with progress, and say at the end what was made and what was skipped."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stmtrain.commands.command import open_console

if TYPE_CHECKING:
    from stmdata.packing.pack import Progress as PackProgress
    from stmtrain.shards.manifest import Manifest

__all__ = ["run_packing"]


def run_packing(out: Path, unit: str, work: "Callable[[PackProgress], Manifest]") -> None:
    """Run an offline command with a progress bar, then say what was made and what was skipped."""
    from stmdata.checking.table import manifest_table
    from stmtrain.commands.progress import progress_bar

    console = open_console()
    with progress_bar(console, str(out), unit) as report:
        manifest = work(
            lambda done, total, skipped: report(done, total, f"{skipped} skipped" * bool(skipped))
        )
    console.print(manifest_table(str(out), manifest))
