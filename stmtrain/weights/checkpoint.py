"""Checkpoints of a training run: weights, optimiser, step, recipe, identity of the data.

Randomness is a function of the step and the recipe's seed, so no generator state is saved. A
checkpoint that exists is complete. It is untrusted input, read with ``weights_only=True``.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stmtrain.errors import CheckpointError
from stmtrain.files import whole_file
from stmtrain.model import STM
from stmtrain.weights.files import load_file, state_in
from stmtrain.weights.load import stm_state

_FORMAT = "stm-checkpoint"
_VERSION = 1


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
        torch.save(value, file)


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
    if content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path}: contains weights but no training state; use it with --init, not --resume"
        )
    if content.get("format_version") != _VERSION:
        raise CheckpointError(
            f"{path}: expected checkpoint version {_VERSION}, found "
            f"{content.get('format_version')!r}; use the release that wrote it"
        )
    try:
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
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: malformed checkpoint ({error!r}); use an older one"
        ) from None


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
    if content.get("format") == _FORMAT:
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
