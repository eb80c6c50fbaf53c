"""The options by which commands name a data set of videos, and how they are opened."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.datasets.video_set import VideoSet

__all__ = [
    "OwnTruth",
    "PackedTruth",
    "Truth",
    "TruthSplit",
    "YouTubeTruth",
    "open_video_set",
    "print_notes",
]

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


def open_video_set(
    davis: Path | None,
    youtube_vos: Path | None,
    videos: Path | None,
    shards: str | None,
    year: int,
    split: str | None,
) -> "VideoSet":
    """Open the one data set that was named."""
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
    if split is not None and given[0] in ("--videos", "--shards"):
        raise UsageError(f"--split: {given[0]} has no splits; leave it out")
    if davis is not None:
        return find_dataset(f"davis{year}").open(davis, split)
    if youtube_vos is not None:
        return find_dataset("youtube-vos").open(youtube_vos, split)
    return folder_set(videos) if videos is not None else packed_set(parse_location(str(shards)))


def print_notes(console: "Console", notes: Sequence[str], most: int = 8) -> None:
    """Print what a reader should know of result files, the first few."""
    for note in notes[:most]:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > most:
        console.print(f"note: and {len(notes) - most} more like these", highlight=False)
