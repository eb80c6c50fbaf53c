"""Runs of a label map against passes over its pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stmdata.auditing.mask_checks import count_specks
from stmdata.auditing.runs import Runs

labels = st.sampled_from([0, 0, 0, 1, 1, 2, 255])
masks = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=labels)


def flooded(mask):
    """Find connected parts by filling them from pixel to pixel: (value, area, box), sorted."""
    left, found = {tuple(place) for place in np.argwhere(mask)}, []
    while left:
        start = min(left)
        part, open_ends = {start}, [start]
        left.remove(start)
        while open_ends:
            y, x = open_ends.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            near = {place for place in near if mask[place] == mask[start]}
            left -= near
            part |= near
            open_ends += near
        rows, columns = zip(*part, strict=True)
        box = (min(rows), min(columns), max(rows), max(columns))
        found.append((int(mask[start]), len(part), box))
    return sorted(found)


@given(masks)
def test_areas_and_parts_are_those_of_the_pixels(mask):
    runs = Runs.of(mask)
    assert runs.areas.tolist() == np.bincount(mask.ravel(), minlength=256).tolist()
    parts = runs.parts()
    found = zip(parts.values.tolist(), parts.areas.tolist(), map(tuple, parts.boxes), strict=True)
    assert sorted(found) == flooded(mask)


def test_a_spiral_is_one_part():
    mask = np.zeros((31, 31), np.uint8)
    for ring in range(0, 15, 2):
        mask[ring, ring : 31 - ring] = mask[30 - ring, ring : 31 - ring] = 1
        mask[ring : 31 - ring, ring] = mask[ring : 31 - ring, 30 - ring] = 1
        mask[ring + 1, ring : ring + 1] = 0
        mask[ring + 1, ring + 1] = 1  # joins the next ring
    assert len(Runs.of(mask).parts().values) == 1


@given(masks, st.data())
def test_overlaps_count_the_pixels_of_each_pair(mask, data):
    other = data.draw(arrays(np.uint8, mask.shape, elements=labels))
    pairs = zip(mask.ravel().tolist(), other.ravel().tolist(), strict=True)
    counts: dict[tuple[int, int], int] = {}
    for pair in pairs:
        counts[pair] = counts.get(pair, 0) + 1
    assert Runs.of(mask).overlap(Runs.of(other)) == counts


def test_specks_next_to_their_object_and_away_from_it():
    mask = np.zeros((60, 60), np.uint8)
    mask[10:20, 10:20] = 3
    mask[24, 24] = 3  # next to it
    mask[50:52, 50:52] = 3  # away
    mask[0, 59] = 7  # an object that is nothing but a speck
    mask[59, 0] = 255  # void
    assert count_specks(Runs.of(mask).parts()) == (2, 1)
