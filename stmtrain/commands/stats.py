"""The command ``stm stats``: what shard sets contain, and how far they are apart."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, open_console, print_plain, write_json
from stmtrain.commands.options import CacheFolder, CacheSize, Json, Seed, Workers
from stmtrain.errors import UsageError
from stmtrain.processes import resolve_workers

app = typer.Typer()


@command(app, "stats")
def stats(
    shards: Annotated[
        list[str],
        typer.Argument(
            help="Shard folders or URLs; the first is what the others are compared with."
        ),
    ],
    sample: Annotated[int, typer.Option(min=1, help="Clips that are read, at random.")] = 1000,
    skip: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Frames skipped between masks to compare; once, or for each set."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write FILE.png or FILE.html.")] = None,
    json: Json = None,
    seed: Seed = 0,
    workers: Workers = "auto",
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
) -> None:
    """Show objects, areas, motion and sizes of sets, and how far their distributions are apart."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.report.plot import check_plot
    from stmtrain.report.statistics import (
        explanation,
        sets_table,
        statistics_table,
        write_plot,
    )
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.urls import name_of, parse_location
    from stmtrain.statistics.compare import compare_sets
    from stmtrain.statistics.measure import measure_set

    skips = skip or [0]
    if len(skips) not in (1, len(shards)):
        raise UsageError(
            f"--skip: expected one number, or one for each of {len(shards)} sets, found "
            f"{len(skips)}"
        )
    if plot is not None:
        check_plot(plot)
    console, sets = open_console(json=json), []
    for number, text in enumerate(shards):
        location = parse_location(text)
        remote = isinstance(location, str)
        with progress_bar(console, name_of(location), "clips") as progress:
            measured = measure_set(
                location,
                sample=sample,
                seed=seed,
                skip=skips[number % len(skips)],
                workers=resolve_workers(workers),
                cache=user_cache(cache, cache_size) if remote else None,
                progress=progress,
            )
        sets.append(measured)
    comparison = compare_sets(sets, seed)
    if plot is not None:
        write_plot(plot, comparison)
    if not write_json(json, comparison.to_mapping()):
        console.print(sets_table(comparison))
        console.print(statistics_table(comparison, console.encoding))
        console.print(explanation(comparison))
    if plot is not None:
        print_plain(console, f"{plot}: written")
