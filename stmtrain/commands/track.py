"""The command track. Options and wiring only."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.commands.command import command, nothing_kept, open_console, print_plain
from stmtrain.commands.options import Checkpoint, Device, inference_options, share_options
from stmtrain.extras import has_extra, pip_install

if TYPE_CHECKING:
    from stmtrain.inference.options import Inference

app = typer.Typer()


def _kept(out: Path, **_options: object) -> str:
    """Say after Ctrl-C which masks there are; the memory is lost, so it cannot be resumed."""
    masks = sum(1 for _ in (out / "masks").glob("*.png"))
    if not masks:
        return nothing_kept()
    return f"{out}/masks has the masks of {masks} frames; add --overwrite to start again"


@command(app, "track", _kept)
@share_options(options=partial(inference_options, memory_frames=40, size=480))
def track(
    options: "Inference",
    source: Annotated[Path, typer.Argument(help="Video file, or folder of frames.")],
    mask: Annotated[
        list[str],
        typer.Option(help="FILE: mask of the first frame; FRAME=FILE: of another. Repeatable."),
    ],
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Folder for masks, overlay and summary.json.")],
    overlay: Annotated[bool, typer.Option(help="Draw the masks over the frames.")] = True,
    fps: Annotated[
        float | None, typer.Option(help="Of the overlay; else the video's, 25 for a folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's results.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Track objects through your own video, given their masks in any frames."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.inference.film import FILM_NAME, FOLDER_NAME
    from stmtrain.inference.track import track as track_video
    from stmtrain.training.distributed import usable_device

    console = open_console()
    with progress_bar(console, "track", "frames") as progress:
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
            progress=progress,
        )
    lines = [*(f"warning: {text}" for text in tracked.summary["warnings"]), *tracked.lines()]
    if overlay and not has_extra("video"):
        lines.append(f"overlay/ has JPEGs; {pip_install('video')} gives an MP4")
    rate = tracked.summary["frames_per_second"]
    shown = out / (FILM_NAME if has_extra("video") else FOLDER_NAME) if overlay else out / "masks"
    lines.append(
        f"{out}: {len(tracked.names)} frames, {rate:.1f} frames/s with reading and writing"
    )
    lines.append(f"next: look at {shown}")
    print_plain(console, "\n".join(lines))
