"""``stm pack-davis`` and ``stm pack-youtube-vos``. Options and wiring only."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stmdata.commands.options import Overwrite
from stmdata.commands.run import run_packing
from stmtrain.commands.command import command
from stmtrain.commands.options import Out, Split, Workers, Year

app = typer.Typer()

Resize = Annotated[
    int | None, typer.Option(help="Short side in pixels; without it JPEG bytes pass untouched.")
]


@command(app, "pack-davis")
def pack_davis(
    root: Annotated[Path, typer.Option("--root", "--davis", help="DAVIS root (holds JPEGImages).")],
    year: Year = 2017,
    split: Split = "train",
    out: Out = Path("shards/davis"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Pack DAVIS videos as they are, or resized, into shards."""
    from stmdata.packing.videos import prepare_videos

    plan = partial(prepare_videos, f"davis{year}", root, split, resize)
    run_packing(plan, out, "videos", workers, overwrite)


@command(app, "pack-youtube-vos")
def pack_youtube_vos(
    root: Annotated[
        Path, typer.Option("--root", "--youtube-vos", help="YouTube-VOS root (holds the splits).")
    ],
    split: Split = "train",
    out: Out = Path("shards/youtube-vos"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Pack YouTube-VOS videos as they are, or resized, into shards."""
    from stmdata.packing.videos import prepare_videos

    plan = partial(prepare_videos, "youtube-vos", root, split, resize)
    run_packing(plan, out, "videos", workers, overwrite)
