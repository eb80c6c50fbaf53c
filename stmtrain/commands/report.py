"""The command report. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import (
    DavisRoot,
    FolderRoot,
    PackedVideos,
    ScoredSplit,
    Workers,
    Year,
    YouTubeVosRoot,
    open_video_set,
    print_notes,
)
from stmtrain.processes import resolve_workers

app = typer.Typer()


@command(app, "report")
def report(
    results: Annotated[
        list[str], typer.Argument(help="Folders of PNGs; NAME=FOLDER to name one. First: baseline.")
    ],
    davis: DavisRoot = None,
    youtube_vos: YouTubeVosRoot = None,
    videos: FolderRoot = None,
    shards: PackedVideos = None,
    year: Year = 2017,
    split: ScoredSplit = None,
    out: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file.")] = None,
    workers: Workers = "auto",
) -> None:
    """Compare results: where they fail, frame by frame, in the terminal and as an HTML file."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.report.comparison import compare, name_results
    from stmtrain.report.page import write_report
    from stmtrain.report.terminal import comparison_table

    console = open_console()
    folders = name_results(results)
    truth = open_video_set(davis, youtube_vos, videos, shards, year, split)
    with progress_bar(console, "score", "videos") as progress:
        comparison = compare(folders, truth, resolve_workers(workers), progress)
    console.print(comparison_table(comparison, console.width, console.encoding))
    print_notes(console, comparison.notes())
    if out is not None:
        with progress_bar(console, "draw", "videos") as progress:
            size = write_report(out, comparison, progress)
        print_plain(console, f"{out}: {size / 1e6:.1f} MB, one file, opens in any browser")
