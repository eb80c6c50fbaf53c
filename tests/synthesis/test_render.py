"""Rendering: soft edges, one depth order in all frames, and no skipped pixels."""

from dataclasses import replace

import numpy as np
from hypothesis import given

from stmdata.synthesis.layers import Layer, Scene, scaling, translation
from stmdata.synthesis.recipe import DEFAULT
from stmdata.synthesis.render import render
from stmdata.synthesis.smooth import draw_smooth
from tests.profiles import examples
from tests.synthesis_inputs import COLOURS, SEEDS, disc, painted


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
