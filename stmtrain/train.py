"""The training loop, readable top to bottom: shards, plan, loader, step, log, save."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from stmtrain.ahead import FetchAhead
from stmtrain.augment import augment
from stmtrain.checkpoint import Checkpoint, save_checkpoint
from stmtrain.clips import PSEUDO, VIDEO
from stmtrain.errors import DataError, UsageError
from stmtrain.loader import Batch, Loader
from stmtrain.losses import clip_loss
from stmtrain.model import STM, set_batchnorm
from stmtrain.plan import Plan
from stmtrain.recipes import TrainRecipe, learning_rate, max_skip
from stmtrain.run import (
    CHECKPOINT_NAME,
    RECIPE_NAME,
    Progress,
    Run,
    describe_sources,
    metrics_line,
    open_metrics,
    open_sets,
    saved_run,
    stop_signals,
)
from stmtrain.settings import to_mapping, to_toml
from stmtrain.shards import ShardSet
from stmtrain.weights import load_backbone, load_weights

__all__ = ["pick_device", "train", "train_step"]

_DISK_PATIENCE, _NETWORK_PATIENCE = 300.0, 3600.0  # seconds to wait for one clip


def pick_device(name: str) -> torch.device:
    """Turn ``auto`` into the best device here and check that a named one exists."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); try --device cpu") from None
    return device


@dataclass
class _State:
    """What changes while training runs; a checkpoint is a picture of it."""

    model: STM
    optimizer: torch.optim.Optimizer
    batchnorm: Literal["frozen", "train"]
    step: int = 0


def train(
    run: Run,
    recipe: TrainRecipe,
    report: Callable[[Progress], None],
    fetched: Callable[[int, int], None] | None = None,
) -> Path:
    """Train, and return the path of the last checkpoint.

    SIGINT and SIGTERM stop it after the step that is running, with a checkpoint saved, by a
    ``KeyboardInterrupt``; ``resume`` goes on with the next batch.

    Args:
        run: Shards, output folder, initial weights, device.
        recipe: Every number of the run.
        report: Called after each step.
        fetched: Called while the first step waits for shards from URLs, with how many are here and
            how many it needs.

    Raises:
        UsageError: ``out`` holds another run, or the settings do not fit each other.
        ShardError: A shard set is missing, incomplete or damaged.
        RemoteError: A server does not answer, or refuses.
        CheckpointError: Initial weights, or the checkpoint to resume from, do not fit.
        DataError: The loss became infinite or NaN; the message names the clips.
    """
    device = pick_device(run.device)
    sets, cache_limit = open_sets(run)
    sources = describe_sources(sets, run.weights)
    saved = saved_run(run, recipe, sources)
    torch.manual_seed(recipe.seed)
    state = _begin(run, recipe, saved, device)
    first = state.step

    def save() -> None:
        save_checkpoint(run.out / CHECKPOINT_NAME, _picture(state, run, recipe, sources))

    run.out.mkdir(parents=True, exist_ok=True)
    (run.out / RECIPE_NAME).write_text(to_toml(recipe), encoding="utf-8")
    plan = _plan(run, recipe, sets)
    loader = _stream(run, recipe, sets, plan, device, first)
    ahead = FetchAhead(sets, plan, limit=cache_limit, stop=recipe.steps)
    with ahead, loader:
        ahead.wait(first, fetched)  # before signals are held back: Ctrl-C ends the waiting at once
        with stop_signals() as stop, open_metrics(run.out, first) as metrics:
            try:
                for progress in _steps(state, loader, ahead, recipe):
                    report(progress)
                    if progress.step % recipe.log_every == 0 or progress.step == recipe.steps:
                        rate = learning_rate(recipe, progress.step - 1)
                        metrics.write(metrics_line(progress, rate))
                    if stop.is_set():
                        raise KeyboardInterrupt
                    if progress.step % recipe.save_every == 0:
                        save()
            finally:
                # Also after bad data or a signal: what was learnt is kept.
                if state.step > first or saved is None:
                    save()
    return run.out / CHECKPOINT_NAME


def _steps(
    state: _State, loader: Loader, ahead: FetchAhead, recipe: TrainRecipe
) -> Iterator[Progress]:
    """Take every step that is left, and tell after each one how far it is."""
    first, began = state.step, time.perf_counter()
    for batch in loader:
        ahead.advance(batch.step)
        loss = train_step(state.model, state.optimizer, batch, recipe)
        state.step = batch.step + 1
        yield Progress(
            step=state.step,
            steps=recipe.steps,
            clips=(state.step - first) * recipe.batch_size,
            loss=loss,
            seconds=time.perf_counter() - began,
            waited=loader.waited,
            skipped=loader.skipped,
        )


def train_step(
    model: STM, optimizer: torch.optim.Optimizer, batch: Batch, recipe: TrainRecipe
) -> float:
    """Take one optimiser step on one batch and return its loss.

    Raises:
        DataError: The loss is infinite or NaN; the weights are left as they were.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, batch.step)
    frames, masks = augment(batch, recipe.size)
    loss, _ = clip_loss(model, frames, masks, batch.num_objects, detach_memory=recipe.detach_memory)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DataError(
            f"step {batch.step}: the loss is {value} on clips {', '.join(batch.keys)}; "
            "lower the learning rate or look at these clips with stm preview"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


def _begin(run: Run, recipe: TrainRecipe, saved: Checkpoint | None, device: torch.device) -> _State:
    """Build model and optimiser, from the checkpoint, the initial weights, or at random."""
    model = STM(run.backbone)
    loaded = True
    if saved is not None:
        model.load_state_dict(saved.model)
    elif run.init is not None:
        load_weights(model, run.init)
    else:
        loaded = run.backbone_weights != "none"
        load_backbone(model, run.backbone_weights)
    if saved is not None:
        batchnorm = saved.batchnorm
    elif recipe.batchnorm == "auto":
        # Without pretrained weights, frozen statistics are those of nothing: nothing would learn.
        batchnorm = "frozen" if loaded else "train"
    else:
        batchnorm = recipe.batchnorm
    set_batchnorm(model.to(device).train(), batchnorm)
    optimizer = torch.optim.Adam(
        model.parameters(), recipe.learning_rate, recipe.adam_betas, recipe.adam_eps
    )
    if saved is None:
        return _State(model, optimizer, batchnorm)
    optimizer.load_state_dict(dict(saved.optimizer))
    torch.set_rng_state(saved.random_state)
    return _State(model, optimizer, batchnorm, saved.step)


def _plan(run: Run, recipe: TrainRecipe, sets: Sequence[ShardSet]) -> Plan:
    return Plan(
        shard_sizes=tuple(s.shard_sizes for s in sets),
        weights=run.weights,
        seed=recipe.seed,
        global_batch=recipe.batch_size,
        window=recipe.window,
    )


def _stream(
    run: Run,
    recipe: TrainRecipe,
    sets: Sequence[ShardSet],
    plan: Plan,
    device: torch.device,
    start: int,
) -> Loader:
    return Loader(
        sets,
        plan,
        replace(VIDEO if recipe.clips == "video" else PSEUDO, frames=recipe.frames),
        size=recipe.size,
        device=device,
        threads=run.threads,
        prefetch=run.prefetch,
        on_bad_sample=run.on_bad_sample,
        start=start,
        stop=recipe.steps,
        max_skip=lambda step: max_skip(recipe, step),
        # Fetching gives up by itself; a slow network only makes the clip come late.
        patience=_NETWORK_PATIENCE if any(s.remote for s in sets) else _DISK_PATIENCE,
    )


def _picture(
    state: _State, run: Run, recipe: TrainRecipe, sources: tuple[Mapping[str, Any], ...]
) -> Checkpoint:
    return Checkpoint(
        backbone=run.backbone,
        step=state.step,
        model=state.model.state_dict(),
        optimizer=state.optimizer.state_dict(),
        random_state=torch.get_rng_state(),
        recipe=to_mapping(recipe),
        sources=sources,
        batchnorm=state.batchnorm,
    )
