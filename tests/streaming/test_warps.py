"""Warps as numbers: in their ranges, and with the objects kept in view."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.streaming.clips import PSEUDO, VIDEO
from stmtrain.streaming.warps import (
    _draw_pixel,
    _nth_true,
    _object_boxes,
    draw_warps,
)
from tests.known import agrees
from tests.profiles import examples

seeds = st.integers(0, 2**32)


def rng(seed=0):
    return np.random.default_rng(seed)


def draw_matrices(*arguments):
    """Draw each frame's matrix from the crop to the source frame, as a batch has it."""
    return np.linalg.inv(draw_warps(*arguments))


def blobs(height, width, seed, length=3):
    """Three frames with two moving boxes and some void."""
    g = rng(seed)
    slots = np.zeros((length, height, width), np.uint8)
    for slot in (1, 2):
        h, w = g.integers(4, height // 3), g.integers(4, width // 3)
        y, x = g.integers(0, height - h, length), g.integers(0, width - w, length)
        for t in range(length):
            slots[t, y[t] : y[t] + h, x[t] : x[t] + w] = slot
    slots[:, :2, :2] = 255
    return slots


def look(slots, matrix, size):
    """Nearest pixels of (H, W) seen through the matrix, 255 outside: an independent warp."""
    centres = np.arange(size) + 0.5
    x, y = np.meshgrid(centres, centres)
    source = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
    column, row = np.floor(source[:2]).astype(int)
    inside = (row >= 0) & (row < slots.shape[0]) & (column >= 0) & (column < slots.shape[1])
    out = np.full(size * size, 255, np.uint8)
    out[inside] = slots[row[inside], column[inside]]
    return out.reshape(size, size)


@pytest.mark.parametrize("name", ["VIDEO", "PSEUDO"])
def test_warps_are_those_of_earlier_revisions(name):
    recipe, shapes, made = {"VIDEO": VIDEO, "PSEUDO": PSEUDO}[name], [(90, 160), (120, 100)], []
    for seed in range(24):
        slots = blobs(*shapes[seed % 2], seed)
        matrices = draw_matrices(slots, 2, replace(recipe, drift=30.0), 64, rng(seed))
        made.append(matrices[:, :2].reshape(3, 6))
    assert agrees(Path(__file__).with_name("known.json"), f"warps {name}", made, 0.002)


@given(seeds, st.sampled_from([(480, 854), (360, 270), (200, 200)]), st.sampled_from([96, 384]))
@examples(40)
def test_the_first_frame_shows_an_object_after_every_warp(seed, shape, size):
    slots = blobs(*shape, seed % 50)
    if not (slots[0] == 1).any():  # hidden by the second
        slots[0, 10:20, 10:20] = 1
    matrices = draw_matrices(slots, 2, VIDEO, size, rng(seed))
    assert matrices.shape == (3, 3, 3)
    assert np.isfinite(matrices).all()
    assert np.allclose(matrices[:, 2], [0, 0, 1])
    seen = look(slots[0], matrices[0], size)
    assert np.isin(seen, (1, 2)).any()


@pytest.mark.parametrize("corner", [(0, 0), (0, 834), (460, 0), (460, 834)])
def test_an_object_that_the_warp_moves_out_of_the_frame_is_followed(corner):
    slots = np.zeros((3, 480, 854), np.uint8)
    slots[:, corner[0] : corner[0] + 20, corner[1] : corner[1] + 20] = 1
    for seed in range(40):
        matrices = draw_matrices(slots, 1, replace(VIDEO, warp=1.0), 384, rng(seed))
        assert (look(slots[0], matrices[0], 384) == 1).any()


@given(seeds, st.sampled_from([(480, 854), (384, 384), (700, 400)]))
@examples(40)
def test_an_unwarped_crop_lies_in_the_frame_and_holds_the_objects(seed, shape):
    recipe = replace(VIDEO, warp=0.0, drift=0.0)
    slots = np.zeros((3, *shape), np.uint8)
    g = rng(seed)
    y, x = g.integers(0, shape[0] - 100), g.integers(0, shape[1] - 100)
    for t in range(3):
        slots[t, y + 20 * t : y + 20 * t + 60, x + 10 * t : x + 10 * t + 60] = 1
    matrices = draw_matrices(slots, 1, recipe, 384, g)
    corners = matrices @ np.array([[0, 384, 0, 384], [0, 0, 384, 384], [1, 1, 1, 1]])
    assert corners[:, 0].min() > -1e-6
    assert corners[:, 0].max() < shape[1] + 1e-6
    assert corners[:, 1].min() > -1e-6
    assert corners[:, 1].max() < shape[0] + 1e-6
    scale = abs(matrices[0, 0, 0])
    for t in range(3):  # all of the object is seen, in every frame
        seen = int((look(slots[t], matrices[t], 384) == 1).sum())
        assert abs(seen * scale**2 / 3600 - 1) < 0.05


def test_a_packed_clip_of_the_right_size_is_left_alone_or_flipped():
    slots = blobs(64, 64, 1)
    kinds = set()
    for seed in range(20):
        matrices = draw_matrices(slots, 2, PSEUDO, 64, rng(seed))
        flipped = matrices[0, 0, 0] < 0
        expected = [[-1, 0, 64], [0, 1, 0], [0, 0, 1]] if flipped else np.eye(3)
        assert np.array_equal(matrices, np.broadcast_to(expected, (3, 3, 3)))
        kinds.add(bool(flipped))
    assert kinds == {True, False}


def test_lengths_scale_with_the_crop():
    """The same draw at half the size shows the same content."""
    slots = blobs(480, 640, 2)
    large = draw_matrices(slots, 2, VIDEO, 384, rng(5))
    small = draw_matrices(slots, 2, VIDEO, 192, rng(5))
    assert np.allclose(large @ np.diag([2.0, 2.0, 1.0]), small)


def test_warps_stay_in_their_ranges_and_flips_are_common():
    recipe = replace(VIDEO, scale=(1.0, 1.0), rescale=(1.0, 1.0), shear=0.0)
    slots = blobs(480, 640, 3)
    signs = set()
    for seed in range(60):
        matrices = draw_matrices(slots, 2, recipe, 384, rng(seed))
        turns = np.sign(np.linalg.det(matrices[:, :2, :2]))
        assert len(set(turns)) == 1  # all frames are flipped, or none
        signs.add(turns[0])
        assert np.allclose(abs(np.linalg.det(matrices[:, :2, :2])), 1)
        assert (abs(matrices[:, 0, 0]) >= np.cos(np.radians(30)) - 1e-9).all()
    assert signs == {1, -1}


def test_a_record_that_lists_an_object_the_mask_lacks_is_refused():
    slots = blobs(480, 640, 4)
    slots[0][slots[0] < 255] = 0
    with pytest.raises(ValueError, match="lacks an object that its record lists"):
        draw_matrices(slots, 2, VIDEO, 384, rng())


@given(st.integers(1, 9000), st.floats(0.01, 1), seeds)
def test_the_nth_pixel_is_found(length, share, seed):
    flags = rng(seed).random(length) < share
    flags[seed % length] = True
    places = np.flatnonzero(flags)
    n = seed % len(places)
    assert _nth_true(flags, n) == places[n]


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_the_focus_is_a_pixel_of_an_object(seed, count):
    """Rings and dust too, so that a wrong row or column shows."""
    g = rng(seed)
    slots = np.zeros((1, 40, 57), np.uint8)
    for slot in range(1, count + 1):
        slots[0, g.integers(40, size=9), g.integers(57, size=9)] = slot
    slots[0, 5, 11 : 11 + count] = range(1, count + 1)
    boxes = _object_boxes(slots)
    x, y = _draw_pixel(slots[0], boxes[0], count, g)
    assert slots[0, int(y), int(x)] > 0
    assert (x % 1, y % 1) == (0.5, 0.5)
    rows, columns = np.nonzero(slots[0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes[0].tolist() == box
