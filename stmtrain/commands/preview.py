"""The command ``stm preview``: clips of a shard set in the terminal or in a picture file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.commands.command import command, open_console
from stmtrain.commands.options import CacheFolder, CacheSize, Location, Seed
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.shards.cache import Cache

app = typer.Typer()

_STILL_FRAMES, _GIF_FRAMES = 6, 40


@command(app, "preview")
def preview(
    shards: Location,
    count: Annotated[int, typer.Option(min=1, help="Samples shown.")] = 4,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of each sample.")] = None,
    key: Annotated[str | None, typer.Option(help="Show this sample.")] = None,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option(help="Write FILE.png or FILE.gif.")] = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
) -> None:
    """Show clips with their masks and object ids, in the terminal or as a picture."""
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.urls import parse_location

    console, location = open_console(), parse_location(shards)
    show(
        location,
        count=count,
        frames=frames,
        key=key,
        seed=seed,
        save=save,
        console=console,
        cache=user_cache(cache, cache_size) if isinstance(location, str) else None,
    )
    if save is not None:
        console.print(f"picture: {save}", highlight=False)


def show(
    shards: Path | str,
    *,
    count: int = 4,
    frames: int | None = None,
    key: str | None = None,
    seed: int = 0,
    save: Path | None = None,
    console: "Console | None" = None,
    cache: "Cache | None" = None,
) -> list[str]:
    """Show clips of a shard set in the terminal, or save them as a picture.

    Args:
        shards: Folder or URL of the set.
        count: Number of samples, drawn by ``seed`` without repetition; >= 1.
        frames: Maximum number of frames per sample; 6 by default, 40 for a GIF.
        key: Show this sample instead.
        seed: Determines which samples are drawn.
        save: File for a contact sheet (``.png``) or an animation (``.gif``), instead of output to
            the terminal.
        console: Console to print to; standard output by default.
        cache: Cache for shards from a URL; by default in the user's cache folder.

    Returns:
        The keys of the samples shown.

    Raises:
        UsageError: Unknown key or file type, a count below 1, or ``save`` cannot be written.
        DataError: The set or a sample in it is damaged.
        RemoteError: The server does not respond, or refuses access.
    """
    from rich.console import Console

    from stmtrain.images.draw import animation, contact_sheet, save_gif, save_png
    from stmtrain.images.terminal import terminal
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.view import choose_samples, read_view

    kind = _check_request(count, frames, save)
    animated = kind == ".gif"
    limit = frames or (_GIF_FRAMES if animated else _STILL_FRAMES)
    shard_set = ShardSet.open(shards, cache)
    views = [
        read_view(shard_set, index, limit, evenly=animated)
        for index in choose_samples(shard_set, count=count, key=key, seed=seed)
    ]
    console = console or Console()
    if save is None:
        for view in views:
            console.print(terminal(view, console))
    elif animated:
        save_gif(save, animation(views))
    else:
        save_png(save, contact_sheet(views))
    return [view.caption for view in views]


def _check_request(count: int, frames: int | None, save: Path | None) -> str:
    """Check the request; return the suffix of ``save`` in lower case, or an empty string."""
    if count < 1 or (frames is not None and frames < 1):
        raise UsageError(f"expected at least one sample and one frame, found {count} and {frames}")
    kind = save.suffix.lower() if save is not None else ""
    if kind not in ("", ".png", ".gif") or (save is not None and not kind):
        raise UsageError(f"{save}: expected a name that ends in .png or .gif, found {kind!r}")
    return kind
