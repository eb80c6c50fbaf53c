"""The commands eval, track, score and report. Options and wiring only."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.command import Device, Workers, Year, command, open_console
from stmtrain.cores import resolve_workers
from stmtrain.errors import StmError, UsageError
from stmtrain.inference_options import (
    Flip,
    MemoryEvery,
    MemoryFrames,
    Precision,
    Scales,
    ShortSide,
    TopK,
    inference_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.video_sets import VideoSet

__all__ = ["app"]

app = typer.Typer()

Truth = Annotated[Path | None, typer.Option("--davis", help="DAVIS root (holds JPEGImages).")]
YouTubeTruth = Annotated[
    Path | None, typer.Option("--youtube-vos", help="Or a YouTube-VOS root; public masks: train.")
]
OwnTruth = Annotated[
    Path | None, typer.Option(help="Or any JPEGImages/VIDEO/*.jpg, Annotations/VIDEO/*.png.")
]
PackedTruth = Annotated[str | None, typer.Option(help="Or packed videos: folder or URL.")]
TruthSplit = Annotated[
    str | None, typer.Option(help="Split: val, train, ...; of YouTube-VOS: train.")
]


@command(app, "eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Ours, or published STM weights.")],
    out: Annotated[Path, typer.Option(help="Folder for PNGs and results.json.")],
    davis: Annotated[
        Path | None, typer.Option("--davis", help="DAVIS root (holds JPEGImages).")
    ] = None,
    youtube_vos: Annotated[
        Path | None, typer.Option("--youtube-vos", help="Or a YouTube-VOS root (holds valid).")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="Or any JPEGImages/VIDEO/*.jpg with Annotations/VIDEO/*.png."),
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Or packed videos: folder or URL.")] = None,
    year: Year = 2017,
    split: Annotated[
        str | None, typer.Option(help="Split: val, test-dev, ...; of YouTube-VOS: valid, test.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Also write the zip for the benchmark's server.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results of other settings.")
    ] = False,
    memory_every: MemoryEvery = 5,
    memory_frames: MemoryFrames = None,
    top_k: TopK = None,
    size: ShortSide = None,
    flip: Flip = False,
    scales: Scales = "1",
    precision: Precision = "float32",
    device: Device = "auto",
    workers: Workers = "auto",
) -> None:
    """Segment videos from their given masks, write palette PNGs, and score them."""
    from stmtrain.console import progress_bar
    from stmtrain.evaluate import evaluate as evaluate_videos
    from stmtrain.parallel import usable_device

    options = inference_of(
        memory_every=memory_every,
        memory_frames=memory_frames,
        top_k=top_k,
        size=size,
        flip=flip,
        scales=scales,
        precision=precision,
    )
    console = open_console()
    chosen = _video_set(davis, youtube_vos, videos, shards, year, split)
    with progress_bar(console, "eval", "frames") as report:
        evaluation = evaluate_videos(
            checkpoint,
            chosen,
            out,
            device=usable_device(device),
            options=options,
            overwrite=overwrite,
            export=export,
            workers=resolve_workers(workers),
            report=report,
        )
    if evaluation.scores is not None:
        console.print(evaluation.scores.table())
    console.print(evaluation.summary(), highlight=False, markup=False, soft_wrap=True)
    if export is not None:
        console.print(f"{export}: written", highlight=False, markup=False, soft_wrap=True)


@command(app, "track", again="masks/ holds the frames so far; --overwrite starts again")
def track(
    source: Annotated[Path, typer.Argument(help="Video file, or folder of frames.")],
    mask: Annotated[
        list[str],
        typer.Option(help="FILE: mask of the first frame; FRAME=FILE: of another. Repeatable."),
    ],
    checkpoint: Annotated[Path, typer.Option(help="Ours, or published STM weights.")],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlay and summary.json.")],
    overlay: Annotated[bool, typer.Option(help="Draw the masks over the frames.")] = True,
    fps: Annotated[
        float | None, typer.Option(help="Of the overlay; else the video's, 25 for a folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's results.")
    ] = False,
    memory_every: MemoryEvery = 5,
    memory_frames: MemoryFrames = 40,
    top_k: TopK = None,
    size: ShortSide = 480,
    flip: Flip = False,
    scales: Scales = "1",
    precision: Precision = "float32",
    device: Device = "auto",
) -> None:
    """Track objects through your own video from their masks; masks may be added later."""
    from stmtrain.console import progress_bar
    from stmtrain.own_frames import has_av
    from stmtrain.parallel import usable_device
    from stmtrain.track import track as track_video

    options = inference_of(
        memory_every=memory_every,
        memory_frames=memory_frames,
        top_k=top_k,
        size=size,
        flip=flip,
        scales=scales,
        precision=precision,
    )
    console = open_console()
    with progress_bar(console, "track", "frames") as report:
        tracked = track_video(
            checkpoint,
            source,
            mask,
            out,
            device=usable_device(device),
            options=options,
            overlay=overlay,
            rate=fps,
            overwrite=overwrite,
            report=report,
        )
    lines = [*(f"warning: {text}" for text in tracked.summary["warnings"]), *tracked.lines()]
    if overlay and not has_av():
        lines.append("overlay/ holds JPEGs; pip install 'stm-toolkit[video]' gives an MP4")
    rate = tracked.summary["frames_per_second"]
    lines.append(
        f"{out}: {len(tracked.names)} frames, {rate:.1f} frames/s with reading and writing"
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


@command(app, "score")
def score(
    results: Annotated[Path | None, typer.Option(help="Folder with <video>/<frame>.png.")] = None,
    check_submission: Annotated[
        Path | None, typer.Option(help="Instead: name every fault of a zip for the server.")
    ] = None,
    davis: Truth = None,
    youtube_vos: YouTubeTruth = None,
    videos: OwnTruth = None,
    shards: PackedTruth = None,
    year: Year = 2017,
    split: TruthSplit = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write every number here.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Folder for CSV files as the official tool's.")
    ] = None,
    workers: Workers = "auto",
) -> None:
    """Score anyone's result PNGs with J and F as the official DAVIS code does."""
    from stmtrain.console import progress_bar
    from stmtrain.score import score_results

    console = open_console()
    truth = _video_set(davis, youtube_vos, videos, shards, year, split)
    if check_submission is not None and results is None:
        _check_submission(console, check_submission, truth)
        return
    if results is None or check_submission is not None:
        raise UsageError("expected either --results FOLDER or --check-submission FILE")
    with progress_bar(console, "score", "videos") as report:
        scores = score_results(
            results,
            truth.videos,
            resolve_workers(workers),
            lambda done, n: report(done, n, ""),
            dataset=truth.dataset,
        )
    console.print(scores.table())
    _print_notes(console, scores.notes)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_bytes(scores.to_json())
    if csv is not None:
        scores.write_csv(csv, split or "val")


@command(app, "report")
def report(
    results: Annotated[
        list[str], typer.Argument(help="Folders of PNGs; NAME=FOLDER to name one. First: baseline.")
    ],
    davis: Truth = None,
    youtube_vos: YouTubeTruth = None,
    videos: OwnTruth = None,
    shards: PackedTruth = None,
    year: Year = 2017,
    split: TruthSplit = None,
    out: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file.")] = None,
    workers: Workers = "auto",
) -> None:
    """Compare results: where they fail, frame by frame, in the terminal and as an HTML file."""
    from rich.markup import escape

    from stmtrain.comparison import compare, name_results
    from stmtrain.comparison_table import comparison_table
    from stmtrain.console import progress_bar
    from stmtrain.html_report import write_report

    console = open_console()
    folders = name_results(results)
    truth = _video_set(davis, youtube_vos, videos, shards, year, split)
    with progress_bar(console, "score", "videos") as progress:
        comparison = compare(
            folders,
            truth.videos,
            resolve_workers(workers),
            lambda done, n, name: progress(done, n, escape(name)),
            dataset=truth.dataset,
        )
    console.print(comparison_table(comparison, console.width, console.encoding))
    _print_notes(console, comparison.notes())
    if out is not None:
        with progress_bar(console, "draw", "sequences") as progress:
            size = write_report(out, comparison, progress)
        console.print(f"{out}: {size / 1e6:.1f} MB, one file, opens in any browser", soft_wrap=True)


def _check_submission(console: "Console", path: Path, videos: "VideoSet") -> None:
    """Print one line per fault; any fault ends the command with exit code 1."""
    from stmtrain.console import progress_bar
    from stmtrain.submission import check_submission

    with progress_bar(console, "check", "videos") as report:
        faults = check_submission(path, videos, report)
    for fault in faults:
        console.print(fault, highlight=False, markup=False, soft_wrap=True)
    if faults:
        raise StmError(f"{path}: {len(faults)} faults, named above; write the zip again")
    masks = sum(len(videos.exported(video)) for video in videos.videos)
    console.print(
        f"{path}: {masks} masks of {len(videos.videos)} videos, as the server of {videos.dataset} "
        "expects them",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _video_set(
    davis: Path | None,
    youtube_vos: Path | None,
    videos: Path | None,
    shards: str | None,
    year: int,
    split: str | None,
) -> "VideoSet":
    """Open the one data set that was named."""
    from stmtrain.locations import parse_location
    from stmtrain.video_sets import davis_set, packed_set, plain_set, youtube_vos_set

    named = {"--davis": davis, "--youtube-vos": youtube_vos, "--videos": videos, "--shards": shards}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise UsageError(
            f"expected one of {', '.join(named)}, found {' and '.join(given) or 'none of them'}"
        )
    if split is not None and given[0] in ("--videos", "--shards"):
        raise UsageError(f"--split: {given[0]} has no splits; leave it out")
    if davis is not None:
        return davis_set(davis, year, split or "val")
    if youtube_vos is not None:
        return youtube_vos_set(youtube_vos, split or "valid")
    return plain_set(videos) if videos is not None else packed_set(parse_location(str(shards)))


def _print_notes(console: "Console", notes: Sequence[str], most: int = 8) -> None:
    for note in notes[:most]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > most:
        console.print(f"note: and {len(notes) - most} more like these", highlight=False)
