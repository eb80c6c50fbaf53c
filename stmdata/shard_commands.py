"""``stm shards``: info, verify, index, repair. Options and wiring only."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmdata.making import make
from stmtrain.command import Workers, command, end, open_console
from stmtrain.cores import resolve_workers

if TYPE_CHECKING:
    from stmtrain.verify import Verification

__all__ = ["app"]

app = typer.Typer(help="Look into shard sets and check them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Shard folder.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Root = Annotated[Path, typer.Option(help="Data set root (holds JPEGImages).")]


@command(app, "info")
def shards_info(folder: Annotated[Path, typer.Argument(help="Shard folder.")]) -> None:
    """Say what a shard set holds and how it was made."""
    from stmtrain.report import manifest_table
    from stmtrain.shards import ShardSet

    open_console().print(manifest_table(folder, ShardSet.open(folder).manifest))


@command(app, "verify")
def shards_verify(folder: Folder, workers: Workers = "auto") -> None:
    """Re-hash and decode everything; name every fault with shard, sample and byte."""
    result = _verify(folder, workers)
    for fault in result.faults:
        typer.echo(fault)
    if result.faults:
        raise end(f'{folder}: {result.summary()}; "stm shards repair" helps', 1)
    typer.echo(f"{folder}: {result.summary()}")


@command(app, "index")
def shards_index(folder: Folder, workers: Workers = "auto") -> None:
    """Make sidecars and a manifest for tars made elsewhere; the tars stay as they are."""
    from stmdata.shard_index import index_shards

    make(
        folder,
        "samples",
        lambda report: index_shards(folder, workers=resolve_workers(workers), progress=report),
    )


@command(app, "repair")
def shards_repair(
    folder: Folder,
    images: Images = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO-format instances JSON.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks.")] = None,
    root: Annotated[Path | None, typer.Option(help="Root of the videos' data set.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Only unmark bad shards; the first command remakes.")
    ] = False,
    workers: Workers = "auto",
) -> None:
    """List what must be made again and, from its source, make it."""
    from stmdata.repair import forget_shards, repair
    from stmtrain.console import progress_bar

    found = _verify(folder, workers)
    for fault in found.faults:
        typer.echo(fault)
    for name in found.bad_shards:
        typer.echo(f"make again: {name}")
    if forget:
        forget_shards(folder, found)
        typer.echo(f"{folder}: run again the command that made it; it makes what is listed")
        return
    with progress_bar(open_console(), f"repair {folder}", "samples") as report:
        changed = repair(
            folder,
            found,
            {"images": images, "annotations": annotations, "masks": masks, "root": root},
            workers=resolve_workers(workers),
            progress=lambda done, total, _: report(done, total, ""),
        )
    for name in changed:
        typer.echo(f"note: {name} has other bytes than before: another release made the set")
    typer.echo(f"{folder}: {len(found.bad_shards)} shards made again; the set is whole")


def _verify(folder: Path, workers: str) -> "Verification":
    """Verify with a progress bar and print what is worth a note."""
    from stmdata.engines import map_unordered
    from stmtrain.console import progress_bar
    from stmtrain.verify import verify

    with progress_bar(open_console(), f"verify {folder}", "samples") as report:
        result = verify(
            folder,
            functools.partial(map_unordered, workers=resolve_workers(workers)),
            lambda done, total, size, faults: report(
                done, total, f"{size / 1e6:.0f} MB" + f", {faults} faults" * bool(faults)
            ),
        )
    for note in result.notes:
        typer.echo(f"note: {note}")
    return result
