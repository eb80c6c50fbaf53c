"""``stm preview``. Options and wiring only."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmdata.commands.preview_options import (
    PROTOCOLS,
    AsTrained,
    Choice,
    Recipe,
    StillImages,
    recipe_options,
    still_images,
    training_step,
    which_clips,
)
from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import CacheFolder, CacheSize, offer, share_options
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.console import Console

    from stmtrain.preview.clips import Clips
    from stmtrain.shards.reader import ShardSet

app = typer.Typer()

_CLIPS = 4
_FRAMES = {".png": 6, ".gif": 40, ".mp4": 240}
"""Most clips, and most frames of each, that are saved or printed unless the user asks for more."""


@command(app, "preview")
@share_options(
    choice=which_clips, trained=training_step, stills=still_images, recipe=recipe_options
)
def preview(
    choice: Choice,
    trained: AsTrained,
    stills: StillImages,
    recipe: Recipe,
    shards: Annotated[
        list[str] | None,
        typer.Argument(help="Shard folders or s3://, gs://, hf://, https:// URLs of them."),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write FILE.png, .gif, .mp4 or .rrd.")] = None,
    still: Annotated[
        bool, typer.Option("--still", help="Print frames in a terminal too, do not play them.")
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Of pictures: kitty, iterm2, blocks, blocks256 or digits.",
            autocompletion=offer(lambda: PROTOCOLS),
        ),
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
    playing = write is None and plays(console, still)
    kind = ".png" if save is None else save.suffix.lower()
    with nullcontext() if choice.worst else console.status("reading"):
        if trained.as_trained is not None:
            _refuse("--as-trained", stills)
            clips, few = _as_trained(trained, recipe, choice, shards or [], cache, cache_size)
        elif stills.images is not None:
            _refuse("--images", trained)
            clips, few = _synthesised(stills, recipe, choice, shards or [], cache), _CLIPS
        else:
            _refuse("stored clips", trained, stills, recipe)
            if not playing and not choice.frames:
                choice = replace(choice, frames=_FRAMES.get(kind, 0))
            sets = _open(shards or [], cache, cache_size)
            clips, few = _stored(sets, choice, kind == ".png", console), _CLIPS
    clips = clips[: choice.limit or (None if playing else few)]
    if save is None or write is None:
        show(clips, console, asked, still=still)
    else:
        with console.status("saving"):
            write(save, clips)
        print_plain(console, f"saved: {save}")


def _open(shards: list[str], cache: Path | None, cache_size: float) -> "list[ShardSet]":
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.urls import parse_location

    if not shards:
        raise UsageError("preview: expected the folder or URL of a shard set")
    locations = [parse_location(text) for text in shards]
    remote = any(isinstance(location, str) for location in locations)
    store = user_cache(cache, cache_size) if remote else None
    return [ShardSet.open(location, store) for location in locations]


def _stored(sets: "list[ShardSet]", choice: Choice, masked: bool, console: "Console") -> "Clips":
    """Return stored samples: those with the keys, the worst, or all in order or shuffled."""
    import numpy as np

    from stmtrain.commands.progress import progress_bar
    from stmtrain.preview.stored import in_order, stored_clips, with_keys
    from stmtrain.preview.worst import MOST_MEASURED, parse_worst, worst_places

    limit = choice.frames or None
    if choice.key:
        _refuse("--key", replace(choice, key=[], limit=0, frames=0, seed=None))
        return stored_clips(sets, with_keys(sets, choice.key), limit, masked=masked)
    rng = np.random.default_rng(choice.seed or 0)
    places = in_order(sets, rng if choice.random or choice.worst else None)
    if choice.worst is None:
        return stored_clips(sets, places, limit, masked=masked)
    worst = parse_worst(choice.worst)
    with progress_bar(console, f"--worst {worst}", "clips") as progress:
        found = worst_places(sets, places, worst, progress)
    if len(places) > MOST_MEASURED:
        note = f"note: the worst of {MOST_MEASURED} clips out of {len(places)}; --seed draws others"
        print_plain(console, note)
    return stored_clips(sets, list(found), limit, masked=masked, notes=found)


def _as_trained(
    trained: AsTrained,
    recipe: Recipe,
    choice: Choice,
    shards: list[str],
    cache: Path | None,
    cache_size: float,
) -> "tuple[Clips, int]":
    """Return the clips of a step of training and those after it, and how many the step has."""
    from stmtrain.training.as_trained import trained_clips
    from stmtrain.training.data_file import check_data, read_data
    from stmtrain.training.recipe import load_recipe
    from stmtrain.training.run_folder import RECIPE_NAME
    from stmtrain.training.setup import TrainOptions, open_data, parse_shards

    _refuse("--as-trained", replace(choice, limit=0, seed=None))
    locations, weights = parse_shards([*shards, *trained.shards])
    options, identity, name = TrainOptions(locations, weights, Path()), None, recipe.recipe
    if trained.run is not None:
        _refuse("--run", replace(recipe, size=None))
        known, identity = read_data(trained.run)
        name = str(trained.run / RECIPE_NAME)
        options = replace(known, shards=locations, weights=weights) if locations else known
    elif not locations:
        raise UsageError("--as-trained: expected --run, or shard sets as in stm train")
    values = {"batch_size": trained.batch_size, "size": recipe.size, "seed": choice.seed}
    chosen = load_recipe(name or "pretrain", tuple(trained.set), **values)
    options = replace(options, cache=cache, cache_size=cache_size, prefetch=1)
    data = open_data(options, chosen)
    if trained.run is not None and identity is not None:
        check_data(data, identity, trained.run)
    clips = trained_clips(options, chosen, data, trained.as_trained or 0, beside=trained.beside)
    return clips, chosen.batch_size


def _synthesised(
    stills: StillImages, recipe: Recipe, choice: Choice, more: list[str], cache: Path | None
) -> "Clips":
    """Return clips of still images as packing would make them, of one or several recipes."""
    from stmdata.packing.clips import ClipOptions, prepare_coco, prepare_masks
    from stmdata.packing.unpacked import unpacked_clips
    from stmdata.synthesis.recipe import load_recipe

    if stills.images is None or (stills.annotations is None) == (stills.masks is None):
        raise UsageError("--images: expected --annotations or --masks with it, one of the two")
    if choice.random or choice.worst:
        raise UsageError(
            "--random, --worst: are not used with --images; clips of still images have a random "
            "order, which --seed changes"
        )
    if more and not stills.compare:
        raise UsageError(f"{more[0]}: expected no shard set with --images; recipes: --compare")
    if stills.compare and recipe.recipe:
        raise UsageError("--recipe: name it after --compare")
    plans = {}
    for name in [*stills.compare, *more] or [recipe.recipe or "default"]:
        options = ClipOptions(
            load_recipe(name),
            frames=choice.frames or 3,
            size=recipe.size or 384,
            seed=choice.seed or 0,
            on_bad_image="skip",
        )
        if stills.annotations is not None:
            plan = prepare_coco(stills.images, stills.annotations, options, cache=cache)
        else:
            plan = prepare_masks(stills.images, stills.masks or stills.images, options)
        plans[Path(name).stem] = plan
    return unpacked_clips(plans, choice.key)


def _refuse(where: str, *groups: "DataclassInstance") -> None:
    """Refuse options that are not used there."""
    for group in groups:
        for name, value in vars(group).items():
            if value:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option}: is not used with {where}; omit it")
