"""Object ids to slots: whatever way is taken, each pixel is looked up in the same table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.images.masks import ids_to_slots, slot_table


def test_slot_table():
    table = slot_table((3, 4, 200))
    assert [table[i] for i in (0, 1, 3, 4, 200, 254, 255)] == [0, 0, 1, 2, 3, 0, 255]
    assert len(table) == 256


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


@given(st.integers(1, 254), st.integers(0, 255))
def test_slots_stay_as_they_are(count, largest):
    ids, masks = tuple(range(1, count + 1)), np.zeros((2, 4, 4), np.uint8)
    masks[1] = largest
    ids_to_slots(masks, ids)
    assert set(np.unique(masks)) == {0, largest if largest <= count or largest == 255 else 0}
