"""``stm preview``. Options and wiring only."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmdata.commands.options import clip_recipes
from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import CacheFolder, CacheSize, offer, share_options, train_recipes
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from stmtrain.preview.clips import Clips

app = typer.Typer()

_CLIPS = 4
_FRAMES = {".png": 6, ".gif": 40, ".mp4": 240}
"""Most clips, and most frames of each, that are saved or printed unless the user asks for more."""

_Trained = partial(typer.Option, rich_help_panel="As trained")
_Still = partial(typer.Option, rich_help_panel="From still images, before anything is prepared")
_Recipe = partial(typer.Option, rich_help_panel="Recipe, as trained or from still images")


@dataclass(frozen=True)
class Choice:
    """Which clips are shown, and how much of them; 0 clips or frames are all.

    The fields of this class and those below are named as their options.
    """

    key: list[str]
    random: bool
    count: int
    frames: int
    seed: int | None


def which_clips(
    key: Annotated[list[str] | None, typer.Option(help="Show this clip; repeatable.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Shuffle the clips by --seed.")] = False,
    count: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Clips; a few, or all of them where they are played."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of each clip, evenly spaced.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every random choice; else 0, or the run's.")
    ] = None,
) -> Choice:
    """Collect the options that choose clips."""
    return Choice(key or [], random, count or 0, frames or 0, seed)


@dataclass(frozen=True)
class Recipe:
    """Which recipe is used, with the values of some of its fields."""

    recipe: str | None
    size: int | None


def recipe_options(
    recipe: Annotated[
        str | None,
        _Recipe(
            help="pretrain or main; of still images default or classic; or FILE.toml.",
            autocompletion=offer(lambda: [*train_recipes(), *clip_recipes()]),
        ),
    ] = None,
    size: Annotated[int | None, _Recipe(help="Side of the clip, pixels.")] = None,
) -> Recipe:
    """Collect the options of a recipe."""
    return Recipe(recipe, size)


@dataclass(frozen=True)
class AsTrained:
    """Which step of which run is shown."""

    as_trained: int | None
    run: Path | None
    shards: list[str]
    set: list[str]
    batch_size: int | None
    beside: bool


def training_step(
    as_trained: Annotated[
        int | None, _Trained(min=0, metavar="STEP", help="Show what training gets at this step.")
    ] = None,
    run: Annotated[Path | None, _Trained(help="Run folder: its recipe and shards.")] = None,
    shards_: Annotated[
        list[str] | None,
        _Trained("--shards", help="As in stm train: LOCATION or LOCATION=WEIGHT; repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None, _Trained("--set", help="A recipe field as field=value; repeatable.")
    ] = None,
    batch_size: Annotated[int | None, _Trained(help="Clips per step.")] = None,
    beside: Annotated[
        bool, _Trained("--beside", help="Show the stored frames next to it.")
    ] = False,
) -> AsTrained:
    """Collect the options that choose a step of training."""
    return AsTrained(as_trained, run, shards_ or [], set_ or [], batch_size, beside)


@dataclass(frozen=True)
class StillImages:
    """Still images with objects, and the recipes to compare."""

    images: Path | None
    annotations: Path | None
    masks: Path | None
    compare: list[str]


def still_images(
    images: Annotated[Path | None, _Still(help="Folder of the images.")] = None,
    annotations: Annotated[Path | None, _Still(help="COCO-format instances JSON.")] = None,
    masks: Annotated[Path | None, _Still(help="Or a folder of masks, paired by name.")] = None,
    compare: Annotated[
        list[str] | None,
        _Still(
            metavar="RECIPE...",
            help="Recipes side by side, from the same seed: --compare classic default FILE.toml.",
        ),
    ] = None,
) -> StillImages:
    """Collect the options that name still images."""
    return StillImages(images, annotations, masks, compare or [])


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
    playing = write is None and plays(console, still)
    kind = ".png" if save is None else save.suffix.lower()
    with console.status("reading"):
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
            clips, few = _stored(shards or [], choice, kind == ".png", cache, cache_size), _CLIPS
    clips = clips[: choice.count or (None if playing else few)]
    if save is None or write is None:
        show(clips, console, asked, still=still)
    else:
        write(save, clips)
        print_plain(console, f"saved: {save}")


def _stored(
    shards: list[str], choice: Choice, masked: bool, cache: Path | None, cache_size: float
) -> "Clips":
    """Return stored samples: those with the keys, or all of them in order or shuffled."""
    import numpy as np

    from stmtrain.preview.stored import in_order, stored_clips, with_keys
    from stmtrain.shards.cache import user_cache
    from stmtrain.shards.reader import ShardSet
    from stmtrain.shards.urls import parse_location

    if not shards:
        raise UsageError("preview: expected the folder or URL of a shard set")
    locations = [parse_location(text) for text in shards]
    remote = any(isinstance(location, str) for location in locations)
    store = user_cache(cache, cache_size) if remote else None
    sets = [ShardSet.open(location, store) for location in locations]
    rng = np.random.default_rng(choice.seed or 0) if choice.random else None
    places = with_keys(sets, choice.key) if choice.key else in_order(sets, rng)
    return stored_clips(sets, places, choice.frames or None, masked=masked)


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

    _refuse("--as-trained", replace(choice, count=0, seed=None))
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
    if choice.random:
        raise UsageError("--random: clips of still images have a random order; change --seed")
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
