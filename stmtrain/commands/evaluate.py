"""The commands eval, score and report. Options and wiring only."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.commands.command import command, open_console, print_next, print_plain, write_json
from stmtrain.commands.options import (
    Checkpoint,
    Device,
    Json,
    Workers,
    inference_options,
    print_notes,
    share_options,
)
from stmtrain.commands.video_options import (
    named_videos,
    score_set,
    set_with_frames,
    truth_or_why,
    truth_set,
    video_set,
)
from stmtrain.errors import StmError, UsageError
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from stmtrain.datasets.video_set import VideoSet
    from stmtrain.inference.options import Inference

app = typer.Typer()


def _kept(out: Path, overwrite: bool = False, **_options: object) -> str:
    """Say after Ctrl-C how many videos are finished."""
    from stmtrain.inference.results import finished_videos

    count = len(finished_videos(out))
    less = ", without --overwrite," if overwrite else ""
    if not count:
        return f"no video was finished yet; run the same command again{less} to start"
    return f"{count} finished videos are kept in {out}; run the same command again{less} to resume"


@command(app, "eval", _kept)
@share_options(videos=video_set, options=inference_options)
def evaluate(
    context: typer.Context,
    videos: "VideoSet",
    options: "Inference",
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for PNGs and results.json.")],
    export: Annotated[
        Path | None, typer.Option(help="Also write the zip for the benchmark's server.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of other settings.")
    ] = False,
    device: Device = "auto",
    workers: Workers = "auto",
    json: Json = None,
) -> None:
    """Segment videos from their given masks, write palette PNGs, and score them."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.inference.evaluate import evaluate as evaluate_videos
    from stmtrain.training.distributed import usable_device

    console = open_console(json=json)
    with progress_bar(console, "eval", "frames") as progress:
        evaluation = evaluate_videos(
            checkpoint,
            videos,
            out,
            device=usable_device(device),
            options=options,
            overwrite=overwrite,
            export=export,
            workers=resolve_workers(workers),
            progress=progress,
            truth=truth_or_why(context.params) if context.params["protocol"] else None,
        )
    printed = write_json(json, evaluation.to_mapping())
    if evaluation.scores is not None:
        if not printed:
            console.print(evaluation.scores.table())
        print_notes(console, evaluation.scores.notes)
    print_plain(console, evaluation.summary())
    if evaluation.kept == len(videos.videos):
        print_plain(console, f"{out}: already complete, no video was left to segment")
    if export is not None:
        print_plain(console, f"{export}: written")
    if evaluation.scores is not None:
        print_next(
            console, "stm", "report", out, *named_videos(context.params), "--out", "report.html"
        )


@command(app, "score")
@share_options(videos=score_set)
def score(
    context: typer.Context,
    videos: "VideoSet",
    results: Annotated[Path | None, typer.Option(help="Folder with <video>/<frame>.png.")] = None,
    check_submission: Annotated[
        Path | None, typer.Option(help="Instead: list every fault of a zip for the server.")
    ] = None,
    json: Json = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Folder for CSV files like the official tool's.")
    ] = None,
    workers: Workers = "auto",
) -> None:
    """Score result PNGs of any method as the official code of a benchmark does."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.scoring.score import score_results

    console = open_console(json=json)
    if check_submission is not None and results is None:
        _check_submission(console, check_submission, videos, json)
        return
    if results is None or check_submission is not None:
        raise UsageError("expected either --results FOLDER or --check-submission FILE")
    with progress_bar(console, "score", "videos") as progress:
        scores = score_results(results, videos, resolve_workers(workers), progress)
    print_notes(console, scores.notes)
    if not write_json(json, scores.to_mapping()):
        console.print(scores.table())
    if csv is not None:
        scores.write_csv(csv, videos.split)
    print_next(
        console, "stm", "report", results, *named_videos(context.params), "--out", "report.html"
    )


@command(app, "report")
@share_options(videos=truth_set)
def report(
    context: typer.Context,
    videos: "VideoSet",
    results: Annotated[
        list[str], typer.Argument(help="Folders of PNGs; NAME=FOLDER to name one. First: baseline.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file.")] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare different videos, over those that all have."),
    ] = False,
    workers: Workers = "auto",
) -> None:
    """Compare results: where they fail, frame by frame, in the terminal and as an HTML file."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.report.comparison import compare, name_results
    from stmtrain.report.page import write_report
    from stmtrain.report.terminal import comparison_table

    console = open_console()
    folders = name_results(results)
    frames = videos  # which a protocol does not open
    if out is not None and any(video.frames == video.masks for video in videos.videos):
        frames = set_with_frames(context.params)
    with progress_bar(console, "score", "videos") as progress:
        comparison = compare(folders, videos, resolve_workers(workers), progress, common=common)
    console.print(comparison_table(comparison, console.width, console.encoding))
    print_notes(console, comparison.notes())
    if out is None:
        _suggest_report(console, results, context)
    else:
        with progress_bar(console, "draw", "videos") as progress:
            size = write_report(out, comparison.with_frames(frames), progress)
        print_plain(console, f"{out}: {size / 1e6:.1f} MB, one file, opens in any browser")


def _suggest_report(
    console: "Console", results: "Sequence[str | Path]", context: typer.Context
) -> None:
    """Name the command that shows frame by frame where results fail."""
    videos = named_videos(context.params)
    print_next(console, "stm", "report", *results, *videos, "--out", "report.html")


def _check_submission(console: "Console", path: Path, videos: "VideoSet", json: str | None) -> None:
    """Print one line per fault; any fault ends the command with exit code 1."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.scoring.submission import check_submission, count_masks

    with progress_bar(console, "check", "videos") as progress:
        faults = check_submission(path, videos, progress)
    for fault in faults:
        print_plain(console, fault)
    write_json(json, {"file": str(path), "faults": list(faults)})
    if faults:
        what = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise StmError(f"{path}: {what}, listed above; write the zip again")
    masks = count_masks(videos)
    print_plain(
        console,
        f"{path}: {masks} masks of {len(videos.videos)} videos, as "
        + (
            f"{videos.dataset} needs them to be scored with stm score"
            if videos.protocol.sparse
            else f"the server of {videos.dataset} expects them"
        ),
    )
