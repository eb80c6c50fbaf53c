"""The published motion: corners drift, and its statistics agree with the published generator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.clip_stats import clip_statistics
from stmdata.stills.source import CocoSource
from stmdata.synthesis.classic import draw_classic
from stmdata.synthesis.clip import draw_clip
from stmdata.synthesis.layers import Cutout, inverse, transform
from stmdata.synthesis.recipe import CLASSIC
from tests.paths import REAL, real_data
from tests.profiles import examples
from tests.synthesis_inputs import SEEDS, agrees, disc, made, painted, positions


@examples(25)
@given(seed=SEEDS, num_frames=st.integers(2, 8))
def test_classic_corners_drift_one_way_by_a_tenth_per_frame(seed: int, num_frames: int) -> None:
    height, width = 240, 320
    recipe = replace(CLASSIC, flip=0.0, full_speed_steps=99)
    labels = np.zeros((height, width), np.uint8)
    scene = draw_classic(labels, [], recipe, num_frames, 384, np.random.default_rng(seed))
    canvas = np.array([[0, 0], [640, 0], [640, 480], [0, 480]])  # short side 480
    # What each frame shows in its corners; the crop shifts all of them alike.
    corners = transform(inverse(scene.base[0]), (canvas + 0.5) / 2 - 0.5)
    shown = transform(scene.base, corners) * 2
    steps = np.diff(shown, axis=0) / (640, 480)  # (T - 1, 4, 2), shares of width and height
    assert np.abs(steps).max() <= 0.1 + 1e-4
    ways = np.sign(np.where(np.abs(steps) < 1e-4, 0, steps))
    assert (np.abs(ways.sum(axis=0)) == np.abs(ways).sum(axis=0)).all()


def test_corners_drift_independently_in_x_and_y() -> None:
    labels = np.zeros((480, 640), np.uint8)
    recipe = replace(CLASSIC, flip=0.0)
    corners = np.array([[0.0, 0.0], [640.0, 0.0], [640.0, 480.0], [0.0, 480.0]])
    headings = []
    for seed in range(50):
        scene = draw_classic(labels, [], recipe, 2, 384, np.random.default_rng(seed))
        still = transform(inverse(scene.base[0]), corners)
        headings.append(np.sign(transform(scene.base[1], still) - corners))
    alike = np.prod(headings, axis=-1)  # (seeds, 4): 1 where x and y have one sign
    assert (alike.mean(axis=0) < 0.5).all()
    assert (alike.mean(axis=0) > -0.5).all()


def test_the_centre_of_a_paste_stays_in_the_frame() -> None:
    labels, pool = np.zeros((200, 200), np.uint8), [disc(20)]
    recipe = replace(CLASSIC, full_speed_steps=99)
    for seed in range(10):
        scene = draw_classic(labels, pool, recipe, 40, 384, np.random.default_rng(seed))
        for layer in scene.layers:
            centres = transform(inverse(layer.matrices), np.array([layer.cutout.centre]))
            assert centres.max() <= 383 + 1e-6
            assert centres[-1].max() > 382  # 39 steps to the right reach the border


def test_statistics_of_a_known_clip() -> None:
    masks = np.zeros((3, 40, 40), np.uint8)
    masks[0, 10:20, 10:20] = 1
    masks[1, 10:20, 13:23] = 1  # three to the right
    masks[0, 30:35, 30:35] = 2  # gone after
    got = clip_statistics([masks])
    assert got["objects"]["mean"] == 2
    assert got["objects"]["histogram"]["2"] == 1
    assert got["fg_fraction"]["mean"] == 125 / 1600
    assert got["iou_12"] == {
        "n": 1,
        "mean": 70 / 130,
        "p10": 70 / 130,
        "p50": 70 / 130,
        "p90": 70 / 130,
    }
    assert got["shift_12"]["mean"] == 3
    assert got["area_ratio_12"]["mean"] == 1
    assert (got["vanish_2"]["n"], got["vanish_2"]["mean"]) == (2, 0.5)
    assert (got["vanish_3"]["n"], got["vanish_3"]["mean"]) == (1, 1)


@pytest.mark.golden
@real_data
def test_classic_agrees_with_the_published_generator(tmp_path: Path) -> None:
    """240 clips against the golden 1600; the tolerance is four times the sampling error."""
    annotations = tmp_path / "train.json"
    annotations.write_bytes((REAL / "coco/annotations/instances_train2017.json").read_bytes())
    source = CocoSource(REAL / "coco/train2017", annotations)
    pool = [c for c in source.cutouts(150, 3000, np.random.default_rng(0)) if isinstance(c, Cutout)]
    pictures = [source.read(i, CLASSIC.min_instance_area, small_in_front=False) for i in range(80)]
    masks = [
        made(draw_clip(p.image, p.labels, pool, CLASSIC, np.random.default_rng([n, i]))).masks
        for n in range(3)
        for i, p in enumerate(pictures)
    ]
    got = clip_statistics(masks)
    for name, want, tolerance in (
        ("objects", 3.493, 0.25),
        ("fg_fraction", 0.3915, 0.035),
        ("iou_12", 0.4306, 0.03),
        ("iou_23", 0.4306, 0.04),
        ("shift_12", 25.80, 2.5),
        ("shift_23", 25.83, 2.5),
        ("vanish_2", 0.0109, 0.015),
        ("vanish_3", 0.0239, 0.02),
    ):
        assert got[name]["mean"] == pytest.approx(want, abs=tolerance), name


@pytest.mark.parametrize(("seed", "num_frames"), [(0, 3), (2, 3), (3, 5), (9, 2), (11, 3)])
def test_scenes_are_those_of_earlier_revisions(seed: int, num_frames: int) -> None:
    recipe = replace(CLASSIC, max_base_objects=2)
    labels, pool = painted(200, 260, 3, np.random.default_rng(1)), [disc(20), disc(35)]
    scene = draw_classic(labels, pool, recipe, num_frames, 128, np.random.default_rng(seed))
    assert scene.hard_edges
    assert scene.wedges
    layers = [(layer.object_id, layer.behind, layer.cutout.area) for layer in scene.layers]
    assert agrees(f"classic ids {seed}", scene.base_ids, 0)
    assert agrees(f"classic layers {seed}", layers, 0)
    assert agrees(f"classic positions {seed}", positions(scene), 0.01)


def test_a_crop_contains_the_objects_if_they_fit() -> None:
    labels = np.zeros((200, 400), np.uint8)
    labels[80:120, 180:220] = 1
    recipe = replace(CLASSIC, corner_shift=0.0, paste_probability=1.0)
    for seed in range(20):
        scene = draw_classic(labels, [], recipe, 2, 384, np.random.default_rng(seed))
        spots = transform(inverse(scene.base), np.array([[180.0, 80.0], [219.0, 119.0]]))
        assert spots.min() >= -1
        assert spots.max() <= 384
        assert scene.base_ids == (1,)


def test_only_more_instances_than_allowed_are_drawn_from() -> None:
    labels = painted(200, 260, 3, np.random.default_rng(1))
    for most, expected in ((3, {(1, 2, 3)}), (1, {(1,), (2,), (3,)})):
        recipe = replace(CLASSIC, max_base_objects=most, paste_probability=1.0)
        rngs = map(np.random.default_rng, range(20))
        ids = {draw_classic(labels, [], recipe, 2, 64, rng).base_ids for rng in rngs}
        assert ids == expected


def test_a_canvas_smaller_than_the_clip_is_shown_from_its_corner() -> None:
    labels = painted(200, 260, 2, np.random.default_rng(1))
    recipe = replace(CLASSIC, short_side=200.0, corner_shift=0.0, flip=0.0)
    for seed in range(10):
        scene = draw_classic(labels, [], recipe, 2, 384, np.random.default_rng(seed))
        corner = transform(scene.base[0], np.zeros((1, 2)))[0]
        np.testing.assert_allclose(corner, [0.0, 0.0], atol=1e-6)
