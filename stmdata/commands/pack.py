"""``stm pack-videos``, ``pack-davis`` and ``pack-youtube-vos``. Options and wiring only."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stmdata.commands.options import OnBadVideo, Overwrite, Resize
from stmdata.commands.run import kept_shards, run_packing
from stmtrain.commands.command import command
from stmtrain.commands.options import Layout, OnBad, Out, Split, Workers, Year

app = typer.Typer()


@command(app, "pack-videos", kept_shards)
def pack_videos(
    root: Annotated[Path, typer.Option(help="Root folder of the data set.")],
    layout: Annotated[str, Layout(help="Name of the data set, such as davis2017.")],
    split: Split = "train",
    out: Out = Path("shards/videos"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
    on_bad_video: OnBadVideo = OnBad.RAISE,
) -> None:
    """Pack the videos of any known data set as they are, or resized, into shards."""
    from stmdata.packing.videos import prepare_videos

    plan = partial(prepare_videos, layout, root, split, resize, on_bad_video=on_bad_video.value)
    run_packing(plan, out, "videos", workers, overwrite)


@command(app, "pack-davis", kept_shards)
def pack_davis(
    root: Annotated[Path, typer.Option("--root", "--davis", help="DAVIS root (holds JPEGImages).")],
    year: Year = 2017,
    split: Split = "train",
    out: Out = Path("shards/davis"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
    on_bad_video: OnBadVideo = OnBad.RAISE,
) -> None:
    """Pack DAVIS videos as they are, or resized, into shards."""
    pack_videos(root, f"davis{year}", split, out, resize, workers, overwrite, on_bad_video)


@command(app, "pack-youtube-vos", kept_shards)
def pack_youtube_vos(
    root: Annotated[
        Path, typer.Option("--root", "--youtube-vos", help="YouTube-VOS root (holds the splits).")
    ],
    split: Split = "train",
    out: Out = Path("shards/youtube-vos"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
    on_bad_video: OnBadVideo = OnBad.RAISE,
) -> None:
    """Pack YouTube-VOS videos as they are, or resized, into shards."""
    pack_videos(root, "youtube-vos", split, out, resize, workers, overwrite, on_bad_video)
