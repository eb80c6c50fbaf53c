"""Object ids of any size or names, and the ids in label maps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.datasets.ids import keep_or_shift, rank


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 10], {1: 1, 2: 2, 10: 10}),
        ([0, 1, 3], {0: 1, 1: 2, 3: 4}),
        ([0, 253], {0: 1, 253: 254}),
        ([0, 254], {0: 1, 254: 2}),
        ([6100, 7], {7: 1, 6100: 2}),
        ([-1, 4], {-1: 1, 4: 2}),
        (["knife", "hand"], {"knife": 1, "hand": 2}),
        (["b", 3], {"b": 1, 3: 2}),
        ([], {}),
    ],
)
def test_ids_stay_as_close_as_label_maps_allow(ids: list, expected: dict) -> None:
    assert keep_or_shift(ids) == expected


@given(st.lists(st.integers(-3, 400), max_size=30))
def test_labels_are_distinct_and_ascend_with_the_ids(ids: list[int]) -> None:
    labels = keep_or_shift(ids)
    assert set(labels) == set(ids)
    in_order = [labels[i] for i in sorted(labels)]
    assert in_order == sorted(set(in_order))
    assert not in_order or in_order[0] >= 1
    assert len(in_order) > 254 or all(label <= 254 for label in in_order)
    assert list(rank(ids).values()) == list(range(1, len(set(ids)) + 1))
