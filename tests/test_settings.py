"""Recipes as text: writing and reading back is lossless, and unknown fields are refused."""

import dataclasses
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, load_named, setting, to_mapping, to_toml
from stmtrain.training import recipe as recipes


@dataclass(frozen=True)
class Thing:
    size: int = setting(3, "px")
    scale: tuple[float, float] = setting((0.5, 2.0), "factor")
    kind: Literal["a", "b"] = setting("a", 'which "kind"')
    limit: int | None = setting(None, "most, if any")
    on: bool = setting(True, "whether")


@pytest.mark.parametrize("thing", [Thing(), Thing(4, (1.0, 1.5), "b", 7, False)])
def test_toml_round_trip(thing: Thing) -> None:
    assert from_mapping(Thing, tomllib.loads(to_toml(thing)), "text") == thing
    assert from_mapping(Thing, to_mapping(thing), "map") == thing


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=lambda r: r.name)
def test_every_training_recipe_round_trips(recipe: recipes.TrainRecipe) -> None:
    assert from_mapping(type(recipe), tomllib.loads(to_toml(recipe)), "text") == recipe
    assert all(f.metadata["doc"] for f in dataclasses.fields(recipe))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 3", "unknown field 'sise'; known are"),
        ("size = 'x'", "size: expected int, found 'x'"),
        ("size = true", "size: expected int, found True"),
        ("size = 3.5", "size: expected int, found 3.5"),
        ("scale = [1.0]", "scale: expected 2 values, found 1"),
        ("kind = 'c'", "kind: expected one of a, b, found 'c'"),
        ("on = 1", "on: expected bool, found 1"),
        ("size", "mine.toml: expected a readable TOML file"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_named(path, {}, lambda _: Thing(), "thing")


def test_a_name_or_a_file_gives_a_recipe(tmp_path: Path) -> None:
    known = {"small": Thing(1), "large": Thing(9)}
    path = tmp_path / "mine.toml"
    path.write_text("on = false")
    assert load_named("large", known, lambda _: Thing(), "thing") == Thing(9)
    assert load_named(path, known, lambda values: Thing(len(values)), "thing") == Thing(1, on=False)
    with pytest.raises(UsageError, match="thing huge: expected small, large or a TOML file"):
        load_named("huge", known, lambda _: Thing(), "thing")


def test_overrides_and_files(tmp_path) -> None:
    recipe = recipes.load_recipe("main", ("steps=7", "schedule=constant", "max_skip=[1, 2]"))
    assert (recipe.steps, recipe.schedule, recipe.max_skip) == (7, "constant", (1, 2))
    path = tmp_path / "mine.toml"
    path.write_text('name = "main"\nsteps = 9\n')
    assert recipes.load_recipe(str(path)) == dataclasses.replace(recipes.MAIN, steps=9)
    with pytest.raises(UsageError, match="expected pretrain, main or a TOML file"):
        recipes.load_recipe("mian")
    with pytest.raises(UsageError, match="size must be a multiple of 16"):
        recipes.load_recipe("main", ("size=100",))


def test_schedules_are_functions_of_the_step() -> None:
    main = recipes.MAIN
    rates = [recipes.learning_rate(main, k) for k in range(0, main.steps + 1, 1000)]
    assert rates[0] == main.learning_rate
    assert rates[-1] == 0
    assert rates == sorted(rates, reverse=True)
    assert [recipes.max_skip(main, k) for k in (0, 2999, 3000, 74_999, 75_000, 10**6)] == [
        0, 0, 1, 24, 25, 25,
    ]  # fmt: skip
    warm = dataclasses.replace(recipes.PRETRAIN, warmup=3, learning_rate=4.0)
    assert [recipes.learning_rate(warm, k) for k in range(5)] == [1, 2, 3, 4, 4]
    assert recipes.learning_rate(recipes.PRETRAIN, 123_456) == recipes.PRETRAIN.learning_rate


def test_deep_nesting_and_pipes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"a = {'[' * 5000}{']' * 5000}\n")
    with pytest.raises(UsageError, match=r"deep\.toml: .*nested"):
        load_named(path, {}, lambda _: Thing(), "--recipe")
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UsageError, match="expected"):
        load_named(tmp_path / "pipe.toml", {}, lambda _: Thing(), "--recipe")
