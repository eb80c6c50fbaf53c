"""From the options and the recipe of a run to what training needs: data, model, optimiser."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from stmtrain.datasets.files import some
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.model import BACKBONES, STM, set_batchnorm
from stmtrain.shards.cache import DEFAULT_GIGABYTES, user_cache
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.urls import parse_location, shown, split_weight
from stmtrain.streaming.clips import NO_CLIP, PSEUDO, VIDEO, why_no_clip
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.plan import Plan
from stmtrain.training.acceleration import adam, prepare
from stmtrain.training.distributed import RANK_TIMEOUT, SINGLE, Ranks
from stmtrain.training.recipe import TrainRecipe, max_skip
from stmtrain.training.step import ClipLoss, TrainState, averaged
from stmtrain.weights.checkpoint import Checkpoint
from stmtrain.weights.load import load_backbone, load_weights

_MOST_CHECKED = 20_000  # samples; reading the record of each takes seconds
_DISK_PATIENCE, _NETWORK_PATIENCE = 300.0, 3600.0  # seconds to wait for one clip


@dataclass(frozen=True)
class TrainOptions:
    """What a training run consists of, apart from its recipe.

    Attributes:
        shards: Folders or URLs of shard sets.
        weights: Mixing weight of each set, positive; clips are drawn in these proportions.
        out: Folder for checkpoints, recipe and metrics.
        backbone: ``resnet50``, ``resnet18`` or ``resnest101``.
        backbone_weights: ``imagenet``, ``none``, or a file with a classification network.
        init: Weights of a complete STM to start from, or ``None``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        threads: Decoding threads of the loader.
        resume: Resume from the checkpoint in ``out``.
        other_data: Resume although the shard sets differ from those of the checkpoint.
        val: Shard set of complete validation videos (``stm pack-davis``), or ``None``.
        cache: Folder for shards from URLs; ``None`` is the user's cache folder.
        cache_size: Maximum size of the cache, GB (10^9 bytes).
        prefetch: Batches that the loader prepares ahead.
        on_bad_sample: ``raise`` or ``skip`` (see :class:`stmtrain.streaming.loader.Loader`).
        rank_timeout: Seconds until a rank that does not respond ends the run.
        wandb: Project of Weights & Biases to record the run in, or ``None``.
    """

    shards: tuple[Path | str, ...]
    weights: tuple[float, ...]
    out: Path
    backbone: str = "resnet50"
    backbone_weights: str = "imagenet"
    init: Path | None = None
    device: str = "auto"
    threads: int = 2
    resume: bool = False
    other_data: bool = False
    val: Path | str | None = None
    cache: Path | None = None
    cache_size: float = DEFAULT_GIGABYTES
    prefetch: int = 2
    on_bad_sample: Literal["raise", "skip"] = "raise"
    rank_timeout: float = RANK_TIMEOUT
    wandb: str | None = None


def parse_shards(texts: Sequence[str]) -> tuple[tuple[Path | str, ...], tuple[float, ...]]:
    """Parse ``LOCATION`` or ``LOCATION=WEIGHT`` texts; a location is a folder or a URL.

    Returns:
        The locations and their mixing weights.

    Raises:
        UsageError: A weight is not a number above 0, or a URL has an unknown scheme.
    """
    locations, weights = [], []
    for text in texts:
        location, weight = split_weight(text)
        try:
            number = float(weight or 1)
        except ValueError:
            number = math.nan
        if not number > 0:
            raise UsageError(
                f"--shards {shown(text)}: expected FOLDER=WEIGHT with a number above 0, "
                f"found {weight}"
            )
        locations.append(parse_location(location))
        weights.append(number)
    return tuple(locations), tuple(weights)


@dataclass(frozen=True)
class TrainingData:
    """The shard sets of a run, and the order in which their clips are drawn.

    Attributes:
        sets: The shard sets, in the order of the options.
        plan: Which samples make up each step.
        cache_limit: Bytes that the cache for shards from URLs may hold; 0 without URLs.
    """

    sets: tuple[ShardSet, ...]
    plan: Plan
    cache_limit: int

    @property
    def identity(self) -> tuple[Mapping[str, Any], ...]:
        """What each set contains: a set that was moved to another location is the same set."""
        return tuple(
            {
                "config_hash": shard_set.manifest.config_hash,
                "manifest": shard_set.manifest_sha256,
                "samples": len(shard_set),
                "weight": weight,
            }
            for shard_set, weight in zip(self.sets, self.plan.weights, strict=True)
        )

    def notes(self, frames: int) -> Iterator[str]:
        """Name the samples that training on clips of so many frames passes over.

        Raises:
            DataError: No sample is left.
        """
        left = 0
        for shard_set in self.sets:
            left += len(shard_set)
            for reason, keys in _without_clip(shard_set, frames).items():
                left -= len(keys)
                yield f"{shard_set.name}: {len(keys)} samples give {reason}: {some(keys)}"
        if not left:
            total = sum(map(len, self.sets))
            raise DataError(
                f"{', '.join(shard_set.name for shard_set in self.sets)}: expected samples that "
                f"give clips of {frames} frames, found none among {total}; train on fewer frames "
                "with --set frames=N, or on videos with more masks"
            )


def _without_clip(shard_set: ShardSet, frames: int) -> dict[str, list[str]]:
    """Return the samples that give no clip, by reason: all of a local set, unless it is large.

    Of the others, those that packing noted are returned.
    """
    if shard_set.remote or len(shard_set) > _MOST_CHECKED:
        return shard_set.notes(NO_CLIP)
    made = shard_set.manifest.config.get("frames")
    found: dict[str, list[str]] = {}
    if isinstance(made, int) and made >= frames:
        return found  # pseudo-videos begin with an object, and every frame has a mask
    for index in range(len(shard_set)):
        with suppress(ShardError):  # of a damaged sample, which is reported when it is drawn
            record = shard_set.record(index)
            reason = why_no_clip(record, frames)
            if reason is not None:
                found.setdefault(reason, []).append(record.sample_key)
    return found


def open_data(options: TrainOptions, recipe: TrainRecipe) -> TrainingData:
    """Open the shard sets of a run.

    Raises:
        UsageError: The cache has no size.
        ShardError: A set is missing, incomplete or damaged.
        RemoteError: A server does not answer, or refuses.
    """
    cache = None
    if not all(isinstance(location, Path) for location in options.shards):
        if not options.cache_size > 0:
            raise UsageError(f"--cache-size {options.cache_size:g}: expected more than 0 GB")
        cache = user_cache(options.cache, options.cache_size)
    sets = tuple(ShardSet.open(location, cache) for location in options.shards)
    plan = Plan(
        shard_sizes=tuple(shard_set.shard_sizes for shard_set in sets),
        weights=options.weights,
        seed=recipe.seed,
        global_batch=recipe.batch_size,
        window=recipe.window,
    )
    return TrainingData(sets, plan, 0 if cache is None else cache.limit)


def build_loader(
    options: TrainOptions,
    recipe: TrainRecipe,
    data: TrainingData,
    device: torch.device,
    start: int,
    ranks: Ranks = SINGLE,
) -> Loader:
    """Build the stream of this rank's batches, from step ``start`` on."""
    clips = VIDEO if recipe.clips == "video" else PSEUDO
    reverse = clips.reverse if recipe.reverse is None else recipe.reverse
    return Loader(
        data.sets,
        data.plan,
        replace(clips, frames=recipe.frames, reverse=reverse),
        size=recipe.size,
        device=device,
        threads=options.threads,
        prefetch=options.prefetch,
        on_bad_sample=options.on_bad_sample,
        start=start,
        stop=recipe.steps,
        rank=ranks.rank,
        world=ranks.world,
        max_skip=lambda step: max_skip(recipe, step),
        # A fetch has its own time limits; a slow network only delays the clip.
        patience=_NETWORK_PATIENCE if any(s.remote for s in data.sets) else _DISK_PATIENCE,
    )


def build_state(
    options: TrainOptions,
    recipe: TrainRecipe,
    checkpoint: Checkpoint | None,
    device: torch.device,
    ranks: Ranks,
) -> TrainState:
    """Build model and optimiser: from the checkpoint, from initial weights, or at random.

    Raises:
        UsageError: The backbone is unknown, or the device cannot compute with this precision.
        CheckpointError: The initial weights are missing, damaged or of another model.
    """
    model, batchnorm = _build_model(options, recipe, checkpoint)
    set_batchnorm(model.to(device).train(), batchnorm)
    prepare(model, recipe)
    optimizer = adam(model, recipe, None if checkpoint is None else checkpoint.optimizer)
    ema = averaged(model, recipe.ema) if recipe.ema else None
    if ema is not None and checkpoint is not None and checkpoint.ema is not None:
        ema.module.load_state_dict(checkpoint.ema)
        ema.n_averaged.fill_(checkpoint.step)
    clip_loss: nn.Module = ClipLoss(model, recipe)
    if ranks.world > 1:
        # Frozen statistics are equal on all ranks; trained ones are copied from rank 0.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name is unknown to torch 2.6
            clip_loss = DistributedDataParallel(clip_loss, broadcast_buffers=batchnorm == "train")
    state = TrainState(model, clip_loss, optimizer, batchnorm, ema)
    if checkpoint is not None:
        state.step, state.best = checkpoint.step, checkpoint.best
        state.validated = checkpoint.validated
    return state


def _build_model(
    options: TrainOptions, recipe: TrainRecipe, checkpoint: Checkpoint | None
) -> tuple[STM, Literal["frozen", "train"]]:
    """Build the model on the CPU, and decide whether its BatchNorm statistics are trained."""
    if options.backbone not in BACKBONES:
        names = ", ".join(BACKBONES)
        raise UsageError(f"--backbone {options.backbone}: expected one of {names}")
    torch.manual_seed(recipe.seed)
    model = STM(options.backbone)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.model)
        return model, checkpoint.batchnorm
    if options.init is not None:
        load_weights(model, options.init)
    else:
        load_backbone(model, options.backbone_weights)
    if recipe.batchnorm != "auto":
        return model, recipe.batchnorm
    # Without pretrained weights, frozen running statistics would be meaningless.
    random = options.init is None and options.backbone_weights == "none"
    return model, "train" if random else "frozen"
