"""``stm preview``. Options and wiring only."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import CacheFolder, CacheSize, Seed, share_options
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from stmtrain.preview.clips import Clips
    from stmtrain.shards.reader import ShardSet

app = typer.Typer()

_CLIPS = 4
_FRAMES = {".png": 6, ".gif": 40, ".mp4": 240}
"""Most clips, and most frames of each, that are saved or printed unless the user asks for more."""


@dataclass(frozen=True)
class Choice:
    """Which clips are shown, and how much of them."""

    keys: list[str]
    random: bool
    count: int | None
    frames: int | None
    seed: int


def which_clips(
    key: Annotated[list[str] | None, typer.Option(help="Show this clip; repeatable.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Shuffle the clips by --seed.")] = False,
    count: Annotated[
        int | None, typer.Option(min=1, help="Clips; 4, or all of them where they are played.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of each clip, evenly spaced.")
    ] = None,
    seed: Seed = 0,
) -> Choice:
    """Collect the options that choose clips."""
    return Choice(key or [], random, count, frames, seed)


@command(app, "preview")
@share_options(choice=which_clips)
def preview(
    choice: Choice,
    shards: Annotated[
        list[str] | None,
        typer.Argument(help="Shard folders or s3://, gs://, hf://, https:// URLs of them."),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write FILE.png, .gif, .mp4 or .rrd.")] = None,
    still: Annotated[
        bool, typer.Option("--still", help="Print frames in a terminal too, do not play them.")
    ] = False,
    protocol: Annotated[
        str | None, typer.Option(help="Of pictures: kitty, iterm2, blocks, blocks256, digits.")
    ] = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
) -> None:
    """Play clips with their masks and object ids in the terminal, or save them as pictures."""
    from stmtrain.preview.protocol import parse_protocol
    from stmtrain.preview.save import saver
    from stmtrain.preview.show import plays, show

    console = open_console()
    asked, write = parse_protocol(protocol), None if save is None else saver(save)
    if not shards:
        raise UsageError("preview: expected the folder or URL of a shard set")
    playing = write is None and plays(console, still)
    if not playing:
        frames = _FRAMES.get(".png" if save is None else save.suffix.lower())
        choice = replace(choice, count=choice.count or _CLIPS, frames=choice.frames or frames)
    sets = _open(shards, cache, cache_size)
    clips = _stored(sets, choice, masked=save is None or save.suffix.lower() == ".png")
    if save is None or write is None:
        show(clips, console, asked, still=still)
    else:
        write(save, clips)
        print_plain(console, f"saved: {save}")


def _open(shards: list[str], cache: Path | None, cache_size: float) -> "list[ShardSet]":
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.urls import parse_location

    locations = [parse_location(text) for text in shards]
    remote = any(isinstance(location, str) for location in locations)
    store = user_cache(cache, cache_size) if remote else None
    return [ShardSet.open(location, store) for location in locations]


def _stored(sets: "list[ShardSet]", choice: Choice, masked: bool) -> "Clips":
    """Return stored samples: those with the keys, or all of them in order or shuffled."""
    import numpy as np

    from stmtrain.preview.stored import in_order, stored_clips, with_keys

    rng = np.random.default_rng(choice.seed) if choice.random else None
    places = with_keys(sets, choice.keys) if choice.keys else in_order(sets, rng)
    return stored_clips(sets, places[: choice.count], choice.frames, masked=masked)
