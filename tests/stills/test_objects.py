"""The label map of an image: each candidate is an object or skipped, and what hides what."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stmdata.stills.objects import MAX_INSTANCES, Candidate, draw_labels
from tests.profiles import examples

SIZE = (12, 14)


def box(name, top, left, height, width):
    mask = np.ones((height, width), np.uint8)
    return Candidate(name, mask, (top, left), height * width)


@st.composite
def candidates(draw):
    found = []
    for i in range(draw(st.integers(0, 7))):
        top, left = draw(st.integers(0, SIZE[0] - 1)), draw(st.integers(0, SIZE[1] - 1))
        height = draw(st.integers(1, SIZE[0] - top))
        width = draw(st.integers(1, SIZE[1] - left))
        found.append(box(str(i), top, left, height, width))
    return found


def whole(one):
    full = np.zeros(SIZE, bool)
    full[one.corner[0] :, one.corner[1] :][: one.mask.shape[0], : one.mask.shape[1]] = one.mask
    return full


@given(candidates(), st.integers(0, 20), st.booleans())
@examples(120)
def test_each_candidate_is_used_or_skipped(found, min_area, small_in_front):
    labels, skipped = draw_labels(found, SIZE, min_area, small_in_front=small_in_front)
    names = [item.input for item in skipped]
    used = [one for one in found if one.name not in names]
    assert len(used) + len(names) == len(found)
    assert np.unique(labels[labels > 0]).tolist() == list(range(1, len(used) + 1))
    assert not labels[~np.any([np.zeros(SIZE, bool), *map(whole, found)], axis=0)].any()
    front = sorted(used, key=lambda one: one.area) if small_in_front else used
    for one in used:  # nothing but the used objects in front of an object covers it
        before = front[: front.index(one)]
        expected = whole(one) & ~np.any([np.zeros(SIZE, bool), *map(whole, before)], axis=0)
        np.testing.assert_array_equal(labels == used.index(one) + 1, expected)
        assert expected.sum() >= (max(min_area, 1) if small_in_front else 1)


def test_a_small_object_is_in_front_of_a_large_one():
    found = [box("large", 0, 0, 10, 10), box("small", 2, 2, 4, 4)]
    labels, skipped = draw_labels(found, SIZE, 5, small_in_front=True)
    assert ((labels == 1).sum(), (labels == 2).sum(), skipped) == (84, 16, ())
    labels, skipped = draw_labels(found, SIZE, 5, small_in_front=False)
    assert (labels == 1).sum() == 100
    assert [(s.input, s.reason) for s in skipped] == [("small", "hidden by other objects")]


def test_an_object_of_which_too_little_stays_visible_hides_nothing():
    found = [box("below", 0, 0, 8, 8), box("ring", 0, 0, 6, 7), box("top", 0, 0, 6, 6)]
    labels, skipped = draw_labels(found, SIZE, 20, small_in_front=True)
    assert [(s.input, s.reason) for s in skipped] == [("ring", "hidden by other objects")]
    assert ((labels == 1).sum(), (labels == 2).sum()) == (28, 36)


def test_the_number_of_objects_is_limited():
    found = [box(str(i), 0, 0, 1, 1) for i in range(MAX_INSTANCES + 3)]
    labels, skipped = draw_labels(found, SIZE, 1, small_in_front=False)
    assert labels.max() == 1
    reasons = [s.reason for s in skipped]
    assert reasons.count(f"more than {MAX_INSTANCES} instances in an image") == 3
    assert reasons.count("hidden by other objects") == MAX_INSTANCES - 1
