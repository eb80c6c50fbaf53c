"""The lean commands: train, eval, score, preview. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.command import Davis, OnBad, Seed, Split, Workers, Year, command, open_console
from stmtrain.cores import resolve_workers

__all__ = ["app"]

app = typer.Typer()

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


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


@command(app, "eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Ours, or published STM weights.")],
    davis: Davis,
    out: Annotated[Path, typer.Option(help="Folder for PNGs and results.json.")],
    year: Year = 2017,
    split: Split = "val",
    memory_every: Annotated[int, typer.Option(help="Every Nth frame stays in memory.")] = 5,
    size: Annotated[
        int | None, typer.Option(help="Short side for the network, pixels; else the frames' own.")
    ] = None,
    device: Device = "auto",
    workers: Workers = "auto",
) -> None:
    """Segment a DAVIS split from its first masks, write palette PNGs, and score them."""
    from stmtrain.console import progress_bar
    from stmtrain.evaluate import evaluate_davis
    from stmtrain.train import pick_device

    console = open_console()
    with progress_bar(console, "eval", "frames") as report:
        evaluation = evaluate_davis(
            checkpoint,
            davis,
            year,
            split,
            out,
            device=pick_device(device),
            memory_every=memory_every,
            size=size,
            workers=resolve_workers(workers),
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

    console = open_console()
    with progress_bar(console, "score", "videos") as report:
        scores = score_davis(
            results,
            davis,
            year,
            split,
            resolve_workers(workers),
            lambda done, n: report(done, n, ""),
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

    console = open_console()
    preview(shards, count=count, frames=frames, key=key, seed=seed, save=save, console=console)
    if save is not None:
        console.print(f"picture: {save}", highlight=False)
