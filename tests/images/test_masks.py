"""Label maps: the ids in them, their areas and sizes, and the translation of ids to slots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stmtrain.images.masks import (
    MAX_OBJECT_ID,
    VOID,
    areas,
    counts_binary,
    ids_counted,
    ids_present,
    ids_to_slots,
    is_binary,
    resample_mask,
    slot_table,
)

label_maps = arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 7, 254, 255]) | st.integers(0, 255),
)


def test_slot_table():
    table = slot_table((3, 4, 200))
    assert [table[i] for i in (0, 1, 3, 4, 200, 254, 255)] == [0, 0, 1, 2, 3, 0, 255]
    assert len(table) == 256


@given(label_maps, label_maps)
def test_counts_of_several_masks_are_those_of_all_their_pixels(first, second):
    pixels = np.concatenate([first.ravel(), second.ravel()])
    total = areas(first) + areas(second)
    assert ids_counted(total) == ids_present(pixels)
    assert counts_binary(total) == is_binary(pixels)


@given(label_maps)
def test_areas_and_ids_are_those_of_a_search_for_each_value(mask):
    counts = areas(mask)
    assert counts.tolist() == [np.count_nonzero(mask == value) for value in range(256)]
    assert ids_present(mask) == sorted(set(mask.ravel().tolist()) - {0, 255})
    np.testing.assert_array_equal(areas(mask[:, ::2]), areas(mask[:, ::2].copy()))


@pytest.mark.parametrize(
    ("values", "binary"),
    [([0], False), ([255], True), ([0, 255], True), ([0, 1], False), ([0, 1, 255], False),
     ([254, 255], False), ([254], False)],
)  # fmt: skip
def test_a_binary_mask_has_255_and_no_ids(values, binary):
    assert is_binary(np.array([values], np.uint8)) is binary


def test_resampling_takes_the_id_at_the_centre_of_each_pixel():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(resample_mask(mask, (3, 4)), mask)
    np.testing.assert_array_equal(resample_mask(mask, (6, 8)), mask.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resample_mask(mask, (1, 2)), [[5, 7]])


def in_gaps(count):
    """Ids with as many gaps as fit: 2, 4, ... or, for more than 127 ids, the largest ones."""
    return tuple(range(2, 2 * count + 1, 2)) if count <= 127 else tuple(range(255 - count, 255))


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("choose", [lambda count: tuple(range(1, count + 1)), in_gaps])
def test_every_value_becomes_its_slot_for_every_number_of_objects(choose, void):
    every = np.arange(256 if void else 255, dtype=np.uint8)
    for count in range(1, MAX_OBJECT_ID + 1):
        ids = choose(count)
        slots = [0] * 256
        for slot, object_id in enumerate(ids, start=1):
            slots[object_id] = slot
        slots[VOID] = VOID
        masks = every.reshape(1, 1, -1).copy()
        ids_to_slots(masks, ids)
        assert masks.ravel().tolist() == slots[: len(every)], ids
        chosen = np.array([0, *ids, *([VOID] if void else [])], np.uint8).reshape(1, 1, -1)
        expected = [slots[value] for value in chosen.ravel()]
        ids_to_slots(chosen, ids)
        assert chosen.ravel().tolist() == expected, ids


@st.composite
def clips(draw):
    """Chosen ids, and masks that hold some of them, others, or void; with and without gaps."""
    ids = draw(st.lists(st.integers(1, 12) | st.integers(1, 254), min_size=1, unique=True))
    present = draw(st.sets(st.sampled_from([0, *ids]) | st.integers(0, 255), min_size=1))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = generator.choice(np.array(sorted(present), np.uint8), (3, 9, 11))
    return tuple(sorted(ids)), masks[:, :, : draw(st.sampled_from([7, 11]))]


@given(clips())
def test_ids_become_slots(clip):
    ids, masks = clip
    expected = np.frombuffer(slot_table(ids), np.uint8)[masks]
    ids_to_slots(masks, ids)
    np.testing.assert_array_equal(masks, expected)
