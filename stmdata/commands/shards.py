"""``stm shards``: info, verify, index, repair. Options and wiring only."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmdata.commands.options import Annotations, Images, IndexCache, OnBadVideo
from stmdata.commands.run import manifest_table, show_making
from stmtrain.commands.command import (
    command,
    end,
    open_console,
    print_next,
    print_plain,
    write_json,
)
from stmtrain.commands.options import CacheFolder, CacheSize, Json, Location, OnBad, Workers
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from rich.console import Console

    from stmdata.checking.verify import Verification
    from stmtrain.shards.cache import Cache

app = typer.Typer(help="Look into shard sets and check them.", no_args_is_help=True)

Folder = Annotated[str, typer.Argument(help="Shard folder.")]


@command(app, "info")
def shards_info(shards: Location, json: Json = None) -> None:
    """Show what a shard set contains and how it was made."""
    from stmtrain.shards.reader import ShardSet

    shard_set = ShardSet.open(shards)
    if not write_json(json, {"name": shard_set.name, **shard_set.manifest.to_mapping()}):
        open_console().print(manifest_table(shard_set.name, shard_set.manifest))


@command(app, "verify")
def shards_verify(
    shards: Location,
    workers: Workers = "auto",
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
    json: Json = None,
) -> None:
    """Hash and decode everything; name every fault with shard, sample, member and byte."""
    from stmdata.checking.repair import REINDEX
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.manifest import is_indexed
    from stmtrain.shards.urls import name_of, parse_location

    location = parse_location(shards)
    remote = isinstance(location, str)
    console = open_console(json=json)
    place = user_cache(cache, cache_size) if remote else None
    result = _verify(location, workers, console, place)
    name = name_of(location)
    write_json(json, {"name": name, **result.to_mapping()})
    if result.faults:
        advice = REINDEX if is_indexed(result.config.config) else 'run "stm shards repair"'
        if remote:
            advice = "repair the folder that it was uploaded from, and upload it again"
        raise end(f"{name}: {result.summary()}; {advice}", 1)
    print_plain(console, f"{name}: {result.summary()}")


def _kept_export(out: Path, **_options: object) -> str:
    return f"{out} is incomplete; remove it and run the same command again"


def _kept_index(**_options: object) -> str:
    return "the tars are unchanged; run the same command again to index them"


def _kept_repair(folder: str, **_options: object) -> str:
    return f"rebuilt shards are kept in {folder}; run the same command again for those still bad"


@command(app, "index", _kept_index)
def shards_index(folder: Folder, workers: Workers = "auto") -> None:
    """Write sidecars and a manifest for tars of other programs; the tars stay unchanged."""
    from stmdata.checking.index_tars import index_shards, passed_over
    from stmtrain.shards.urls import local_folder

    place = local_folder(folder, "stm shards index")
    console = open_console()
    show_making(
        console,
        place,
        "samples",
        lambda progress: index_shards(place, workers=resolve_workers(workers), progress=progress),
    )
    for note in passed_over(place):
        print_plain(console, f"note: {note}")
    print_next(console, "stm", "shards", "verify", place)


@command(app, "export", _kept_export)
def shards_export(
    shards: Location,
    out: Annotated[Path, typer.Option(help="Empty folder for the tree.")],
) -> None:
    """Write frames and masks as files again, under the data set's own names."""
    from stmdata.packing.export import export_tree
    from stmtrain.commands.progress import progress_bar
    from stmtrain.shards.urls import parse_location

    console = open_console()
    with progress_bar(console, str(out), "videos") as progress:
        count = export_tree(parse_location(shards), out, progress)
    print_plain(console, f"{out}: {count} videos in JPEGImages and Annotations")
    print_next(console, "stm", "pack-videos", "--root", out, "--out", "SHARDS")


@command(app, "repair", _kept_repair)
def shards_repair(
    folder: Folder,
    images: Images = None,
    annotations: Annotations = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks.")] = None,
    root: Annotated[Path | None, typer.Option(help="Root of the videos' data set.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Only unmark bad shards; the first command remakes.")
    ] = False,
    on_bad_video: OnBadVideo = OnBad.RAISE,
    cache: IndexCache = None,
    workers: Workers = "auto",
) -> None:
    """List the bad shards and rebuild them from the input of the set."""
    from stmdata.checking.repair import forget_shards, repair
    from stmtrain.commands.progress import progress_bar
    from stmtrain.shards.urls import local_folder

    place = local_folder(folder, "stm shards repair")
    console = open_console()
    found = _verify(place, workers, console)
    for name in found.bad_shards:
        print_plain(console, f"to rebuild: {name}")
    if forget:
        forget_shards(place, found)
        print_plain(
            console, f"{place}: run the command that made it again; it rebuilds the listed shards"
        )
        return
    with progress_bar(console, f"repair {place}", "samples") as progress:
        changed = repair(
            place,
            found,
            {"images": images, "annotations": annotations, "masks": masks, "root": root},
            on_bad_video=on_bad_video.value,
            cache=cache,
            workers=resolve_workers(workers),
            progress=progress,
        )
    for name in changed:
        print_plain(
            console, f"note: {name} has other bytes than before: another release made the set"
        )
    print_plain(console, f"{place}: {len(found.bad_shards)} shards rebuilt; the set is complete")


def _verify(
    location: Path | str, workers: str, console: "Console", cache: "Cache | None" = None
) -> "Verification":
    """Verify with a progress bar, and print notes and faults."""
    from stmdata.checking.verify import verify
    from stmtrain.commands.progress import progress_bar
    from stmtrain.shards.urls import name_of

    with progress_bar(console, f"verify {name_of(location)}", "samples") as progress:
        result = verify(location, workers=resolve_workers(workers), progress=progress, cache=cache)
    for note in result.notes:
        print_plain(console, f"note: {note}")
    for fault in result.faults:
        print_plain(console, str(fault))
    return result
