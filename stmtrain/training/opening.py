"""What a training run says at its start: what is trained, on what, and where its records are."""

import shlex
from collections.abc import Iterator

import torch

from stmtrain.extras import has_extra, pip_install
from stmtrain.training.distributed import Ranks
from stmtrain.training.recipe import TrainRecipe
from stmtrain.training.setup import TrainingData, TrainOptions
from stmtrain.training.step import TrainState


def opening(
    options: TrainOptions,
    recipe: TrainRecipe,
    data: TrainingData,
    state: TrainState,
    device: torch.device,
    ranks: Ranks,
) -> Iterator[str]:
    """Yield the lines that open a run, on rank 0 alone.

    Args:
        options: Where the data and the initial weights come from.
        recipe: Every number of the run.
        data: The opened shard sets.
        state: Model and optimiser, at the step from which the run goes on.
        device: Where this rank computes.
        ranks: The processes that train together.
    """
    if ranks.rank > 0:
        return
    yield f"device: {_device(device, ranks)}, {recipe.precision}"
    yield f"model: {_model(options, state)}"
    for shard_set, weight in zip(data.sets, data.plan.weights, strict=True):
        share = f", weight {weight:g}" if len(data.sets) > 1 else ""
        yield f"clips: {len(shard_set)} samples of {shard_set.name}{share}"
    yield from (f"note: {text}" for text in data.notes(recipe.frames))
    yield (
        f"batch: {recipe.batch_size} clips of {recipe.frames} frames, {recipe.size}x{recipe.size} "
        f"pixels; {recipe.steps} steps"
    )
    yield f"records: {_records(options)}"
    if state.step >= recipe.steps:
        yield f"already complete: {state.step} of {recipe.steps} steps are done"


def _device(device: torch.device, ranks: Ranks) -> str:
    """Name the device, and how many there are."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name} with {properties.total_memory / 2**30:.0f} GiB"
    else:
        name = f"{device.type} with {torch.get_num_threads()} threads"
    return name if ranks.world == 1 else f"{ranks.world} x {name}"


def _model(options: TrainOptions, state: TrainState) -> str:
    """Name the model, its size and the origin of its weights."""
    count = sum(parameter.numel() for parameter in state.model.parameters())
    if state.step:
        origin = f"resumed after step {state.step}"
    elif options.init is not None:
        origin = f"from {options.init}"
    elif options.backbone_weights == "none":
        origin = "from random weights"
    else:
        origin = f"from {options.backbone_weights} weights of its backbone"
    return (
        f"STM with {options.backbone}, {count / 1e6:.1f} M parameters, {origin}; "
        f"BatchNorm statistics {'are trained' if state.batchnorm == 'train' else 'stay fixed'}"
    )


def _records(options: TrainOptions) -> str:
    """Name the files of the records, and the command that shows them."""
    metrics = options.out / "metrics.jsonl"
    if not has_extra("log"):
        return f"{metrics}; {pip_install('log')} adds curves.png and TensorBoard"
    board = shlex.quote(str(options.out / "tensorboard"))
    return f"{metrics}, curves.png at the end; tensorboard --logdir {board}"
