"""Checkpoints of a training run: weights, optimiser, step, recipe, identity of the data.

Randomness is a function of the step and the recipe's seed, so no generator state is saved. A
checkpoint that exists is complete. It is untrusted input, read with ``weights_only=True``.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stmtrain.errors import CheckpointError
from stmtrain.files import whole_file
from stmtrain.model import BACKBONES, STM
from stmtrain.weights.files import is_plain, load_file, save_tensors, state_in
from stmtrain.weights.load import stm_state

_FORMAT = "stm-checkpoint"
_VERSION = 1
_MOMENTS = ("exp_avg", "exp_avg_sq")
_STEP = "step"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a step.

    Attributes:
        backbone: Name of the model's backbone.
        step: Optimiser steps done; the next step to run has this number.
        model: State dict of the model.
        optimizer: State dict of the optimiser.
        recipe: Fields of the recipe as plain values.
        shard_sets: One ``{"config_hash", "manifest", "samples", "weight"}`` per shard set.
        batchnorm: ``frozen`` or ``train``, as resolved when the run began.
        ema: State dict of the averaged weights, or ``None``.
        best: Best J&F on the validation videos so far, in [0, 1], or ``None``.
        validated: Step of the last validation, 0 before the first.
    """

    backbone: str
    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    recipe: Mapping[str, Any]
    shard_sets: tuple[Mapping[str, Any], ...]
    batchnorm: Literal["frozen", "train"]
    ema: Mapping[str, Tensor] | None = None
    best: float | None = None
    validated: int = 0


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; ``path`` is either the old file or the complete new one."""
    value = {"format": _FORMAT, "format_version": _VERSION, **vars(checkpoint)}
    value["sources"] = list(value.pop("shard_sets"))  # the name in the file
    with whole_file(path, sync=True) as file:
        save_tensors(value, file, path)


def keep_as(path: Path, name: str) -> None:
    """Keep the file at ``path`` under another name next to it, which appears complete."""
    temporary = path.with_name(f"{path.name}.kept.tmp")
    temporary.unlink(missing_ok=True)  # from a process that was killed here
    try:
        temporary.hardlink_to(path)  # the next checkpoint replaces the name, not the content
    except OSError:
        shutil.copyfile(path, temporary)  # a file system without hard links
    temporary.replace(path.with_name(name))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this program, onto the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, or not a checkpoint of this version.
    """
    return _checkpoint_in(load_file(path), path)


def _checkpoint_in(content: Mapping[Any, Any], path: Path) -> Checkpoint:
    if not _is_ours(content):
        raise CheckpointError(
            f"{path}: contains weights but no training state; use it with --init, not --resume"
        )
    if content.get("format_version") != _VERSION:
        raise CheckpointError(
            f"{path}: expected checkpoint version {_VERSION}, found "
            f"{content.get('format_version')!r}; use the release that wrote it"
        )
    try:
        json.dumps([content["recipe"], content["sources"]])  # plain values, which can be compared
        return Checkpoint(
            backbone=str(content["backbone"]),
            step=int(content["step"]),
            model=content["model"],
            optimizer=content["optimizer"],
            recipe=dict(content["recipe"]),
            shard_sets=tuple(dict(shard_set) for shard_set in content["sources"]),
            batchnorm="frozen" if content["batchnorm"] == "frozen" else "train",
            ema=content["ema"],
            best=None if content["best"] is None else float(content["best"]),
            validated=int(content["validated"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: malformed checkpoint ({error!r:.200}); use an older one"
        ) from None


def load_training_state(path: Path) -> Checkpoint:
    """Read a checkpoint to continue training from, and check every tensor against its use.

    The optimiser computes on raw memory: moments of another shape would be read and written beyond
    their end.

    Raises:
        CheckpointError: See :func:`load_checkpoint`; or weights, averages or the optimiser's state
            are not those of the backbone, in names, shapes or dtypes.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.backbone not in BACKBONES:
        raise CheckpointError(
            f"{path}: expected a backbone of {', '.join(BACKBONES)}, found "
            f"{checkpoint.backbone!r:.50}; use an older checkpoint"
        )

    def checked(part: str, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        plain = state_in({"model": state}, path)
        return stm_state(plain, f"{path} ({part})", checkpoint.backbone)[1]

    with torch.device("meta"):
        shapes = [parameter.shape for parameter in STM(checkpoint.backbone).parameters()]
    fault = _optimizer_fault(checkpoint.optimizer, shapes)
    if fault is not None:
        raise CheckpointError(
            f"{path}: expected the state of Adam for STM with {checkpoint.backbone}, found "
            f"{fault}; use an older checkpoint, or start a new run with --init and this file"
        )
    return replace(
        checkpoint,
        model=checked("model", checkpoint.model),
        ema=None if checkpoint.ema is None else checked("ema", checkpoint.ema),
    )


def _optimizer_fault(saved: object, shapes: Sequence[torch.Size]) -> str | None:
    """Return what is wrong with a saved state of Adam for parameters of these shapes."""
    states = saved.get("state") if isinstance(saved, Mapping) else None
    if not isinstance(states, Mapping):
        return "none"
    for number, state in states.items():
        if type(number) is not int or not 0 <= number < len(shapes):
            return f"parameter {number!r:.20} of {len(shapes)}"
        if not isinstance(state, Mapping) or set(state) != {_STEP, *_MOMENTS}:
            return f"other values than {_STEP}, {' and '.join(_MOMENTS)} of parameter {number}"
        for name, value in state.items():
            expected = torch.Size() if name == _STEP else shapes[number]
            if not isinstance(value, Tensor) or not is_plain(value):
                return f"{name} of parameter {number} that is no dense tensor"
            if value.shape != expected or not value.is_floating_point():
                return (
                    f"{name} of parameter {number} with shape {tuple(value.shape)!s:.60} "
                    f"({value.dtype}) instead of {tuple(expected)}"
                )
    return None


def _is_ours(content: Mapping[Any, Any]) -> bool:
    name = content.get("format")
    return isinstance(name, str) and name == _FORMAT


def load_model(path: Path | str, device: torch.device | str = "cpu") -> STM:
    """Load a network to segment videos with.

    Args:
        path: A checkpoint of ``stm train`` (its averaged weights, if it has them), or published
            STM weights (``.pth`` or ``.safetensors``).
        device: Where the network goes.

    Returns:
        The network in eval mode.

    Raises:
        CheckpointError: The file does not contain an STM, or is damaged.

    Example:
        >>> model = load_model("runs/main/checkpoint.pt", "cuda")  # doctest: +SKIP
    """
    return load_model_and_origin(Path(path))[0].to(device)


def load_model_and_origin(path: Path) -> tuple[STM, dict[str, Any]]:
    """Build the model whose weights are in a file: our checkpoint or published STM weights.

    Returns:
        The model on the CPU in eval mode, with averaged weights if there are some, and its origin:
        ``file``, ``backbone``, ``trained`` (in words), ``recipe`` (the checkpoint's, or ``None``).

    Raises:
        CheckpointError: The file is damaged, or contains no STM weights.
    """
    content = load_file(path)
    recipe, trained = None, "unknown training (weights only)"
    if _is_ours(content):
        checkpoint = _checkpoint_in(content, path)
        content = {"model": checkpoint.ema or checkpoint.model}
        recipe = dict(checkpoint.recipe)
        trained = f"{checkpoint.step} steps of recipe {recipe.get('name')}"
        if checkpoint.ema is not None:
            trained += ", averaged weights"
    backbone, state = stm_state(state_in(content, path), str(path))
    model = STM(backbone).eval()
    model.load_state_dict(state)
    return model, {"file": path.name, "backbone": backbone, "recipe": recipe, "trained": trained}
