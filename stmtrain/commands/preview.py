"""The command ``stm preview``: clips of a shard set in the terminal or in a picture file."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import CacheFolder, CacheSize, Location, Seed
from stmtrain.errors import UsageError

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
    from stmtrain.images.draw import animation, contact_sheet, save_gif, save_png
    from stmtrain.images.terminal import terminal
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.urls import parse_location
    from stmtrain.shards.view import choose_samples, read_view

    if save is not None and save.suffix.lower() not in (".png", ".gif"):
        raise UsageError(
            f"{save}: expected a name that ends in .png or .gif, found {save.suffix!r}"
        )
    animated = save is not None and save.suffix.lower() == ".gif"
    limit = frames or (_GIF_FRAMES if animated else _STILL_FRAMES)
    location = parse_location(shards)
    remote = isinstance(location, str)
    shard_set = ShardSet.open(location, user_cache(cache, cache_size) if remote else None)
    views = [
        read_view(shard_set, index, limit, evenly=animated)
        for index in choose_samples(shard_set, count=count, key=key, seed=seed)
    ]
    console = open_console()
    if save is None:
        for view in views:
            console.print(terminal(view, console))
        return
    if animated:
        save_gif(save, animation(views))
    else:
        save_png(save, contact_sheet(views))
    print_plain(console, f"picture: {save}")
