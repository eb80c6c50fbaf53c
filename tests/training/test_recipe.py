"""Recipes of training: schedules are functions of the step, and no wrong number is accepted."""

import math
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import UsageError
from stmtrain.settings import to_toml
from stmtrain.training.recipe import (
    FREE_ON_RESUME,
    MAIN,
    PRETRAIN,
    RECIPES,
    TrainRecipe,
    bootstrap_share,
    learning_rate,
    load_recipe,
    max_skip,
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_toml_and_every_field_says_what_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(RECIPES[name]))
    assert load_recipe(str(path)) == RECIPES[name] == load_recipe(name)
    assert all(field.metadata["doc"] for field in fields(TrainRecipe))
    assert {field.name for field in fields(TrainRecipe)} >= FREE_ON_RESUME


def test_the_defaults_are_the_papers() -> None:
    assert (PRETRAIN.frames, PRETRAIN.size, PRETRAIN.batch_size) == (3, 384, 4)
    assert (PRETRAIN.learning_rate, PRETRAIN.adam_betas, PRETRAIN.adam_eps) == (
        1e-5,
        (0.9, 0.999),
        1e-8,
    )
    assert (PRETRAIN.schedule, PRETRAIN.detach_memory) == ("constant", False)
    assert (MAIN.schedule, MAIN.poly_power, MAIN.detach_memory) == ("poly", 0.9, True)
    assert PRETRAIN.steps * PRETRAIN.batch_size == 800_000
    plain = (1.0, 0.0, None, 0.0, "float32", 1)
    for recipe in RECIPES.values():
        assert plain == (
            recipe.bootstrap,
            recipe.dice,
            recipe.clip_norm,
            recipe.ema,
            recipe.precision,
            recipe.accumulate,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        "batch_size=0",
        "log_every=0",
        "accumulate=0",
        "frames=1",
        "size=100",
        "size=16",
        "size=40",
        "learning_rate=0.0",
        "learning_rate=nan",
        "clip_norm=-1.0",
        "ema=1.0",
        "ema=-0.1",
        "bootstrap=0.0",
        "bootstrap=1.5",
        "bootstrap_steps=[5, 2]",
        "max_skip=[3, 1]",
        "max_skip_end=[1.5, 5]",
        "max_skip_end=[0.5, -1]",
        "reverse=1.5",
        "reverse=-0.5",
        "dice=-0.5",
        "dice=inf",
        "warmup=-1",
        "schedule=linear",
        "precision=float16",
        "nonsense=1",
        "steps",
        "steps='many'",
    ],
)
def test_a_wrong_value_is_refused_with_its_name(wrong: str) -> None:
    with pytest.raises(UsageError, match=f"--set {wrong.split('=')[0]}"):
        load_recipe("pretrain", (wrong,))


@pytest.mark.parametrize(
    "bound",
    [
        "batch_size=1",
        "log_every=1",
        "keep_every=0",
        "dice=0.0",
        "adam_eps=0.0",
        "frames=2",
        "size=32",
        "reverse=0.0",
        "reverse=1.0",
        "ema=0.0",
        "bootstrap=1.0",
        "bootstrap_steps=[0, 0]",
        "max_skip=[2, 2]",
        "max_skip_end=[0.0, 0]",
        "max_skip_end=[1.0, 5]",
    ],
)
def test_the_bounds_themselves_are_allowed(bound: str) -> None:
    assert load_recipe("pretrain", (bound,))


@given(
    schedule=st.sampled_from(["constant", "poly", "cosine"]),
    steps=st.integers(2, 500),
    warmup=st.integers(0, 50),
)
def test_the_learning_rate_rises_while_warming_up_then_never(
    schedule: str, steps: int, warmup: int
) -> None:
    recipe = replace(PRETRAIN, schedule=schedule, steps=steps, warmup=warmup, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    after = rates[warmup:]
    assert all(b <= a + 1e-12 for a, b in pairwise(after))
    if not warmup:
        assert rates[0] == 1
    if schedule == "cosine":
        assert learning_rate(replace(recipe, warmup=0), steps // 2) == pytest.approx(
            (1 + math.cos(math.pi * (steps // 2) / steps)) / 2
        )


def test_the_skip_curriculum_grows_and_may_come_down_at_the_end() -> None:
    assert [max_skip(MAIN, step) for step in (0, 2999, 3000, 74_999, 75_000, 199_999)] == [
        *(0, 0, 1, 24, 25, 25)
    ]
    ending = replace(MAIN, max_skip_end=(0.9, 5))
    assert [max_skip(ending, step) for step in (179_999, 180_000, 199_999)] == [25, 5, 5]


def test_the_share_of_hardest_pixels_falls_between_its_two_steps() -> None:
    recipe = replace(PRETRAIN, bootstrap=0.2, bootstrap_steps=(100, 300))
    shares = [bootstrap_share(recipe, step) for step in (0, 100, 200, 300, 5000)]
    assert shares == pytest.approx([1, 1, 0.6, 0.2, 0.2])
    assert bootstrap_share(replace(PRETRAIN, bootstrap=0.3), 0) == pytest.approx(0.3)
    assert bootstrap_share(PRETRAIN, 7) == 1
