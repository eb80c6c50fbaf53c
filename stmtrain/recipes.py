"""The two training stages of STM, one screen: every number with its unit and source."""

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, from_toml, setting

__all__ = [
    "MAIN",
    "PRETRAIN",
    "RECIPES",
    "TrainRecipe",
    "learning_rate",
    "load_recipe",
    "max_skip",
    "with_options",
]


@dataclass(frozen=True)
class TrainRecipe:
    """Everything that decides a training run, apart from the shards and the initial weights."""

    name: str = setting("pretrain", "stage")
    clips: Literal["pseudo", "video"] = setting(
        "pseudo", "how clips are drawn: pre-augmented pseudo-videos, or frames of real videos"
    )
    frames: int = setting(3, "frames of a clip (paper, section 3.4)")
    size: int = setting(384, "side of the square training crop, pixels (paper, section 3.4)")
    batch_size: int = setting(4, "clips of a step over all ranks (paper, section 3.4)")
    steps: int = setting(200_000, "optimiser steps; 800 000 clips (published re-training)")
    learning_rate: float = setting(1e-5, "Adam step size (paper, section 3.4)")
    schedule: Literal["constant", "poly"] = setting("constant", "learning rate over the steps")
    warmup: int = setting(0, "steps over which the learning rate rises linearly; 0 in the paper")
    poly_power: float = setting(0.9, "exponent of the poly schedule (published re-training)")
    adam_betas: tuple[float, float] = setting((0.9, 0.999), "Adam moment decays")
    adam_eps: float = setting(1e-8, "Adam denominator offset")
    detach_memory: bool = setting(
        False, "no gradient through the predicted mask that enters the memory"
    )
    batchnorm: Literal["auto", "frozen", "train"] = setting(
        "auto",
        "running statistics: frozen (paper), trained, or frozen only when weights were loaded",
    )
    max_skip: tuple[int, int] = setting(
        (0, 0), "most frames skipped between neighbours, at the first and at the highest point"
    )
    max_skip_every: int = setting(
        3000, "steps until max_skip grows by one (published re-training: 3000 at batch 4)"
    )
    seed: int = setting(0, "decides order, augmentation and initial weights")
    window: int = setting(100_000, "samples shuffled together; larger is closer to uniform")
    log_every: int = setting(20, "steps between lines in metrics.jsonl")
    save_every: int = setting(1000, "steps between checkpoints")

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        for field in ("batch_size", "steps", "max_skip_every", "window", "log_every", "save_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, found {getattr(self, field)}")
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, found {self.frames}")
        if self.size < 32 or self.size % 16:
            raise ValueError(f"size must be a multiple of 16, at least 32; found {self.size}")
        if self.warmup < 0:
            raise ValueError(f"warmup must be at least 0, found {self.warmup}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, found {self.learning_rate}")
        if not 0 <= self.max_skip[0] <= self.max_skip[1]:
            raise ValueError(f"max_skip must be two ascending numbers, found {self.max_skip}")


PRETRAIN = TrainRecipe()
"""Stage 1, pseudo-videos: constant rate, gradient through the predicted mask."""

MAIN = TrainRecipe(
    name="main",
    clips="video",
    schedule="poly",
    detach_memory=True,
    max_skip=(0, 25),
)
"""Stage 2, DAVIS and YouTube-VOS: poly schedule, detached memory, skip curriculum 0 to 25."""

RECIPES = {recipe.name: recipe for recipe in (PRETRAIN, MAIN)}


def load_recipe(name: str, overrides: tuple[str, ...] = ()) -> TrainRecipe:
    """Return a named recipe or one from a TOML file, with ``field=value`` overrides applied.

    Args:
        name: A key of :data:`RECIPES`, or a path ending in ``.toml`` (its ``name`` field says
            which recipe it starts from).
        overrides: ``field=value`` texts; values are written as in TOML.

    Raises:
        UsageError: Unknown recipe, field or value.
    """
    if name.endswith(".toml"):
        recipe = _from_file(Path(name))
    elif name in RECIPES:
        recipe = RECIPES[name]
    else:
        raise UsageError(
            f"--recipe {name}: expected one of {', '.join(RECIPES)} or a .toml file; "
            "no recipe has this name"
        )
    for item in overrides:
        field, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}: expected field=value")
        recipe = from_mapping(TrainRecipe, {field: _value(value)}, f"--set {item}", recipe)
    return recipe


def _value(text: str) -> object:
    """Read a TOML value; what is none is a string that was written without quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _from_file(path: Path) -> TrainRecipe:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--recipe {path}: cannot be read ({error})") from None
    base = from_toml(TrainRecipe, text, str(path))
    return from_toml(TrainRecipe, text, str(path), RECIPES.get(base.name, PRETRAIN))


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """Return the step size of ``step`` in ``[0, recipe.steps)``."""
    rate = recipe.learning_rate * min(1.0, (step + 1) / (recipe.warmup + 1))
    if recipe.schedule == "constant":
        return rate
    left = max(0.0, 1.0 - step / recipe.steps)
    return rate * float(left**recipe.poly_power)


def max_skip(recipe: TrainRecipe, step: int) -> int:
    """Return the most frames skipped between neighbours at ``step`` (curriculum of stage 2)."""
    first, highest = recipe.max_skip
    return min(highest, first + step // recipe.max_skip_every)


def with_options(recipe: TrainRecipe, **options: object) -> TrainRecipe:
    """Return the recipe with the command line's options; ``None`` leaves a field as it is."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return replace(recipe, **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from None
