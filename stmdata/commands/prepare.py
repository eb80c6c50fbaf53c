"""``stm prepare-coco`` and ``stm prepare-masks``. Options and wiring only."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmdata.commands.options import Annotations, Images, IndexCache, Overwrite, clip_recipes
from stmdata.commands.run import kept_shards, run_packing
from stmtrain.commands.command import command
from stmtrain.commands.options import OnBad, Out, Seed, Workers, offer, share_options
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from stmdata.packing.clips import ClipOptions

app = typer.Typer()

Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N images.")]


def _appearances() -> Iterable[str]:
    from stmdata.synthesis.appearance_policy import POLICIES

    return POLICIES


def clip_options(
    recipe: Annotated[
        str,
        typer.Option(help="default, classic, or FILE.toml.", autocompletion=offer(clip_recipes)),
    ] = "default",
    appearance: Annotated[
        str | None,
        typer.Option(
            help="none, light, strong, or FILE.toml; else the recipe's.",
            autocompletion=offer(_appearances),
        ),
    ] = None,
    variants: Annotated[int, typer.Option(min=1, help="Clips made of each image.")] = 1,
    frames: Annotated[int, typer.Option(help="Frames of a clip, to 16.")] = 3,
    size: Annotated[int, typer.Option(help="Side of the clip, pixels.")] = 384,
    clips_per_shard: Annotated[int, typer.Option(help="Clips of a shard.")] = 400,
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 95,
    seed: Seed = 0,
    on_bad_image: Annotated[OnBad, typer.Option(help="Stop, or skip and count.")] = OnBad.RAISE,
    show_recipe: Annotated[
        bool, typer.Option("--show-recipe", help="Print the recipe as TOML and stop.")
    ] = False,
) -> "ClipOptions":
    """Build the settings of a clip set; with ``show_recipe``, print the recipe and exit."""
    # Before NumPy loads: its matrix library would start a thread per core for 3x3 products in every
    # worker, which takes a third of all processor time with light appearance and gains nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dataclasses import replace

    from stmdata.packing.clips import ClipOptions
    from stmdata.synthesis.recipe import load_recipe
    from stmtrain.settings import to_toml

    chosen = load_recipe(recipe)
    if appearance is not None:
        chosen = replace(chosen, appearance=appearance)
    if show_recipe:
        typer.echo(to_toml(chosen), nl=False)
        raise typer.Exit
    return ClipOptions(
        chosen,
        variants=variants,
        frames=frames,
        size=size,
        seed=seed,
        clips_per_shard=clips_per_shard,
        quality=quality,
        on_bad_image=on_bad_image.value,
    )


@command(app, "prepare-coco", kept_shards)
@share_options(options=clip_options)
def prepare_coco(
    options: "ClipOptions",
    images: Images = None,
    annotations: Annotations = None,
    out: Out = Path("shards/coco"),
    limit: Limit = None,
    cache: IndexCache = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Turn COCO-format images and instance masks into shards of pseudo-video clips."""
    if images is None or annotations is None:
        raise UsageError("prepare-coco needs --images and --annotations")
    from stmdata.packing.clips import prepare_coco

    plan = partial(prepare_coco, images, annotations, options, limit, cache)
    run_packing(plan, out, "clips", workers, overwrite)


@command(app, "prepare-masks", kept_shards)
@share_options(options=clip_options)
def prepare_masks(
    options: "ClipOptions",
    images: Images = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, paired by name.")] = None,
    out: Out = Path("shards/masks"),
    limit: Limit = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Turn saliency or segmentation images with masks into shards of pseudo-video clips."""
    if images is None or masks is None:
        raise UsageError("prepare-masks needs --images and --masks")
    from stmdata.packing.clips import prepare_masks

    plan = partial(prepare_masks, images, masks, options, limit)
    run_packing(plan, out, "clips", workers, overwrite)
