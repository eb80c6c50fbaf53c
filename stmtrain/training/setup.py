"""From a run and its recipe to what training needs: model, optimiser, plan, stream of batches."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stmtrain.errors import UsageError
from stmtrain.model import BACKBONES, STM, set_batchnorm
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.clips import PSEUDO, VIDEO, ClipRecipe
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.plan import Plan
from stmtrain.training.acceleration import Acceleration, adam, prepare
from stmtrain.training.distributed import SINGLE, Ranks
from stmtrain.training.recipe import TrainRecipe, max_skip
from stmtrain.training.run_folder import TrainOptions
from stmtrain.training.step import ClipLoss, TrainState, averaged
from stmtrain.weights.checkpoint import Checkpoint
from stmtrain.weights.load import load_backbone, load_weights

__all__ = ["build_loader", "build_plan", "build_state", "clip_recipe"]

_DISK_PATIENCE, _NETWORK_PATIENCE = 300.0, 3600.0  # seconds to wait for one clip


def build_state(
    run: TrainOptions,
    recipe: TrainRecipe,
    saved: Checkpoint | None,
    device: torch.device,
    team: Ranks,
) -> TrainState:
    """Build model and optimiser, from the checkpoint, the initial weights, or at random."""
    model, batchnorm = _model(run, recipe, saved)
    set_batchnorm(model.to(device).train(), batchnorm)
    prepare(model, _acceleration(recipe))
    optimizer = adam(
        model,
        learning_rate=recipe.learning_rate,
        betas=recipe.adam_betas,
        eps=recipe.adam_eps,
        saved=None if saved is None else saved.optimizer,
    )
    ema = averaged(model, recipe.ema) if recipe.ema else None
    if ema is not None and saved is not None and saved.ema is not None:
        ema.module.load_state_dict(saved.ema)
        ema.n_averaged.fill_(saved.step)
    task: nn.Module = ClipLoss(model, recipe)
    if team.world > 1:
        # Frozen statistics are the same on every rank; those that are trained follow rank 0's.
        task = DistributedDataParallel(task, broadcast_buffers=batchnorm == "train")
    state = TrainState(model, task, optimizer, batchnorm, ema)
    if saved is not None:
        state.step, state.best, state.validated = saved.step, saved.best, saved.validated
    return state


def _model(
    run: TrainOptions, recipe: TrainRecipe, saved: Checkpoint | None
) -> tuple[STM, Literal["frozen", "train"]]:
    """Build the model on the CPU, and decide what its BatchNorm does."""
    if run.backbone not in BACKBONES:
        raise UsageError(
            f"--backbone {run.backbone}: expected one of {', '.join(BACKBONES)}, found another name"
        )
    torch.manual_seed(recipe.seed)
    model = STM(run.backbone)
    if saved is not None:
        model.load_state_dict(saved.model)
        return model, saved.batchnorm
    if run.init is not None:
        load_weights(model, run.init)
    else:
        load_backbone(model, run.backbone_weights)
    if recipe.batchnorm != "auto":
        return model, recipe.batchnorm
    # Without pretrained weights, frozen statistics are those of nothing: nothing would learn.
    random = run.init is None and run.backbone_weights == "none"
    return model, "train" if random else "frozen"


def _acceleration(recipe: TrainRecipe) -> Acceleration:
    return Acceleration(
        precision=recipe.precision,
        tf32=recipe.tf32,
        channels_last=recipe.channels_last,
        compile=recipe.compile,
        checkpoint_activations=recipe.checkpoint_activations,
    )


def build_plan(run: TrainOptions, recipe: TrainRecipe, sets: Sequence[ShardSet]) -> Plan:
    """Return the order of all clips."""
    return Plan(
        shard_sizes=tuple(s.shard_sizes for s in sets),
        weights=run.weights,
        seed=recipe.seed,
        global_batch=recipe.batch_size,
        window=recipe.window,
    )


def clip_recipe(recipe: TrainRecipe) -> ClipRecipe:
    """Return how clips are drawn."""
    base = VIDEO if recipe.clips == "video" else PSEUDO
    reverse = base.reverse if recipe.reverse is None else recipe.reverse
    return replace(base, frames=recipe.frames, reverse=reverse)


def build_loader(
    run: TrainOptions,
    recipe: TrainRecipe,
    sets: Sequence[ShardSet],
    plan: Plan,
    device: torch.device,
    start: int,
    team: Ranks = SINGLE,
) -> Loader:
    """Return this rank's batches from ``start`` on."""
    return Loader(
        sets,
        plan,
        clip_recipe(recipe),
        size=recipe.size,
        device=device,
        threads=run.threads,
        prefetch=run.prefetch,
        on_bad_sample=run.on_bad_sample,
        start=start,
        stop=recipe.steps,
        rank=team.rank,
        world=team.world,
        max_skip=lambda step: max_skip(recipe, step),
        # Fetching gives up by itself; a slow network only makes the clip come late.
        patience=_NETWORK_PATIENCE if any(s.remote for s in sets) else _DISK_PATIENCE,
    )
