"""Small training runs on drawn videos, as the tests start them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stmtrain.train import train
from stmtrain.training.recipe import MAIN, TrainRecipe
from stmtrain.training.setup import TrainOptions

RECIPE = replace(
    MAIN, size=32, batch_size=2, steps=4, learning_rate=1e-3, log_every=1, save_every=2
)
EVERYTHING = replace(
    RECIPE,
    image_every=2,
    save_every=3,
    keep_every=2,
    val_every=2,
    ema=0.5,
    bootstrap=0.5,
    dice=1.0,
    clip_norm=1.0,
    accumulate=2,
)
"""A recipe with every option that changes what a run computes or leaves behind."""


def options(shards: Path, out: Path, **more: Any) -> TrainOptions:
    """Return the options of a run from random weights on the CPU."""
    plain = TrainOptions((shards,), (1.0,), out, "resnet18", "none", device="cpu", threads=1)
    return replace(plain, **more)


def train_quietly(
    shards: Path, out: Path, recipe: TrainRecipe = RECIPE, **more: Any
) -> list[dict[str, Any]]:
    """Train, and return the lines of metrics.jsonl."""
    train(options(shards, out, **more), recipe, lambda *_: None)
    return metrics(out)


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def moving_squares(objects: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A clip of flat coloured squares that move, (1,3,3,48,48), masks and object count."""
    frames = torch.full((1, 3, 3, 48, 48), 0.5)
    masks = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    for t in range(3):
        for o in range(1, objects + 1):
            box = (slice(4 + 22 * (o - 1), 22 * o), slice(4 + 5 * t, 24 + 5 * t))
            masks[0, t][box] = o
            frames[0, t, o % 3][box] = 1.0
    return frames, masks, torch.tensor([objects])
