"""Save and load a training run: weights, optimiser, step, recipe, data identity.

Randomness is a function of the step and the recipe's seed, so no generator's state is kept.

Written to a temporary name, flushed, renamed: a file that exists is whole. Read with
``weights_only=True``: a checkpoint is untrusted input.
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
from stmtrain.model import BACKBONES, STM
from stmtrain.weights.files import load_file, state_in
from stmtrain.weights.load import backbone_of, load_state

__all__ = [
    "Checkpoint",
    "keep_as",
    "load_checkpoint",
    "load_model",
    "load_model_and_origin",
    "save_checkpoint",
]

FORMAT_NAME = "stm-checkpoint"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """One moment of a run.

    Attributes:
        backbone: Name of the model's backbone.
        step: Optimiser steps done; the next step to run has this number.
        model: State dict of the model.
        optimizer: State dict of the optimiser.
        recipe: The recipe's fields as plain values.
        shard_sets: One ``{"config_hash", "manifest", "samples", "weight"}`` per shard set.
        batchnorm: ``frozen`` or ``train``, as it was resolved when the run began.
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
    """Write ``checkpoint`` so that ``path`` is either the old file or the whole new one."""
    value = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "backbone": checkpoint.backbone,
        "step": checkpoint.step,
        "model": dict(checkpoint.model),
        "optimizer": dict(checkpoint.optimizer),
        "recipe": dict(checkpoint.recipe),
        "sources": [dict(shard_set) for shard_set in checkpoint.shard_sets],
        "batchnorm": checkpoint.batchnorm,
        "ema": None if checkpoint.ema is None else dict(checkpoint.ema),
        "best": checkpoint.best,
        "validated": checkpoint.validated,
    }
    with whole_file(path, sync=True) as file:
        torch.save(value, file)


def keep_as(path: Path, name: str) -> None:
    """Keep the file at ``path`` under another name beside it, which appears whole."""
    kept = path.with_name(name)
    temporary = kept.with_name(name + ".tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(path)  # the next checkpoint replaces the name, not the bytes
    except OSError:
        shutil.copyfile(path, temporary)  # a file system without hard links
    temporary.replace(kept)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this program, onto the CPU.

    Raises:
        CheckpointError: Missing, damaged, unsafe to load, of another program or another version.
    """
    return _checkpoint_in(load_file(path), path)


def _checkpoint_in(value: Mapping[Any, Any], path: Path) -> Checkpoint:
    if value.get("format") != FORMAT_NAME:
        raise CheckpointError(
            f"{path}: holds weights but no training state; give it to --init instead of --resume"
        )
    if value.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint version {value.get('format_version')!r}, this program reads "
            f"{FORMAT_VERSION}; use the release that wrote it"
        )
    try:
        return Checkpoint(
            backbone=str(value["backbone"]),
            step=int(value["step"]),
            model=value["model"],
            optimizer=value["optimizer"],
            recipe=dict(value["recipe"]),
            shard_sets=tuple(dict(shard_set) for shard_set in value["sources"]),
            batchnorm="frozen" if value["batchnorm"] == "frozen" else "train",
            ema=value["ema"],
            best=None if value["best"] is None else float(value["best"]),
            validated=int(value["validated"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: checkpoint is malformed ({error!r})") from None


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
        The model on the CPU in eval mode, and where it comes from: ``file``, ``backbone``,
        ``trained`` (in words), ``recipe`` (the checkpoint's, or ``None``).

    Raises:
        CheckpointError: The file is no STM, or is damaged.
    """
    value = load_file(path)
    saved = _checkpoint_in(value, path) if value.get("format") == FORMAT_NAME else None
    state = state_in(value if saved is None else {"model": saved.ema or saved.model}, path)
    name = backbone_of(state)
    if name is None:
        raise CheckpointError(
            f"{path}: expected STM weights with one of the backbones {', '.join(BACKBONES)}, "
            f"found {len(state)} tensors of another model; give a checkpoint of STM"
        )
    model = STM(name).eval()
    load_state(model, state, str(path))
    origin: dict[str, Any] = {"file": path.name, "backbone": name, "recipe": None}
    if saved is None:
        origin["trained"] = "unknown training (weights only)"
    else:
        origin["recipe"] = dict(saved.recipe)
        origin["trained"] = f"{saved.step} steps of recipe {saved.recipe.get('name')}"
        if saved.ema is not None:
            origin["trained"] += ", averaged weights"
    return model, origin
