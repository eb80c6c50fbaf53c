"""What is measured of objects, against the shapes that were drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.images.masks import areas
from stmtrain.statistics.motion import measure_clip, object_motion


def boxes(*places, size=(60, 80)):
    """Draw (id, top, left, side) boxes."""
    mask = np.zeros(size, np.uint8)
    for object_id, top, left, side in places:
        mask[top : top + side, left : left + side] = object_id
    return mask


@given(st.integers(0, 20), st.integers(0, 40), st.integers(4, 12), st.integers(1, 254))
def test_a_shifted_box_moves_by_its_shift(down, right, side, object_id):
    motion = object_motion(
        boxes((object_id, 5, 5, side)), boxes((object_id, 5 + down, 5 + right, side))
    )[object_id]
    common = max(0, side - down) * max(0, side - right)
    assert motion.iou == pytest.approx(common / (2 * side**2 - common))
    assert motion.shift == pytest.approx(np.hypot(down, right))
    assert motion.area_ratio == 1


def test_only_objects_of_both_masks_have_a_motion():
    before, after = boxes((1, 0, 0, 9), (3, 20, 20, 9)), boxes((3, 20, 20, 18), (7, 50, 0, 4))
    before[-1], after[-1] = 255, 255  # void is no object
    motions = object_motion(before, after)
    assert set(motions) == {3}
    assert motions[3].area_ratio == 4


def test_an_object_that_leaves_and_returns():
    masks = [boxes((1, 10, 10, 10)), boxes(), boxes((2, 0, 30, 10)), boxes((1, 10, 10, 10))]
    table = np.stack([areas(mask) for mask in masks])[:, [1, 2]].T
    values = measure_clip(table.tolist(), (60, 80), [(masks[0], masks[3]), (masks[2], masks[3])])
    assert values["objects"] == [2]
    assert values["area"] == [100 / 4800] * 3
    assert values["late"] == [0, 1]
    assert values["absent"] == [pytest.approx(2 / 3), 1]
    assert values["leaves"] == [1, 1]
    assert values["returns"] == [1, 0]
    assert values["iou"] == values["scale"] == [1]  # object 2 is in one mask of its pair only
    assert values["border"] == [0]


def test_only_the_first_mask_decides_whether_an_object_is_late():
    values = measure_clip([[5, 5, 0], [0, 5, 5]], (6, 8), [])
    assert values["late"] == [0, 1]


def test_shift_is_in_short_sides_and_scale_in_lengths():
    pair = (boxes((4, 0, 0, 10)), boxes((4, 0, 0, 20)))
    values = measure_clip([[100, 400]], (60, 80), [pair])
    assert values["scale"] == [2]
    assert values["shift"] == [pytest.approx(np.hypot(5, 5) / 60)]
    assert values["border"] == [1]


def test_a_clip_without_objects_has_none():
    assert measure_clip([], (6, 8), [(boxes(), boxes())]) == {"objects": [0]}
    assert measure_clip([[0, 0]], (6, 8), []) == {"objects": [0]}
