"""Filled polygons: every pixel is that of pycocotools, or of OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from stmtrain.images.polygons import fill_coco, fill_opencv
from tests.profiles import examples

SIZES = st.tuples(st.integers(12, 40), st.integers(12, 40))


def rings(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[list[float]]]:
    corners = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8)
    flat = corners.map(lambda pairs: [float(x) for pair in pairs for x in pair])
    return st.lists(flat, min_size=1, max_size=3)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
@given(rings(st.one_of(st.floats(-6, 46), st.integers(-6, 46))), SIZES)
@examples(200)
def test_polygons_are_those_of_pycocotools(polygons: list[list[float]], size: tuple) -> None:
    expected = coco.decode(coco.merge(coco.frPyObjects(polygons, *size)))
    np.testing.assert_array_equal(fill_coco(polygons, size), expected > 0)


@given(rings(st.floats(0, 39.9)))
@examples(200)
def test_rings_are_those_of_opencv(polygons: list[list[float]]) -> None:
    pairs = [np.array(ring).reshape(-1, 2) for ring in polygons]
    expected = np.zeros((40, 50), np.uint8)
    cv2.fillPoly(expected, [ring.astype(np.int32) for ring in pairs], 1)
    found = fill_opencv([ring.tolist() for ring in pairs], (40, 50))
    np.testing.assert_array_equal(found, expected > 0)


def test_an_endless_outline_is_refused() -> None:
    ring = [0.0, 0.0, 900.0, 900.0] * 2000
    for fill in (fill_coco, fill_opencv):
        with pytest.raises(ValueError, match="longer than"):
            fill([ring * 3], (1000, 1000))


def test_what_is_no_polygon_is_empty_or_refused() -> None:
    assert not fill_coco([[1, 1, 5, 5]], (9, 9)).any()
    assert not fill_opencv([[]], (9, 9)).any()
    for bad in ([[0, 0, 1e9, 0, 3, 3]], [[0, 0, float("nan"), 0, 3, 3]], [[0, 0, 3, 3, 1]]):
        for fill in (fill_coco, fill_opencv):
            with pytest.raises(ValueError, match=r"corner|reshape"):
                fill(bad, (9, 9))
