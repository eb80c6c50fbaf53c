"""Save and load a training run: weights, optimiser, step, random state, recipe, data identity.

Written to a temporary name, flushed, renamed: a file that exists is whole. Read with
``weights_only=True``: a checkpoint is untrusted input.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stmtrain.errors import CheckpointError
from stmtrain.model import BACKBONES, STM
from stmtrain.weights import backbone_of, load_file, load_weights, read_state

__all__ = ["Checkpoint", "load_checkpoint", "load_model", "save_checkpoint"]

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
        random_state: State of torch's CPU generator, uint8.
        recipe: The recipe's fields as plain values.
        sources: One ``{"config_hash", "samples", "weight"}`` per shard set, in order.
        batchnorm: ``frozen`` or ``train``, as it was resolved when the run began.
    """

    backbone: str
    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    random_state: Tensor
    recipe: Mapping[str, Any]
    sources: tuple[Mapping[str, Any], ...]
    batchnorm: Literal["frozen", "train"]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` so that ``path`` is either the old file or the whole new one."""
    temporary = path.with_name(path.name + ".tmp")
    value = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "backbone": checkpoint.backbone,
        "step": checkpoint.step,
        "model": dict(checkpoint.model),
        "optimizer": dict(checkpoint.optimizer),
        "random_state": checkpoint.random_state,
        "recipe": dict(checkpoint.recipe),
        "sources": [dict(source) for source in checkpoint.sources],
        "batchnorm": checkpoint.batchnorm,
    }
    with temporary.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of this program, onto the CPU.

    Raises:
        CheckpointError: Missing, damaged, unsafe to load, of another program or another version.
    """
    value = load_file(path)
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
            random_state=value["random_state"],
            recipe=dict(value["recipe"]),
            sources=tuple(dict(source) for source in value["sources"]),
            batchnorm="frozen" if value["batchnorm"] == "frozen" else "train",
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: checkpoint is malformed ({error!r})") from None


def load_model(path: Path) -> tuple[STM, dict[str, Any]]:
    """Build the model that a file holds weights for: our checkpoint or published STM weights.

    Returns:
        The model on the CPU in eval mode, and where it comes from: ``file``, ``backbone``,
        ``trained`` (in words), ``recipe`` (the checkpoint's, or ``None``).

    Raises:
        CheckpointError: The file is no STM, or is damaged.
    """
    state = read_state(path)
    name = backbone_of(state)
    if name is None:
        raise CheckpointError(
            f"{path}: expected STM weights with one of the backbones {', '.join(BACKBONES)}, "
            f"found {len(state)} tensors of another model; give a checkpoint of STM"
        )
    model = STM(name).eval()
    load_weights(model, path)
    origin: dict[str, Any] = {"file": path.name, "backbone": name, "recipe": None}
    value = load_file(path)
    if value.get("format") == FORMAT_NAME:
        saved = load_checkpoint(path)
        origin["recipe"] = dict(saved.recipe)
        origin["trained"] = f"{saved.step} steps of recipe {saved.recipe.get('name')}"
    else:
        origin["trained"] = "unknown training (weights only)"
    return model, origin
