"""``stm pack-videos``, ``pack-davis`` and ``pack-youtube-vos``. Options and wiring only."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stmdata.commands.options import OnBadVideo, Overwrite, Resize
from stmdata.commands.run import kept_shards, run_packing
from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import AnySplit, Layout, OnBad, Out, Split, Workers, Year

app = typer.Typer()


class Overlapping(StrEnum):
    """Which object is on top where some overlap."""

    SMALLER = "smaller"
    HIGHER = "higher"
    LOWER = "lower"


class Frames(StrEnum):
    """Which frames are packed."""

    ALL = "all"
    MASKED = "masked"


class ManyObjects(StrEnum):
    """What to do with a video of more objects than a label map can hold."""

    REFUSE = "refuse"
    SPLIT = "split"


@command(app, "pack-videos", kept_shards)
def pack_videos(
    root: Annotated[Path, typer.Option(help="Root folder of the data set.")],
    layout: Annotated[
        str, Layout(help="How it lies on disk: a name such as mose-v2, or auto.")
    ] = "auto",
    split: AnySplit = None,
    out: Out = Path("shards/videos"),
    resize: Resize = None,
    overlap: Annotated[
        Overlapping, typer.Option(help="Object on top where some overlap: by area or by id.")
    ] = Overlapping.SMALLER,
    frames: Annotated[
        Frames, typer.Option(help="All frames, or only those with a mask.")
    ] = Frames.ALL,
    many_objects: Annotated[
        ManyObjects, typer.Option(help="A video of more than 254: refuse it, or make several.")
    ] = ManyObjects.REFUSE,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
    on_bad_video: OnBadVideo = OnBad.RAISE,
) -> None:
    """Pack the videos of any known data set as they are, or resized, into shards."""
    from stmdata.packing.videos import prepare_videos
    from stmtrain.datasets.tree import open_dataset

    tree = open_dataset(root, layout)
    if tree.why:
        print_plain(open_console(), f"{root}: {tree.why}")
    plan = partial(
        prepare_videos,
        tree.dataset.name,
        root,
        split,
        resize,
        overlap=overlap.value,
        frames=frames.value,
        many_objects=many_objects.value,
        on_bad_video=on_bad_video.value,
    )
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
    pack_videos(
        root,
        f"davis{year}",
        split,
        out,
        resize,
        workers=workers,
        overwrite=overwrite,
        on_bad_video=on_bad_video,
    )


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
    pack_videos(
        root,
        "youtube-vos",
        split,
        out,
        resize,
        workers=workers,
        overwrite=overwrite,
        on_bad_video=on_bad_video,
    )
