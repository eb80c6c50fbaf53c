"""The ``stm`` command: options and wiring only; the work is in ``stmdata`` and ``stmtrain``.

Nothing heavy is imported at module level, so that ``stm --help`` answers at once.
"""

import functools
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmtrain.errors import StmError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmdata.pack import Progress as PackProgress
    from stmdata.prepare import Options
    from stmtrain.spec import Manifest
    from stmtrain.verify import Verification

__all__ = ["main"]

_HELP = "Prepare video object segmentation data as tar shards and train STM from them."
app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False)
shards_app = typer.Typer(help="Look into shard sets and check them.", no_args_is_help=True)
app.add_typer(shards_app, name="shards")

_debug = False


class OnBad(StrEnum):
    """What to do with an image that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


Out = Annotated[Path, typer.Option(help="Output folder.")]
Folder = Annotated[Path, typer.Argument(help="Shard folder.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Davis = Annotated[Path, typer.Option("--davis", help="DAVIS root (holds JPEGImages).")]
Root = Annotated[Path, typer.Option(help="Data set root (holds JPEGImages).")]
Year = Annotated[int, typer.Option(help="DAVIS year: 2016 or 2017.")]
Split = Annotated[str, typer.Option(help="Split: train, val, ...")]
Workers = Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")]
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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Seed = Annotated[int, typer.Option(help="Decides every random choice.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    global _debug
    _debug = debug


def command(
    parent: typer.Typer, name: str, again: str = "run the same command again to go on"
) -> Callable[[Callable[..., None]], None]:
    """Register a command whose failures end in one line and the right exit code.

    Args:
        parent: The app that the command belongs to.
        name: What the user types.
        again: What to do after Ctrl-C.
    """

    def register(function: Callable[..., None]) -> None:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                raise _end(f"stopped; what was finished is kept, {again}", 130) from None
            except (StmError, OSError) as error:
                if _debug:
                    raise
                raise _end(_one_line(error), getattr(error, "exit_code", 1)) from None

        parent.command(name)(guarded)

    return register


def _end(message: str, code: int) -> typer.Exit:
    typer.echo(f"stm: {message}", err=True)
    return typer.Exit(code)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(str(error).split())


def _console() -> "Console":
    from rich.console import Console

    return Console()


def _workers(text: str) -> int:
    from stmdata.engines import resolve_workers

    return resolve_workers(text)


def _make(out: Path, unit: str, make: "Callable[[PackProgress], Manifest]") -> None:
    """Run an offline command with a progress bar, then say what was made and what was skipped."""
    from stmtrain.console import progress_bar
    from stmtrain.report import manifest_table

    console = _console()
    with progress_bar(console, str(out), unit) as report:
        manifest = make(
            lambda done, total, skipped: report(done, total, f"{skipped} skipped" * bool(skipped))
        )
    console.print(manifest_table(out, manifest))


def _clip_options(recipe: str, appearance: str | None, show: bool, **fields: Any) -> "Options":
    """Build what the two prepare commands share; with ``show``, print the recipe and end."""
    from dataclasses import replace

    from stmdata.prepare import Options
    from stmdata.recipes import load_recipe
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
    from stmdata.prepare import prepare_coco

    _make(
        out,
        "clips",
        lambda report: prepare_coco(
            images,
            annotations,
            out,
            options,
            limit=limit,
            workers=_workers(workers),
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
    from stmdata.prepare import prepare_masks

    _make(
        out,
        "clips",
        lambda report: prepare_masks(
            images,
            masks,
            out,
            options,
            limit=limit,
            workers=_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


@command(app, "pack-davis")
def pack_davis(
    root: Root,
    year: Year = 2017,
    split: Split = "train",
    out: Out = Path("shards/davis"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Pack DAVIS videos as they are, or resized, into shards."""
    from stmdata.videos import pack_davis

    _make(
        out,
        "videos",
        lambda report: pack_davis(
            root,
            year,
            split,
            out,
            resize=resize,
            workers=_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


@command(app, "pack-youtube-vos")
def pack_youtube_vos(
    root: Root,
    split: Split = "train",
    out: Out = Path("shards/youtube-vos"),
    resize: Resize = None,
    workers: Workers = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Pack YouTube-VOS videos as they are, or resized, into shards."""
    from stmdata.videos import pack_youtube_vos

    _make(
        out,
        "videos",
        lambda report: pack_youtube_vos(
            root,
            split,
            out,
            resize=resize,
            workers=_workers(workers),
            overwrite=overwrite,
            progress=report,
        ),
    )


@command(app, "train", again="add --resume to go on with the next batch")
def train(
    shards: Annotated[
        list[str],
        typer.Option(
            help="Shard folder or s3://, gs://, hf://, https:// URL; LOCATION=WEIGHT to mix "
            "several; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoint, recipe, metrics.")],
    recipe: Annotated[str, typer.Option(help="pretrain, main, or FILE.toml.")] = "pretrain",
    backbone: Annotated[str, typer.Option(help="resnet50 or resnet18.")] = "resnet50",
    backbone_weights: Annotated[
        str, typer.Option(help="imagenet, none, or a torchvision ResNet file.")
    ] = "imagenet",
    init: Annotated[Path | None, typer.Option(help="STM weights to start from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; else the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips of a step.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the crop, pixels.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam step size.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Any recipe field as field=value; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random choice.")] = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2,
    prefetch: Annotated[int, typer.Option(min=1, help="Batches made ahead.")] = 2,
    on_bad_sample: Annotated[
        OnBad, typer.Option(help="raise, or skip: the plan's next sample takes its place.")
    ] = OnBad.RAISE,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for shards from URLs; else the user's cache.")
    ] = None,
    cache_size: Annotated[float, typer.Option(help="The most that the cache holds, GB.")] = 50.0,
) -> None:
    """Train STM from shards."""
    from stmtrain.console import progress_bar
    from stmtrain.recipes import load_recipe, with_options
    from stmtrain.run import Run, parse_sources, progress_note
    from stmtrain.train import train

    locations, weights = parse_sources(shards)
    chosen = with_options(
        load_recipe(recipe, tuple(set_ or ())),
        steps=steps,
        batch_size=batch_size,
        size=size,
        learning_rate=learning_rate,
        seed=seed,
    )
    run = Run(
        locations,
        weights,
        out,
        backbone,
        backbone_weights,
        init,
        device,
        threads,
        resume,
        cache,
        cache_size,
        prefetch,
        on_bad_sample.value,
    )
    console = _console()
    with progress_bar(console, f"train {chosen.name}", "steps") as report:
        path = train(
            run,
            chosen,
            lambda p: report(p.step, p.steps, progress_note(p)),
            lambda here, n: report(0, chosen.steps, f"fetched {here} of the first {n} shards"),
        )
    console.print(f"checkpoint: {path}", highlight=False)


@command(app, "eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Ours, or published STM weights.")],
    davis: Davis,
    out: Annotated[Path, typer.Option(help="Folder for PNGs and results.json.")],
    year: Year = 2017,
    split: Split = "val",
    memory_every: Annotated[int, typer.Option(help="Every Nth frame stays in memory.")] = 5,
    device: Device = "auto",
    workers: Workers = "auto",
) -> None:
    """Segment a DAVIS split from its first masks, write palette PNGs, and score them."""
    from stmtrain.console import progress_bar
    from stmtrain.evaluate import evaluate_davis
    from stmtrain.train import pick_device

    console = _console()
    with progress_bar(console, "eval", "frames") as report:
        evaluation = evaluate_davis(
            checkpoint,
            davis,
            year,
            split,
            out,
            device=pick_device(device),
            memory_every=memory_every,
            workers=_workers(workers),
            report=report,
        )
    if evaluation.scores is not None:
        console.print(evaluation.scores.table())
    console.print(evaluation.summary(), highlight=False)


@command(app, "score")
def score(
    results: Annotated[Path, typer.Option(help="Folder with <video>/<frame>.png.")],
    davis: Davis,
    year: Year = 2017,
    split: Split = "val",
    json: Annotated[Path | None, typer.Option("--json", help="Write every number here.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Folder for CSV files as the official tool's.")
    ] = None,
    workers: Workers = "auto",
) -> None:
    """Score anyone's result PNGs with J and F as the official DAVIS code does."""
    from stmtrain.console import progress_bar
    from stmtrain.score import score_davis

    console = _console()
    with progress_bar(console, "score", "videos") as report:
        scores = score_davis(
            results, davis, year, split, _workers(workers), lambda done, n: report(done, n, "")
        )
    console.print(scores.table())
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_bytes(scores.to_json())
    if csv is not None:
        scores.write_csv(csv, split)


@command(app, "preview")
def preview(
    shards: Annotated[Path, typer.Argument(help="Shard folder.")],
    count: Annotated[int, typer.Option(min=1, help="Samples shown.")] = 4,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of each sample.")] = None,
    key: Annotated[str | None, typer.Option(help="Show this sample.")] = None,
    seed: Seed = 0,
    save: Annotated[Path | None, typer.Option(help="Write FILE.png or FILE.gif.")] = None,
) -> None:
    """Show clips with their masks and object ids, in the terminal or as a picture."""
    from stmtrain.preview import preview

    console = _console()
    preview(shards, count=count, frames=frames, key=key, seed=seed, save=save, console=console)
    if save is not None:
        console.print(f"picture: {save}", highlight=False)


@command(shards_app, "info")
def shards_info(folder: Annotated[Path, typer.Argument(help="Shard folder.")]) -> None:
    """Say what a shard set holds and how it was made."""
    from stmtrain.report import manifest_table
    from stmtrain.shards import ShardSet

    _console().print(manifest_table(folder, ShardSet.open(folder).manifest))


@command(shards_app, "verify")
def shards_verify(folder: Folder, workers: Workers = "auto") -> None:
    """Re-hash and decode everything; name every fault with shard, sample and byte."""
    result = _verify(folder, workers)
    for fault in result.faults:
        typer.echo(fault)
    if result.faults:
        raise _end(f'{folder}: {result.summary()}; "stm shards repair" helps', 1)
    typer.echo(f"{folder}: {result.summary()}")


@command(shards_app, "index")
def shards_index(folder: Folder, workers: Workers = "auto") -> None:
    """Make sidecars and a manifest for tars made elsewhere; the tars stay as they are."""
    from stmdata.shard_index import index_shards

    _make(
        folder,
        "samples",
        lambda report: index_shards(folder, workers=_workers(workers), progress=report),
    )


@command(shards_app, "repair")
def shards_repair(
    folder: Folder,
    images: Images = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO-format instances JSON.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of the masks.")] = None,
    root: Annotated[Path | None, typer.Option(help="Root of the videos' data set.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Only unmark bad shards; the first command remakes.")
    ] = False,
    workers: Workers = "auto",
) -> None:
    """List what must be made again and, from its source, make it."""
    from stmdata.repair import forget_shards, repair
    from stmtrain.console import progress_bar

    found = _verify(folder, workers)
    for fault in found.faults:
        typer.echo(fault)
    for name in found.bad_shards:
        typer.echo(f"make again: {name}")
    if forget:
        forget_shards(folder, found)
        typer.echo(f"{folder}: run again the command that made it; it makes what is listed")
        return
    with progress_bar(_console(), f"repair {folder}", "samples") as report:
        changed = repair(
            folder,
            found,
            {"images": images, "annotations": annotations, "masks": masks, "root": root},
            workers=_workers(workers),
            progress=lambda done, total, _: report(done, total, ""),
        )
    for name in changed:
        typer.echo(f"note: {name} has other bytes than before: another release made the set")
    typer.echo(f"{folder}: {len(found.bad_shards)} shards made again; the set is whole")


def _verify(folder: Path, workers: str) -> "Verification":
    """Verify with a progress bar and print what is worth a note."""
    from stmdata.engines import map_unordered
    from stmtrain.console import progress_bar
    from stmtrain.verify import verify

    with progress_bar(_console(), f"verify {folder}", "samples") as report:
        result = verify(
            folder,
            functools.partial(map_unordered, workers=_workers(workers)),
            lambda done, total, size, faults: report(
                done, total, f"{size / 1e6:.0f} MB" + f", {faults} faults" * bool(faults)
            ),
        )
    for note in result.notes:
        typer.echo(f"note: {note}")
    return result


@command(app, "demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Do the whole main job on drawn data, in under five minutes on two cores."""
    from stmdata.demo import demo

    demo(out, seed=seed, console=_console())


def main() -> None:
    """Run ``stm``."""
    app()


if __name__ == "__main__":
    main()
