"""Smooth motion: inside the image, in every direction, without jerks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.synthesis.layers import inverse, transform
from stmdata.synthesis.recipe import DEFAULT
from stmdata.synthesis.smooth import draw_smooth
from tests.profiles import examples
from tests.synthesis_inputs import SEEDS, agrees, disc, painted, positions


@examples(25)
@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(32, 300), st.integers(32, 300)),
    num_frames=st.integers(2, 16),
    size=st.sampled_from([64, 97, 384]),
)
def test_smooth_frames_lie_inside_the_image(
    seed: int, shape: tuple[int, int], num_frames: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(*shape, 2, rng)
    scene = draw_smooth(labels, [], DEFAULT, num_frames, size, rng)
    side = size - 1.0
    spots = transform(scene.base, np.array([[0, 0], [side, 0], [side, side], [0, side]]))
    assert (spots >= -1e-6).all()
    assert (spots <= np.array([shape[1] - 1, shape[0] - 1]) + 1e-6).all()


@examples(25)
@given(seed=SEEDS, num_frames=st.integers(3, 16))
def test_smooth_motion_has_no_jerks_and_every_direction(seed: int, num_frames: int) -> None:
    rng = np.random.default_rng(seed)
    recipe = replace(DEFAULT, leave_probability=0.0, pastes=(1, 1), paste_probability=1.0)
    scene = draw_smooth(np.zeros((200, 200), np.uint8), [disc(30)], recipe, num_frames, 100, rng)
    layer = scene.layers[0]
    path = transform(inverse(layer.matrices), np.array([layer.cutout.centre]))[:, 0]
    steps = np.diff(path, axis=0)
    change = np.linalg.norm(np.diff(steps, axis=0), axis=1)
    fastest = np.linalg.norm(steps, axis=1).max()
    assert (change <= 100 * recipe.paste_shift * recipe.acceleration).all()
    assert fastest <= 100 * recipe.paste_shift * (1 + recipe.acceleration)
    assert np.linalg.norm(path[-1] - path[0]) <= 105 * recipe.paste_shift * recipe.full_speed_steps


def test_smooth_motion_goes_every_way() -> None:
    rng = np.random.default_rng(0)
    recipe = replace(DEFAULT, leave_probability=0.0, pastes=(1, 1), paste_probability=1.0)
    ends = []
    for _ in range(200):
        scene = draw_smooth(np.zeros((99, 99), np.uint8), [disc(30)], recipe, 3, 100, rng)
        centre = np.array([scene.layers[0].cutout.centre])
        spots = transform(inverse(scene.layers[0].matrices), centre)[:, 0]
        ends.append(spots[-1] - spots[0])
    quadrants = [tuple(sign) for sign in np.sign(ends).astype(int)]
    assert all(quadrants.count((x, y)) > 25 for x in (-1, 1) for y in (-1, 1))


@pytest.mark.parametrize(("seed", "num_frames"), [(0, 3), (2, 3), (4, 6), (6, 9)])
def test_scenes_are_those_of_earlier_revisions(seed: int, num_frames: int) -> None:
    recipe = replace(DEFAULT, pastes=(2, 2), leave_probability=0.5, behind_probability=0.5)
    labels, pool = painted(200, 260, 3, np.random.default_rng(1)), [disc(20), disc(35), disc(150)]
    scene = draw_smooth(labels, pool, recipe, num_frames, 128, np.random.default_rng(seed))
    assert scene.base_ids == (1, 2, 3)
    assert not scene.hard_edges
    assert not scene.wedges
    layers = [(layer.object_id, layer.behind, layer.cutout.area) for layer in scene.layers]
    assert agrees(f"smooth layers {seed}", layers, 0)
    assert agrees(f"smooth positions {seed}", positions(scene), 0.01)


def test_without_instances_or_cutouts() -> None:
    empty, never = np.zeros((90, 120), np.uint8), replace(DEFAULT, paste_probability=0.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert 1 <= len(draw_smooth(empty, [disc(9)], never, 3, 64, rng).layers) <= 3
        assert draw_smooth(empty, [], never, 3, 64, rng).layers == ()
        assert draw_smooth(empty + 1, [disc(9)], never, 3, 64, rng).layers == ()
        counts = replace(never, paste_probability=1.0, pastes=(0, 2))
        assert len(draw_smooth(empty, [disc(9)], counts, 3, 64, rng).layers) <= 2


STILL = replace(
    DEFAULT,
    **dict.fromkeys(["camera_shift", "camera_zoom", "camera_rotate", "camera_shear"], 0.0),
    camera_tilt=0.0,
    flip=0.0,
    view=(0.2, 0.2),
)


def first_centres(labels: np.ndarray) -> np.ndarray:
    """Where the middle of frame 0 is in the image, for some seeds; frames are 40 px wide there."""
    scenes = [draw_smooth(labels, [], STILL, 2, 100, np.random.default_rng(i)) for i in range(60)]
    return np.stack([transform(scene.base[0], np.full((1, 2), 49.5))[0] for scene in scenes])


def test_the_camera_looks_at_an_instance() -> None:
    labels = np.zeros((200, 300), np.uint8)
    labels[40:80, 180:240] = 1
    offsets = first_centres(labels) - (210, 60)
    assert np.abs(offsets).max() <= 0.3 * 40 + 1e-6
    assert np.abs(offsets.mean(0)).max() < 3
    assert np.ptp(offsets, axis=0).min() > 0.5 * 40


def test_the_camera_looks_anywhere_if_there_is_no_instance() -> None:
    centres = first_centres(np.zeros((200, 300), np.uint8))
    assert centres.min(0)[0] < 60
    assert centres.max(0)[0] > 240
    assert np.abs(centres.mean(0) - (149.5, 99.5)).max() < 30
