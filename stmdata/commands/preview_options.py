"""The options of ``stm preview`` by subject; the fields of each class are named as its options."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stmdata.commands.options import clip_recipes
from stmtrain.commands.options import offer, train_recipes

WORST = ("small", "motion", "occlusion", "vanish")
PROTOCOLS = ("kitty", "iterm2", "blocks", "blocks256", "digits")
"""Repeated here, because their own modules import NumPy and a shell completes at once."""

_Trained = partial(typer.Option, rich_help_panel="As trained")
_Still = partial(typer.Option, rich_help_panel="From still images, before anything is prepared")
_Recipe = partial(typer.Option, rich_help_panel="Recipe, as trained or from still images")


@dataclass(frozen=True)
class Choice:
    """Which clips are shown, and how much of them; a ``limit`` or ``frames`` of 0 is none."""

    key: list[str]
    random: bool
    worst: str | None
    limit: int
    frames: int
    seed: int | None


def which_clips(
    key: Annotated[list[str] | None, typer.Option(help="Show this clip; repeatable.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Shuffle the clips by --seed.")] = False,
    worst: Annotated[
        str | None,
        typer.Option(
            help="The hardest clips first: small, motion, occlusion or vanish.",
            autocompletion=offer(lambda: WORST),
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Clips; a few, or all of them where they are played."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames of each clip, evenly spaced.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of every random choice; else 0, or the run's.")
    ] = None,
) -> Choice:
    """Collect the options that choose clips."""
    return Choice(key or [], random, worst, limit or 0, frames or 0, seed)


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
