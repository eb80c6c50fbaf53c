"""Run what writes shards: with a progress bar, and a table at the end of what was made."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stmtrain.commands.command import open_console, print_next, print_plain
from stmtrain.datasets.files import some
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stmdata.packing.pack import SetPlan
    from stmtrain.processes import Progress
    from stmtrain.shards.manifest import Manifest


_RECIPES = {"clips": "pretrain", "videos": "main"}
"""The training recipe that a set is usually used with, by what it contains."""


def kept_shards(out: Path, overwrite: bool = False, **_options: object) -> str:
    """Say how many finished shards Ctrl-C has left in ``out``, and how they are used."""
    shards = sum(path.with_suffix(".json").exists() for path in out.glob("*.tar"))
    less = ", without --overwrite," if overwrite else ""
    if not shards:
        return f"no shard was finished yet; run the same command again{less} to start"
    return f"{shards} finished shards are kept in {out}; run the same command again{less} to resume"


def run_packing(
    plan: "Callable[[], SetPlan]", out: Path, unit: str, workers: str, overwrite: bool
) -> None:
    """Pack a set of ``unit`` ("clips", "videos") into ``out``, with the values of the options.

    ``plan`` is called once the progress bar is shown, because it may take a while.
    """
    from stmdata.packing.pack import pack

    def make(progress: "Progress") -> "Manifest":
        number = resolve_workers(workers)
        return pack(plan(), out, workers=number, overwrite=overwrite, progress=progress)

    console = open_console()
    show_making(console, out, unit, make)
    train = ("stm", "train", "--shards", out, "--recipe", _RECIPES[unit], "--out", "RUN")
    print_next(console, "stm", "preview", out)
    print_next(console, *train)


def show_making(
    console: "Console", out: Path, unit: str, make: "Callable[[Progress], Manifest]"
) -> None:
    """Make a set with a progress bar, then show what it contains and what was skipped."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.sample import MANIFEST_NAME

    place = out / MANIFEST_NAME
    before = place.stat().st_mtime_ns if place.exists() else None
    with progress_bar(console, str(out), unit) as progress:
        manifest = make(progress)
    console.print(manifest_table(str(out), manifest))
    for reason, inputs in ShardSet.open(out).notes().items():
        print_plain(console, f"{len(inputs)} x {reason}: {some(inputs)}")
    # The manifest is removed before a shard is made, and written again at the end.
    if before == place.stat().st_mtime_ns:
        print_plain(console, f"{out}: already complete, nothing was left to do")


def manifest_table(name: str, manifest: "Manifest") -> "Table":
    """Show what a set contains, how it was made, and what was skipped and why."""
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("what", "value", title=name, title_justify="left")
    table.add_row("shards", str(len(manifest.shards)))
    table.add_row("samples", str(sum(shard.samples for shard in manifest.shards)))
    table.add_row("size", decimal(sum(shard.bytes for shard in manifest.shards)))
    for name, value in sorted(manifest.totals.items()):
        if name != "samples":
            table.add_row(name.replace("_", " "), decimal(value) if "bytes" in name else str(value))
    table.add_section()
    for name, text in manifest.about.items():
        table.add_row(name, text)
    for name, value in manifest.config.items():
        table.add_row(name.replace("_", " "), _short(value))
    if manifest.skipped:
        table.add_section()
        for reason, count in sorted(manifest.skipped.items()):
            table.add_row(f"skipped: {reason}", str(count))
    return table


def _short(value: object) -> str:
    """Show plain values completely and a recipe by its name."""
    if isinstance(value, dict):
        return str(value.get("name", f"{len(value)} fields"))
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
