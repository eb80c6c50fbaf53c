"""One optimiser step on a batch, alone or on several ranks: loss, gradient, checks, update."""

import contextlib
import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stmtrain.errors import DataError
from stmtrain.model import STM
from stmtrain.model.precision import autocast
from stmtrain.streaming.augment import augment
from stmtrain.streaming.batch import Batch
from stmtrain.training.distributed import SINGLE, Ranks
from stmtrain.training.losses import clip_losses, mean_jaccard
from stmtrain.training.recipe import TrainRecipe, bootstrap_share, learning_rate

Pixels = NDArray[np.uint8]


class NonFiniteError(DataError):
    """A loss or gradient became infinite or NaN; the weights are those before the step.

    Attributes:
        keys: Sample keys of this rank's clips, set where the error is raised.
    """

    keys: tuple[str, ...] = ()


class ClipLoss(nn.Module):
    """The model and its loss in one ``forward``, which DistributedDataParallel wraps."""

    def __init__(self, model: STM, recipe: TrainRecipe) -> None:
        """Wrap ``model``, which can still be used on its own."""
        super().__init__()
        self.model = model
        self.recipe = recipe

    def forward(
        self, frames: Tensor, masks: Tensor, num_objects: Tensor, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss (B,), J of the last frame (B,), and its logits (B,1+K,H,W)."""
        with autocast(frames.device, self.recipe.precision):
            losses, logits = clip_losses(
                self.model,
                frames,
                masks,
                num_objects,
                detach_memory=self.recipe.detach_memory,
                share=share,
                dice=self.recipe.dice,
            )
        return losses, mean_jaccard(logits, masks[:, -1].long(), num_objects), logits.detach()


@dataclass
class TrainState:
    """What changes during training, and is saved in a checkpoint.

    Attributes:
        model: The network.
        clip_loss: :class:`ClipLoss` of the model, wrapped if there are several ranks.
        optimizer: Updates the model's parameters.
        batchnorm: Whether BatchNorm's statistics are frozen or trained; ``auto`` is resolved.
        ema: Averaged weights, if the recipe asks for them.
        step: Optimiser steps done.
        best: Best J&F on the validation videos so far.
        validated: Step of the last validation, 0 before the first.
    """

    model: STM
    clip_loss: nn.Module
    optimizer: torch.optim.Optimizer
    batchnorm: Literal["frozen", "train"]
    ema: AveragedModel | None = None
    step: int = 0
    best: float | None = None
    validated: int = 0

    @property
    def evaluated_model(self) -> STM:
        """The averaged model if there is one, else the model."""
        return self.model if self.ema is None else cast(STM, self.ema.module)


def averaged(model: STM, decay: float) -> AveragedModel:
    """Return a copy of the model that follows it as a moving average, buffers included.

    In the first steps the decay is (1+n)/(10+n), until that exceeds ``decay``: otherwise the
    random initial weights would stay in the average for thousands of steps.
    """

    def follow(averages: Any, values: Any, count: Tensor | int) -> None:
        taken = int(count)
        now = min(decay, (1 + taken) / (10 + taken))
        get_ema_multi_avg_fn(now)(averages, values, count)  # type: ignore[no-untyped-call]

    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)


@dataclass(frozen=True)
class LastFrame:
    """The last frame of a step's first clip.

    Attributes:
        frame: (3, S, S) float, RGB in [0, 1].
        logits: (1+N, S, S) float32, the prediction.
        truth: (S, S) uint8 slot ids, 255 void.
    """

    frame: Tensor
    logits: Tensor
    truth: Tensor

    def pictures(self) -> tuple[Pixels, Pixels, Pixels]:
        """Return the frame (S,S,3), the predicted and the true mask (S,S), all uint8."""
        frame = (self.frame * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
        predicted = self.logits.argmax(dim=0).byte()
        return frame.cpu().numpy(), predicted.cpu().numpy(), self.truth.cpu().numpy()


@dataclass(frozen=True)
class StepResult:
    """The result of a step.

    Attributes:
        loss: Mean over the clips of all ranks.
        jaccard: J of the last frame, mean over the clips of all ranks, in [0, 1].
        grad_norm: Norm of the gradient, before clipping.
        stop: Whether any rank was asked to stop.
        last_frame: For pictures; of this rank.
    """

    loss: float
    jaccard: float
    grad_norm: float
    stop: bool
    last_frame: LastFrame


def train_step(
    state: TrainState,
    batch: Batch,
    recipe: TrainRecipe,
    ranks: Ranks = SINGLE,
    *,
    stop: bool = False,
) -> StepResult:
    """Take one optimiser step on this rank's clips of a global batch.

    Args:
        state: Changed in place, unless the step fails.
        batch: This rank's clips.
        recipe: Every number.
        ranks: The processes that take this step together.
        stop: Whether this rank was asked to stop; every rank receives the answer, so that all of
            them stop after the same step.

    Raises:
        NonFiniteError: Loss or gradient are infinite or NaN; the weights do not change.
    """
    _seed(recipe.seed, batch.step, ranks.rank)
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(recipe, batch.step)
    frames, masks = augment(batch, recipe.size)
    state.optimizer.zero_grad(set_to_none=True)
    sums, last_frame = _gradient(state.clip_loss, frames, masks, batch, recipe)
    limit = math.inf if recipe.clip_norm is None else recipe.clip_norm
    if recipe.gradient == "sum":
        for parameter in state.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(recipe.batch_size)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    # The only wait for the device: a non-finite gradient must not reach the weights.
    totals = ranks.add(torch.cat([sums, sums.new_tensor([float(stop)])]))
    loss, jaccard, stopping = totals.tolist()
    loss, jaccard, norm_value = loss / recipe.batch_size, jaccard / recipe.batch_size, float(norm)
    if not (math.isfinite(loss) and math.isfinite(norm_value)):
        error = NonFiniteError(
            f"step {batch.step}: the loss is {loss:g} and the norm of the gradient {norm_value:g} "
            f"on clips {', '.join(batch.keys)}; find out which one with stm train --replay, or "
            "lower the learning rate"
        )
        error.keys = batch.keys
        raise error
    state.optimizer.step()
    if state.ema is not None:
        state.ema.update_parameters(state.model)
    state.step = batch.step + 1
    return StepResult(loss, jaccard, norm_value, stopping > 0, last_frame)


def _seed(seed: int, step: int, rank: int) -> None:
    """Make dropout a function of the step, so that no generator state has to be saved."""
    words = np.random.SeedSequence([seed, step, rank]).generate_state(2)
    torch.manual_seed(int(words[0]) << 31 ^ int(words[1]))


def _gradient(
    clip_loss: nn.Module, frames: Tensor, masks: Tensor, batch: Batch, recipe: TrainRecipe
) -> tuple[Tensor, LastFrame]:
    """Accumulate the mean gradient of this rank's clips; return the sums of loss and J."""
    clips, share = len(frames), bootstrap_share(recipe, batch.step)
    size = math.ceil(clips / recipe.accumulate)
    sums = torch.zeros(2, device=frames.device)
    for start in range(0, clips, size):
        part = slice(start, start + size)
        context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if isinstance(clip_loss, DistributedDataParallel) and part.stop < clips:
            context = clip_loss.no_sync()  # ranks exchange gradients in the last part only
        with context:
            losses, jaccard, logits = clip_loss(
                frames[part], masks[part], batch.num_objects[part], share
            )
            (losses.sum() / clips).backward()
        sums += torch.stack([losses.detach().sum(), jaccard.sum()])
        if start == 0:
            slots = int(batch.num_objects[0]) + 1
            last_frame = LastFrame(frames[0, -1], logits[0, :slots], masks[0, -1])
    return sums, last_frame
