from dataclasses import fields, replace
from pathlib import Path

import pytest

from stmdata.synthesis.recipe import (
    CLASSIC,
    DEFAULT,
    RECIPES,
    ClassicRecipe,
    SmoothRecipe,
    load_recipe,
)
from stmtrain.errors import UsageError
from stmtrain.settings import to_toml


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_toml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(RECIPES[name]))
    assert load_recipe(path) == RECIPES[name] == load_recipe(name)


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("camera_shift = 0.5\npastes = [2, 2]\n")
    assert load_recipe(path) == replace(DEFAULT, camera_shift=0.5, pastes=(2, 2))
    path.write_text('family = "classic"\nshort_side = 400\n')
    assert load_recipe(path) == replace(CLASSIC, short_side=400.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera_shfit = 0.5", "unknown field 'camera_shfit'"),
        ("camera_shift = 'fast'", "camera_shift: expected float, found 'fast'"),
        ("pastes = [1, 2, 3]", "expected 2 values, found 3"),
        ("pastes = [3, 1]", "0 <= fewest <= most"),
        ("max_objects = 255", "expected 1..254, found 255"),
        ("flip = 2.0", "flip: expected"),
        ("view = [0.0, 1.0]", "view: expected"),
        ("leave_probability = -0.5", "leave_probability: expected 0..1"),
        ("family = 'other'", "family: expected one of smooth, classic"),
        ("family = [1]", "family: expected one of smooth, classic"),
        ("family = 'classic'\ncamera_shift = 1.0", "unknown field 'camera_shift'"),
        ("not toml", "expected a readable TOML file"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="expected default, classic or a TOML file"):
        load_recipe("clasic")


def test_the_classic_numbers_are_the_published_ones() -> None:
    published = {
        "min_instance_area": 2000,
        "min_cutout_box": 3000,
        "pastes": (1, 3),
        "flip": 0.5,
        "min_object_area": 350,
        "max_objects": 5,
        "max_base_objects": 5,
        "paste_probability": 0.5,
        "short_side": 480,
        "corner_shift": 0.1,
        "paste_right": 40,
        "paste_down": 20,
        "paste_rotate": 30,
        "paste_shear": 20,
        "paste_scale": (0.8, 1.2),
    }
    assert {name: getattr(CLASSIC, name) for name in published} == published


@pytest.mark.parametrize("recipe", [ClassicRecipe, SmoothRecipe])
def test_every_field_says_what_it_means(recipe: type) -> None:
    assert all(len(f.metadata["doc"]) > 15 for f in fields(recipe))
