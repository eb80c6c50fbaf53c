"""The commands train and preview. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.command import Device, OnBad, Seed, command, open_console

__all__ = ["app"]

app = typer.Typer()


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
        shards=locations,
        weights=weights,
        out=out,
        backbone=backbone,
        backbone_weights=backbone_weights,
        init=init,
        device=device,
        threads=threads,
        resume=resume,
        cache=cache,
        cache_size=cache_size,
        prefetch=prefetch,
        on_bad_sample=on_bad_sample.value,
    )
    console = open_console()
    with progress_bar(console, f"train {chosen.name}", "steps") as report:
        path = train(
            run,
            chosen,
            lambda p: report(p.step, p.steps, progress_note(p)),
            lambda here, n: report(0, chosen.steps, f"fetched {here} of the first {n} shards"),
        )
    console.print(f"checkpoint: {path}", highlight=False)


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

    console = open_console()
    preview(shards, count=count, frames=frames, key=key, seed=seed, save=save, console=console)
    if save is not None:
        console.print(f"picture: {save}", highlight=False)
