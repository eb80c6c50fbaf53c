"""The recipes of both training stages of STM: every number with its unit and source."""

import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, load_named, setting

_COUNTS = ("batch_size", "steps", "accumulate", "max_skip_every", "window", "memory_every")
_RULES: tuple[tuple[str, tuple[str, ...], Callable[[Any], bool]], ...] = (
    ("at least 1", _COUNTS, lambda v: v >= 1),
    ("at least 1", ("log_every", "image_every", "save_every"), lambda v: v >= 1),
    ("at least 0", ("warmup", "keep_every", "val_every", "val_size"), lambda v: v >= 0),
    ("at least 0", ("dice", "adam_eps"), lambda v: 0 <= v < math.inf),
    ("at least 2", ("frames",), lambda v: v >= 2),
    ("a multiple of 16 and at least 32", ("size",), lambda v: v >= 32 and v % 16 == 0),
    ("positive", ("learning_rate", "clip_norm"), lambda v: 0 < v < math.inf),
    ("in 0..1", ("reverse",), lambda v: 0 <= v <= 1),
    ("in 0..1 and below 1", ("ema",), lambda v: 0 <= v < 1),
    ("in 0..1 and above 0", ("bootstrap",), lambda v: 0 < v <= 1),
    ("two ascending numbers", ("max_skip", "bootstrap_steps"), lambda v: 0 <= v[0] <= v[1]),
    ("a share in 0..1 and frames", ("max_skip_end",), lambda v: 0 <= v[0] <= 1 and v[1] >= 0),
)

FREE_ON_RESUME = frozenset(
    {
        "log_every",
        "image_every",
        "save_every",
        "keep_every",
        "val_every",
        "val_size",
        "memory_every",
        "compile",
        "checkpoint_activations",
    }
)
"""Fields that may differ when a run is resumed: they do not influence what is learnt."""


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that determines a training run, apart from shards and initial weights.

    The defaults are stage 1 of the paper. Where the paper, the published re-training ("reference")
    and later work differ, the difference is a field.
    """

    name: str = setting("pretrain", "name of the training stage")
    seed: int = setting(0, "of order, augmentation and random initial weights")
    steps: int = setting(200_000, "optimiser steps; 800 000 clips (reference)")

    # Clips
    clips: Literal["pseudo", "video"] = setting(
        "pseudo", "how clips are drawn: pre-augmented pseudo-videos, or frames of real videos"
    )
    frames: int = setting(3, "frames per clip (paper, section 3.4)")
    size: int = setting(384, "side of the square training crop, pixels (paper, section 3.4)")
    batch_size: int = setting(4, "clips per step, over all ranks (paper, section 3.4)")
    accumulate: int = setting(
        1, "parts into which a rank's clips are split; more parts need less memory"
    )
    window: int = setting(100_000, "samples shuffled together; larger is closer to a uniform order")
    reverse: float | None = setting(
        None, "probability of reversed time; none: 0.5 for pseudo, 0 for video (STCN, XMem: 0.5)"
    )
    max_skip: tuple[int, int] = setting(
        (0, 0), "most frames skipped between neighbours: at the first step, and at its highest"
    )
    max_skip_every: int = setting(
        3000, "steps until max_skip grows by one (reference: 3000 at batch 4)"
    )
    max_skip_end: tuple[float, int] = setting(
        (1.0, 0),
        "share of the steps after which max_skip is fixed, and its value (XMem: 0.9, 5)",
    )

    # Loss
    detach_memory: bool = setting(
        False, "no gradient through the predicted mask that enters the memory (reference, stage 2)"
    )
    gradient: Literal["mean", "sum"] = setting(
        "mean", "over the clips of a step (reference: sum, which hardly changes Adam's steps)"
    )
    bootstrap: float = setting(1.0, "final share of hardest pixels in the loss (STCN: 0.15)")
    bootstrap_steps: tuple[int, int] = setting(
        (0, 0), "steps between which this share falls from 1 (STCN: 20000 to 70000)"
    )
    dice: float = setting(0.0, "weight of the dice loss (Cutie: 1)")

    # Optimiser
    learning_rate: float = setting(1e-5, "Adam step size (paper, section 3.4)")
    schedule: Literal["constant", "poly", "cosine"] = setting(
        "constant", "of the learning rate over the steps"
    )
    warmup: int = setting(0, "steps over which the learning rate rises linearly (paper: 0)")
    poly_power: float = setting(0.9, "exponent of the poly schedule (reference)")
    adam_betas: tuple[float, float] = setting((0.9, 0.999), "Adam moment decays")
    adam_eps: float = setting(1e-8, "Adam denominator offset")
    clip_norm: float | None = setting(None, "maximum norm of the gradient; none: not clipped")
    ema: float = setting(0.0, "decay per step of averaged weights, used for evaluation; 0: none")
    batchnorm: Literal["auto", "frozen", "train"] = setting(
        "auto",
        "running statistics: frozen (paper), trained, or auto: frozen if weights are loaded",
    )

    # Computation
    precision: Literal["float32", "bfloat16"] = setting(
        "float32", "of convolutions; softmax, aggregation and loss are always float32"
    )
    tf32: bool = setting(False, "round factors to 10 bits in float32 products on NVIDIA GPUs")
    channels_last: bool = setting(False, "memory layout NHWC, faster with bfloat16 on GPUs")
    compile: bool = setting(False, "torch.compile: slower start, fewer and larger kernels")
    checkpoint_activations: bool = setting(
        False, "recompute activations in the backward pass: less memory, more time"
    )

    # Records
    log_every: int = setting(
        20, "most steps between lines in metrics.jsonl; a short run has at least a hundred"
    )
    image_every: int = setting(500, "steps between TensorBoard pictures")
    save_every: int = setting(1000, "steps between checkpoints, each replacing the last")
    keep_every: int = setting(0, "steps between checkpoints that are kept; 0: none")
    val_every: int = setting(0, "steps between validations; 0: only at the end")
    val_size: int = setting(0, "short side of validation frames, pixels; 0: original size")
    memory_every: int = setting(
        5, "in validation, every Nth frame enters the memory (reference: 8)"
    )

    def __post_init__(self) -> None:
        """Raise ValueError for a value out of range."""
        for expected, fields, fits in _RULES:
            for field in fields:
                value = getattr(self, field)
                if value is not None and not fits(value):
                    raise ValueError(f"{field} must be {expected}, found {value}")


PRETRAIN = TrainRecipe()
"""Stage 1, pseudo-videos: constant learning rate, gradient through the predicted mask."""

MAIN = TrainRecipe(
    name="main",
    clips="video",
    schedule="poly",
    detach_memory=True,
    max_skip=(0, 25),
)
"""Stage 2, DAVIS and YouTube-VOS: poly schedule, detached memory, skip curriculum 0 to 25."""

RECIPES = {recipe.name: recipe for recipe in (PRETRAIN, MAIN)}


def load_recipe(name: str, overrides: tuple[str, ...] = (), **options: object) -> TrainRecipe:
    """Return a named recipe or one from a TOML file, with other values of some fields.

    Args:
        name: A key of :data:`RECIPES`, or the path of a TOML file (its ``name`` field selects the
            recipe that it starts from).
        overrides: ``field=value`` texts; values are written as in TOML.
        options: Values by field, applied last; ``None`` leaves a field unchanged.

    Raises:
        UsageError: Unknown recipe, field or value.
    """
    recipe = load_named(
        name, RECIPES, lambda values: RECIPES.get(str(values.get("name")), PRETRAIN), "--recipe"
    )
    for item in overrides:
        field, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: expected field=value")
        recipe = from_mapping(TrainRecipe, {field: _value(value)}, f"--set {item}", recipe)
    given = {field: value for field, value in options.items() if value is not None}
    return from_mapping(TrainRecipe, given, f"recipe {recipe.name}", recipe)


def _value(text: str) -> object:
    """Parse a TOML value; anything else is a string written without quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """Return the learning rate of ``step``, in ``[0, recipe.steps)``."""
    rate = recipe.learning_rate * min(1.0, (step + 1) / (recipe.warmup + 1))
    if recipe.schedule == "constant":
        return rate
    done = min(1.0, step / recipe.steps)
    if recipe.schedule == "cosine":
        return rate * (1 + math.cos(math.pi * done)) / 2
    return rate * float((1 - done) ** recipe.poly_power)


def max_skip(recipe: TrainRecipe, step: int) -> int:
    """Return the maximum of frames skipped between neighbours (curriculum of stage 2)."""
    share, last = recipe.max_skip_end
    if share < 1 and step >= share * recipe.steps:
        return last
    first, highest = recipe.max_skip
    return min(highest, first + step // recipe.max_skip_every)


def bootstrap_share(recipe: TrainRecipe, step: int) -> float:
    """Return the share of hardest pixels in the loss: 1, then falling, then ``bootstrap``."""
    begin, end = recipe.bootstrap_steps
    done = 1.0 if step >= end else max(0.0, (step - begin) / (end - begin))
    return 1 - done * (1 - recipe.bootstrap)
