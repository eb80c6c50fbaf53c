"""Colour changes as numbers: linear, the same for one clip and for many, and grey stays grey."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.streaming.clips import VIDEO
from stmtrain.streaming.colour import colour_matrices, colour_numbers
from tests.profiles import examples

seeds = st.integers(0, 2**32)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw_colours(recipe, generator):
    """Draw the colours (T, 3, 4) of one clip."""
    return colour_matrices(recipe, generator.random((1, colour_numbers(recipe))))[0]


@given(seeds)
def test_grey_stays_grey(seed):
    recipe = replace(VIDEO, brightness=0.4, contrast=0.4, saturation=0.9, hue=90, frame_jitter=0.2)
    matrices = draw_colours(recipe, rng(seed))
    assert matrices.shape == (3, 3, 4)
    grey = matrices @ [0.3, 0.3, 0.3, 1.0]
    assert np.allclose(grey, grey[:, :1])


@given(st.integers(1, 5), seeds)
@examples(20)
def test_many_clips_are_coloured_as_each_alone(count, seed):
    recipe = replace(VIDEO, hue=90, greyscale=0.5)
    numbers = rng(seed).random((count, colour_numbers(recipe)))
    together = colour_matrices(recipe, numbers)
    alone = rng(seed)
    assert all(np.array_equal(clip, draw_colours(recipe, alone)) for clip in together)


def test_no_jitter_is_exactly_nothing():
    recipe = replace(VIDEO, brightness=0, contrast=0, saturation=0, frame_jitter=0, greyscale=0)
    assert np.array_equal(draw_colours(recipe, rng()), np.broadcast_to(np.eye(3, 4), (3, 3, 4)))


def test_each_colour_change_does_what_it_says():
    none = replace(VIDEO, brightness=0, contrast=0, saturation=0, frame_jitter=0, greyscale=0)
    rgb = np.array([0.8, 0.5, 0.2, 1.0])

    def changed(**fields):
        return draw_colours(replace(none, **fields), rng(7))[0] @ rgb

    bright = changed(brightness=0.5)
    assert np.allclose(bright / rgb[:3], bright[0] / 0.8)
    assert abs(bright[0] / 0.8 - 1) > 0.01
    contrast = changed(contrast=0.5) - 0.5
    assert np.allclose(contrast, (rgb[:3] - 0.5) * contrast[0] / 0.3)
    assert np.allclose(changed(greyscale=1.0), 0.299 * 0.8 + 0.587 * 0.5 + 0.114 * 0.2)
    turned = changed(hue=60.0)
    assert np.isclose(turned.mean(), 0.5)  # along the grey axis nothing moves
    assert np.isclose(((turned - 0.5) ** 2).sum(), 0.18)  # and saturation stays
    assert not np.allclose(turned, rgb[:3])
