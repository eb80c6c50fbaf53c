"""Rendering: soft edges, one depth order in all frames, and no skipped pixels."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given

from stmdata.synthesis import render as render_module
from stmdata.synthesis.appearance_policy import FrameAppearance
from stmdata.synthesis.layers import Layer, Scene, cut_out, scaling, translation
from stmdata.synthesis.recipe import DEFAULT
from stmdata.synthesis.render import render
from stmdata.synthesis.smooth import draw_smooth
from tests.profiles import examples
from tests.synthesis_inputs import COLOURS, SEEDS, disc, painted, picture


def test_an_edge_is_blended_over_about_two_pixels() -> None:
    matrices = np.stack([translation(-10.3, -10.6)] * 2)
    layers = (Layer(disc(20, (200, 0, 0)), matrices, 1),)
    scene = Scene(64, np.stack([np.eye(3)] * 2), (), layers, hard_edges=False, wedges=False)
    image = np.zeros((64, 64, 3), np.uint8)
    frames, masks = render(image, image[..., 0], scene)
    row = frames[0, 32, :, 0].astype(int)
    assert ((row > 0) & (row < 200)).sum() in range(2, 9)
    assert (row[masks[0, 32] == 1] >= 95).all()
    assert (row[masks[0, 32] == 0] <= 105).all()


@examples(25)
@given(seed=SEEDS)
def test_depth_order_is_the_same_in_every_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = painted(200, 260, 2, rng)
    image = COLOURS[labels]
    pool = [disc(50, COLOURS[3]), disc(60, COLOURS[4])]
    recipe = replace(DEFAULT, pastes=(3, 3), paste_probability=1.0, behind_probability=0.5)
    scene = draw_smooth(labels, pool, recipe, 4, 128, rng)
    _, masks = render(image, labels, scene)
    for i, layer in enumerate(scene.layers):
        alone = replace(scene, layers=(replace(layer, behind=0),))
        above = render(image, labels, alone)[1] == layer.object_id
        for later in scene.layers[i + 1 :]:
            over = render(image, labels, replace(scene, layers=(later,)))[1]
            above &= over != later.object_id
        if layer.behind:
            above &= render(image, labels, replace(scene, layers=()))[1] == 0
        assert (above == (masks == layer.object_id)).all()
    hidden = [layer.behind > 0 for layer in scene.layers]
    assert hidden == sorted(hidden, reverse=True)


def test_strong_shrinking_averages_instead_of_skipping_pixels() -> None:
    y, x = np.mgrid[:800, :800]
    image = np.dstack([((x + y) % 2 * 255).astype(np.uint8)] * 3)
    labels = ((x > 200) & (x < 600)).astype(np.uint8)
    base = np.stack([translation(2, 2) @ scaling(7.9)] * 2)
    scene = Scene(100, base, (1,), (), hard_edges=False, wedges=False)
    frames, masks = render(image, labels, scene)
    assert np.abs(frames.astype(int) - 127).max() <= 3
    assert abs((masks[0] == 1).sum() / 100 - 399 / 7.9) < 1


def scene_of(size: int, base: np.ndarray, *layers: Layer, hard_edges: bool = False) -> Scene:
    return Scene(size, np.stack([base] * 2), (), layers, hard_edges=hard_edges, wedges=False)


@pytest.mark.parametrize("hard_edges", [False, True])
@pytest.mark.parametrize("shutter", [0.0, 0.9])
def test_nothing_of_a_layer_is_cut_off_by_its_box(
    monkeypatch: pytest.MonkeyPatch, hard_edges: bool, shutter: float
) -> None:
    image, cutout = np.full((80, 80, 3), 90, np.uint8), disc(9, (255, 200, 30))
    matrices = np.stack([translation(-20.4 - 12 * t, -31.7 + 7 * t) for t in range(2)])
    layer = Layer(cutout, matrices, 1)
    scene = Scene(80, np.stack([np.eye(3)] * 2), (), (layer,), hard_edges, wedges=False)
    looks = [FrameAppearance(shutter=shutter, motion_max=19.0)] * 2
    frames, masks = render(image, image[..., 0] * 0, scene, looks)
    monkeypatch.setattr(render_module, "_box", lambda *_: (0, 0, 80, 80))
    expected, expected_masks = render(image, image[..., 0] * 0, scene, looks)
    assert np.abs(frames.astype(int) - expected).max() <= 3
    assert (masks != expected_masks).sum() <= 4


def test_a_thin_cutout_may_be_shrunk_to_less_than_a_pixel() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    layer = Layer(disc(0, (255, 0, 0)), np.stack([scaling(9) @ translation(-20, -20)] * 2), 1)
    frames, masks = render(image, image[..., 0] * 0, scene_of(40, np.eye(3), layer))
    assert np.abs(frames.astype(int) - 90).max() <= 30
    assert masks.max() == 0


def test_image_and_label_map_are_shrunk_alike() -> None:
    labels = np.zeros((800, 800), np.uint8)
    labels[233:467, 301:502] = 1
    scene = scene_of(100, translation(2, 2) @ scaling(7.9))
    frames, masks = render(np.dstack([labels * 255] * 3), labels, scene)
    at = np.arange(100)
    for axis in (0, 1):
        bright, marked = frames[0, ..., 0].sum(axis, float), masks[0].sum(axis, float)
        assert abs(at @ bright / bright.sum() - at @ marked / marked.sum()) < 0.2
        assert abs(bright.sum() / 255 - marked.sum()) / marked.sum() < 0.1


@pytest.mark.parametrize("tilt", [(0.002, 0.0), (0.0, 0.002), (0.002, 0.001), (0.0, 0.0)])
def test_every_homography_is_followed(tilt: tuple[float, float]) -> None:
    image = cv2.GaussianBlur(picture(90), (0, 0), 2)
    base = np.eye(3)
    base[2, :2] = tilt
    frames, _ = render(image, image[..., 0], scene_of(60, base))
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    expected = cv2.warpPerspective(
        image, base, (60, 60), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    assert np.abs(frames[0].astype(int) - expected).max() <= 2


def test_pixels_that_are_half_covered_belong_to_the_object() -> None:
    square = cut_out(np.full((10, 10, 3), 200, np.uint8), np.ones((10, 10), np.uint8))
    image = np.zeros((40, 40, 3), np.uint8)
    for shift, width in ((0.0, 10), (0.5, 11), (0.25, 10)):
        layer = Layer(square, np.stack([translation(-9 - shift, -9)] * 2), 1)
        scene = scene_of(40, np.eye(3), layer, hard_edges=True)
        frames, masks = render(image, image[..., 0], scene)
        assert (masks[0].sum(axis=1) > 0).sum() == 10
        assert (masks[0].sum(axis=0) > 0).sum() == width
        assert ((frames[0, ..., 0] == 200) == (masks[0] == 1)).all()
