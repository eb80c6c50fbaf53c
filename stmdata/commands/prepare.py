"""The offline commands: prepare, pack, demo. Options and wiring only."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmdata.commands.run import run_packing
from stmtrain.commands.command import command, open_console
from stmtrain.commands.options import OnBad, Out, Seed, Split, Workers, Year
from stmtrain.errors import UsageError
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from stmdata.packing.clips import Options

__all__ = ["app"]

app = typer.Typer()


Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another set in --out.")]
Resize = Annotated[
    int | None, typer.Option(help="Short side in pixels; without it JPEG bytes pass untouched.")
]
SynthRecipe = Annotated[str, typer.Option(help="default, classic, or FILE.toml.")]
Appearance = Annotated[
    str | None, typer.Option(help="none, light, strong, or FILE.toml; else the recipe's.")
]
Variants = Annotated[int, typer.Option(min=1, help="Clips made of each image.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N images.")]
Frames = Annotated[int, typer.Option(help="Frames of a clip, to 16.")]
Size = Annotated[int, typer.Option(help="Side of the clip, pixels.")]
ClipsPerShard = Annotated[int, typer.Option(help="Clips of a shard.")]
Quality = Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")]
OnBadImage = Annotated[OnBad, typer.Option(help="Stop, or skip and count.")]
ShowRecipe = Annotated[
    bool, typer.Option("--show-recipe", help="Print the recipe as TOML and stop.")
]


def _clip_options(recipe: str, appearance: str | None, show: bool, **fields: Any) -> "Options":
    """Build what the two prepare commands share; with ``show``, print the recipe and end."""
    # Before NumPy loads: its matrix library would start a thread per core for 3x3 products, in
    # every worker (one third of all processor time with light appearance, and nothing gained).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from dataclasses import replace

    from stmdata.packing.clips import Options
    from stmdata.synthesis.recipe import load_recipe
    from stmtrain.settings import to_toml

    chosen = load_recipe(recipe)
    if appearance is not None:
        chosen = replace(chosen, appearance=appearance)
    if show:
        typer.echo(to_toml(chosen), nl=False)
        raise typer.Exit
    return Options(chosen, **fields)


@command(app, "prepare-coco")
def prepare_coco(
    images: Images = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO-format instances JSON.")] = None,
    out: Out = Path("shards/coco"),
    recipe: SynthRecipe = "default",
    appearance: Appearance = None,
    variants: Variants = 1,
    limit: Limit = None,
    frames: Frames = 3,
    size: Size = 384,
    clips_per_shard: ClipsPerShard = 400,
    quality: Quality = 95,
    seed: Seed = 0,
    workers: Workers = "auto",
    on_bad_image: OnBadImage = OnBad.RAISE,
    overwrite: Overwrite = False,
    show_recipe: ShowRecipe = False,
) -> None:
    """Turn COCO-format images and instance masks into shards of pseudo-video clips."""
    options = _clip_options(
        recipe,
        appearance,
        show_recipe,
        variants=variants,
        frames=frames,
        size=size,
        seed=seed,
        clips_per_shard=clips_per_shard,
        quality=quality,
        on_bad_image=on_bad_image.value,
    )
    if images is None or annotations is None:
        raise UsageError("prepare-coco needs --images and --annotations")
    from stmdata.packing.clips import prepare_coco

    run_packing(
        out,
        "clips",
        lambda report: prepare_coco(
            images,
            annotations,
            out,
            options,
            limit=limit,
            workers=resolve_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


@command(app, "prepare-masks")
def prepare_masks(
    images: Images = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks, paired by name.")] = None,
    out: Out = Path("shards/masks"),
    recipe: SynthRecipe = "default",
    appearance: Appearance = None,
    variants: Variants = 1,
    limit: Limit = None,
    frames: Frames = 3,
    size: Size = 384,
    clips_per_shard: ClipsPerShard = 400,
    quality: Quality = 95,
    seed: Seed = 0,
    workers: Workers = "auto",
    on_bad_image: OnBadImage = OnBad.RAISE,
    overwrite: Overwrite = False,
    show_recipe: ShowRecipe = False,
) -> None:
    """Turn saliency or segmentation images with masks into shards of pseudo-video clips."""
    options = _clip_options(
        recipe,
        appearance,
        show_recipe,
        variants=variants,
        frames=frames,
        size=size,
        seed=seed,
        clips_per_shard=clips_per_shard,
        quality=quality,
        on_bad_image=on_bad_image.value,
    )
    if images is None or masks is None:
        raise UsageError("prepare-masks needs --images and --masks")
    from stmdata.packing.clips import prepare_masks

    run_packing(
        out,
        "clips",
        lambda report: prepare_masks(
            images,
            masks,
            out,
            options,
            limit=limit,
            workers=resolve_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


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
    from stmdata.packing.videos import pack_videos
    from stmtrain.datasets.dataset import find_dataset

    run_packing(
        out,
        "videos",
        lambda report: pack_videos(
            find_dataset(f"davis{year}"),
            root,
            split,
            out,
            resize=resize,
            workers=resolve_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


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
    from stmdata.packing.videos import pack_videos
    from stmtrain.datasets.dataset import find_dataset

    run_packing(
        out,
        "videos",
        lambda report: pack_videos(
            find_dataset("youtube-vos"),
            root,
            split,
            out,
            resize=resize,
            workers=resolve_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


@command(app, "demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Do the whole main job on drawn data, in under five minutes on two cores."""
    from stmdata.drawn.demo import demo

    demo(out, seed=seed, console=open_console())
