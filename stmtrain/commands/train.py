"""The command train: options and wiring only."""

import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import (
    command,
    nothing_kept,
    open_console,
    print_next,
    print_plain,
)
from stmtrain.commands.options import (
    BACKBONES,
    CacheFolder,
    CacheSize,
    Device,
    OnBad,
    offer,
    train_recipes,
)
from stmtrain.errors import UsageError
from stmtrain.extras import require
from stmtrain.settings import to_toml

app = typer.Typer()


def _fields() -> Iterable[str]:
    from stmtrain.settings import to_mapping
    from stmtrain.training.recipe import PRETRAIN

    return [f"{name}=" for name in to_mapping(PRETRAIN)]


def kept_run(out: Path | None, replay: Path | None, **_options: object) -> str:
    """Say after Ctrl-C which step is saved; the run may have ended before its first one."""
    if replay is not None or out is None:
        return nothing_kept()
    checkpoint = out / "checkpoint.pt"
    if not checkpoint.exists():
        return "no step was done yet; run the same command again to start"
    return f"{checkpoint} has every finished step; add --resume to continue with the next"


@command(app, "train", kept_run)
def train(
    shards: Annotated[
        list[str] | None,
        typer.Option(
            help="Shard folder or s3://, gs://, hf://, https:// URL; LOCATION=WEIGHT to mix "
            "several; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder: checkpoints, recipe, metrics, curves.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="pretrain, main, or FILE.toml.", autocompletion=offer(train_recipes))
    ] = "pretrain",
    show_recipe: Annotated[
        bool,
        typer.Option("--show-recipe", help="Print the recipe as TOML, with --set, and stop."),
    ] = False,
    backbone: Annotated[
        str,
        typer.Option(
            help="resnet50, resnet18 or resnest101.", autocompletion=offer(lambda: BACKBONES)
        ),
    ] = "resnet50",
    backbone_weights: Annotated[
        str,
        typer.Option(
            help="imagenet, none, or a file of that classification network.",
            autocompletion=offer(lambda: ("imagenet", "none")),
        ),
    ] = "imagenet",
    init: Annotated[Path | None, typer.Option(help="STM weights to start from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, if not the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips per step, over all GPUs.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the training crop, pixels.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam step size.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any recipe field as field=value; repeatable.",
            autocompletion=offer(_fields),
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    device: Device = "auto",
    gpus: Annotated[
        int, typer.Option(min=1, help="Processes, one per GPU (or on the CPU: --device cpu).")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads per process.")] = 2,
    prefetch: Annotated[int, typer.Option(min=1, help="Batches prepared ahead.")] = 2,
    on_bad_sample: Annotated[
        OnBad, typer.Option(help="raise, or skip: the plan's next sample takes its place.")
    ] = OnBad.RAISE,
    rank_timeout: Annotated[
        float, typer.Option(min=10, help="Seconds until a rank that does not respond ends all.")
    ] = 300.0,
    val: Annotated[
        str | None, typer.Option(help="Shards of complete videos to validate on (see val_every).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    other_data: Annotated[
        bool, typer.Option("--other-data", help="Resume although the shards differ.")
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(help="Repeat the step of a replay.json, clip by clip."),
    ] = None,
    wandb: Annotated[
        str | None, typer.Option(help="Also record on Weights & Biases, in this project.")
    ] = None,
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
) -> None:
    """Train STM from shards."""
    if replay is not None:
        return _replay(replay, device)
    from stmtrain.training.recipe import load_recipe

    chosen = load_recipe(
        recipe,
        tuple(set_ or ()),
        steps=steps,
        batch_size=batch_size,
        size=size,
        learning_rate=learning_rate,
        seed=seed,
    )
    if show_recipe:
        typer.echo(to_toml(chosen), nl=False)
        return
    if not shards or out is None:
        raise UsageError("train: expected --shards and --out (or --replay FILE)")
    if wandb is not None:
        require("wandb", "--wandb")
    from stmtrain.commands.progress import progress_bar
    from stmtrain.shards.urls import parse_location
    from stmtrain.train import train as train_model
    from stmtrain.training.distributed import ranks_of
    from stmtrain.training.setup import TrainOptions, parse_shards

    locations, weights = parse_shards(shards)
    options = TrainOptions(
        shards=locations,
        weights=weights,
        out=out,
        backbone=backbone,
        backbone_weights=backbone_weights,
        init=init,
        device=device,
        threads=threads,
        resume=resume,
        other_data=other_data,
        val=None if val is None else parse_location(val),
        cache=cache,
        cache_size=cache_size,
        prefetch=prefetch,
        on_bad_sample=on_bad_sample.value,
        rank_timeout=rank_timeout,
        wandb=wandb,
    )
    ranks = ranks_of(os.environ)
    if gpus > 1 and ranks.world == 1:
        return _train_on_several(gpus, device, chosen.batch_size)
    console = open_console(quiet=ranks.rank > 0)
    with progress_bar(console, f"train {chosen.name}", "steps") as progress:
        path = train_model(options, chosen, progress, ranks, partial(print_plain, console))
    print_plain(console, f"checkpoint: {path}")
    evaluate = ("stm", "eval", "--checkpoint", path, "--videos", "DIR", "--out", "RESULTS")
    print_next(console, *evaluate)


def _train_on_several(gpus: int, device: str, batch_size: int) -> None:
    """Start this command again in several processes, each with its rank in the environment."""
    from stmtrain.training.distributed import launch

    if batch_size % gpus:
        raise UsageError(
            f"--gpus {gpus}: expected a batch that splits evenly, found {batch_size} clips; "
            f"choose --batch-size {gpus * max(1, round(batch_size / gpus))}"
        )
    code = launch(gpus, device, sys.argv[sys.argv.index("train") + 1 :])
    if code:
        raise typer.Exit(code)


def _replay(path: Path, device: str) -> None:
    """Repeat a failed step, clip by clip."""
    from stmtrain.training.replay import replay

    result = replay(path, device)
    console = open_console()
    console.print(result.table())
    print_plain(console, f"picture: {result.picture}")
