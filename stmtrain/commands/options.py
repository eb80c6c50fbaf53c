"""Options that several commands share, and what is opened or built from them."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmtrain.commands.command import print_plain
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.datasets.video_set import VideoSet
    from stmtrain.inference.options import Inference

Out = Annotated[Path, typer.Option(help="Output folder.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Workers = Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")]

Checkpoint = Annotated[
    Path, typer.Option(help="Checkpoint of stm train, or published STM weights.")
]

Location = Annotated[
    str, typer.Argument(help="Shard folder or s3://, gs://, hf://, https:// URL of one.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for shards from URLs; else the user's cache."),
]
CacheSize = Annotated[
    float, typer.Option("--cache-size", min=0, help="The most that the cache holds, GB.")
]

DavisRoot = Annotated[Path | None, typer.Option("--davis", help="DAVIS root (holds JPEGImages).")]
YouTubeVosRoot = Annotated[
    Path | None, typer.Option("--youtube-vos", help="Or a YouTube-VOS root (holds the splits).")
]
FolderRoot = Annotated[
    Path | None, typer.Option(help="Or any JPEGImages/VIDEO/*.jpg, Annotations/VIDEO/*.png.")
]
PackedVideos = Annotated[str | None, typer.Option(help="Or packed videos: folder or URL.")]
Year = Annotated[int, typer.Option(help="DAVIS year: 2016 or 2017.")]
Split = Annotated[str, typer.Option(help="Split: train, val, ...")]
ScoredSplit = Annotated[
    str | None,
    typer.Option(help="Split: val, test-dev, ...; of YouTube-VOS: valid, train (public masks)."),
]

_PANEL = "Inference"
MemoryEvery = Annotated[
    int, typer.Option(help="Every Nth frame stays in memory.", rich_help_panel=_PANEL)
]
MemoryFrames = Annotated[
    int | None,
    typer.Option(help="Most frames in memory; 0 for no limit.", rich_help_panel=_PANEL),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Read the K most similar memory positions; else all.",
        rich_help_panel=_PANEL,
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        help="Short side for the network, pixels; 0: the frames' own.", rich_help_panel=_PANEL
    ),
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Average with the mirrored video.", rich_help_panel=_PANEL)
]
Scales = Annotated[
    str, typer.Option(help="Average over these sizes, such as 1,1.3.", rich_help_panel=_PANEL)
]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16.", rich_help_panel=_PANEL)]


class OnBad(StrEnum):
    """What to do with input that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


def inference_of(
    *, scales: str, memory_frames: int | None, size: int | None, **options: Any
) -> "Inference":
    """Build the options of inference from command-line values.

    Raises:
        UsageError: An option has a wrong value; names the option.
    """
    from stmtrain.inference.options import Inference, OptionError

    try:
        factors = tuple(float(part) for part in scales.split(","))
    except ValueError:
        raise UsageError(f"--scales: expected numbers such as 1,1.3, found {scales!r}") from None
    try:
        return Inference(
            scales=factors, memory_frames=memory_frames or None, size=size or None, **options
        )
    except OptionError as error:
        raise UsageError(f"--{error.option.replace('_', '-')}: {error.problem}") from None


def open_video_set(
    davis: Path | None,
    youtube_vos: Path | None,
    videos: Path | None,
    shards: str | None,
    year: int,
    split: str | None,
) -> "VideoSet":
    """Open the one set of videos that was named.

    Raises:
        UsageError: None or several were named, or there is no such year or split.
        DataError: The set is incomplete.
    """
    from stmtrain.datasets.dataset import find_dataset
    from stmtrain.datasets.folder import folder_set
    from stmtrain.datasets.packed import packed_set
    from stmtrain.shards.urls import parse_location

    named = {"--davis": davis, "--youtube-vos": youtube_vos, "--videos": videos, "--shards": shards}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise UsageError(
            f"expected one of {', '.join(named)}, found {' and '.join(given) or 'none of them'}"
        )
    if davis is not None:
        return find_dataset(f"davis{year}").open(davis, split)
    if youtube_vos is not None:
        return find_dataset("youtube-vos").open(youtube_vos, split)
    if split is not None:
        raise UsageError(f"--split: {given[0]} has no splits; omit it")
    return folder_set(videos) if videos is not None else packed_set(parse_location(str(shards)))


def print_notes(console: "Console", notes: Sequence[str], most: int = 8) -> None:
    """Print notes on result files, the first few."""
    for note in notes[:most]:
        print_plain(console, f"note: {note}")
    if len(notes) > most:
        print_plain(console, f"note: and {len(notes) - most} more like these")
