"""Indexing COCO-format JSON: every usable geometry is kept exactly, the rest is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stmdata.stills import coco_index
from stmdata.stills.coco import CocoIndex, Instance, rasterise_box
from stmtrain.errors import DataError
from tests.coco_files import SQUARE, document, full_mask, note, reference_mask, write
from tests.profiles import examples


def test_area_and_box_are_measured_where_the_file_has_none(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    for i in range(3):
        for instance in index.instances(i):
            mask = full_mask(instance, 20, 30)
            if instance.annotation_id != 14:
                assert instance.area == mask.sum()
                x, y, w, h = map(int, instance.bbox)
                assert mask[y : y + h, x : x + w].sum() == mask.sum()


coordinate = st.one_of(
    st.floats(-6, 40, allow_nan=False),
    st.integers(-60, 400).map(lambda n: n / 10),  # on the borders of pycocotools' grid
    st.integers(-600, 4000).map(lambda n: n / 100),
)


polygon = st.lists(coordinate, min_size=6, max_size=16).map(lambda v: v[: len(v) // 2 * 2])


@st.composite
def filling_runs(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Runs that fill an image, empty ones among them."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    cuts = sorted(draw(st.lists(st.integers(0, height * width), max_size=12)))
    counts = np.diff([0, *cuts, height * width]).tolist()
    return counts, height, width


def indexed(segmentation: object, height: int, width: int) -> Instance:
    """Send one segmentation through the index's arrays, without a file."""
    columns = coco_index._Columns()
    image = coco_index._Image(id=1, height=height, width=width)
    entry = coco_index.msgspec.convert(note(1, 1, segmentation), coco_index._Annotation)
    columns.add(entry, 0, image)
    arrays = columns.arrays(1) | {"image_size": np.array([[height, width]], np.int32)}
    return CocoIndex("", {}, arrays).instances(0)[0]


@examples(150)
@given(st.lists(polygon, min_size=1, max_size=4), st.integers(1, 34), st.integers(1, 34))
@example([[212.1, 3.3, 212.3, 40.7, 240.9, 3.1]], 60, 260)
@example([[-3.3, -2.7, 9.1, -0.1, 4.0, 8.0], [0, 0, 9, 0, 9, 9]], 12, 12)
def test_any_polygons_equal_pycocotools(parts: list[list[float]], height: int, width: int) -> None:
    height, width = max(height, 21), max(width, 21)  # else most polygons lie too far outside
    want = reference_mask(parts, height, width)
    instance = indexed(parts, height, width)
    np.testing.assert_array_equal(full_mask(instance, height, width), want)
    box, (top, left) = rasterise_box(instance, height, width)
    assert box.sum() == want.sum()
    if box.size:
        assert box.any(axis=0)[[0, -1]].all()
        assert box.any(axis=1)[[0, -1]].all()
        np.testing.assert_array_equal(
            want[top : top + box.shape[0], left : left + box.shape[1]], box
        )


@examples(120)
@given(filling_runs(), st.booleans())
@example(([0, 0, 30, 6], 6, 6), False)
def test_any_rle_equals_pycocotools(case: tuple[list[int], int, int], compressed: bool) -> None:
    counts, height, width = case
    shape: dict[str, Any] = {"size": [height, width], "counts": counts}
    want = reference_mask(shape, height, width)
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    np.testing.assert_array_equal(want, flat.reshape(width, height).T)
    if compressed:
        shape["counts"] = coco_mask.frPyObjects(shape, height, width)["counts"].decode()
    np.testing.assert_array_equal(full_mask(indexed(shape, height, width), height, width), want)


def test_unusable_geometry_is_left_out_and_counted(tmp_path: Path) -> None:
    bad = [
        note(1, 7, [[1.0, 1.0, 2.0, 2.0]]),
        note(2, 7, []),
        note(3, 7, None),
        note(4, 7, [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 4.0]]),
        note(5, 7, [SQUARE, [1.0, 1.0]]),
        note(6, 7, [[0.0, 0.0, 1e9, 0.0, 1e9, 1e9]]),
        note(7, 7, {"size": [20, 30], "counts": [1, 2]}),
        note(8, 7, {"size": [30, 20], "counts": [600]}),
        note(9, 7, {"size": [20, 30], "counts": "0"}),
        note(10, 7, {"size": [20, 30], "counts": [601, -1]}),
    ]
    index = CocoIndex.open(write(tmp_path, document(annotations=bad)))
    assert [o.annotation_id for o in index.instances(0)] == [5]
    assert index.skipped == {
        "annotation: degenerate polygon": 4,
        "part of an annotation: degenerate polygon": 1,
        "annotation: polygon far outside its image": 1,
        "annotation: RLE does not fill its image": 4,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", r"expected a COCO annotation file"),
        ("{", r"expected COCO instances JSON"),
        ("[" * 100_000, r"expected COCO instances JSON"),
        ("[]", r"Expected `object`, got `array`"),
        ({"annotations": []}, r"missing required field `images`"),
        ({"images": []}, r"missing required field `annotations`"),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 2}]),
            r"missing required field `width` - at `\$\.images\[0\]`",
        ),
        (document(images=[{"id": 7, "height": 2, "width": 2}]), r'image 7 lacks "file_name"'),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 2, "width": 2}] * 2),
            r"image id 7 occurs twice",
        ),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 0, "width": 2}]),
            r"`int` >= 1 - at `\$\.images\[0\]\.height`",
        ),
        (document(annotations=[note(9, 8, [])]), r"annotation 9 belongs to image 8"),
        (
            document(annotations=[{"id": 9, "image_id": 7}]),
            r"annotation 9: .*missing required field `segmentation`",
        ),
        (
            document(annotations=[{"image_id": 7, "segmentation": []}]),
            r"annotations\[0\]: .*missing required field `id`",
        ),
        (
            document(annotations=[{"id": 9, "segmentation": []}]),
            r"annotation 9: .*missing required field `image_id`",
        ),
        (document(annotations=[note(9, 7, [1, 2, 3])]), r"annotation 9: .*\$\.segmentation\[0\]`"),
        (document(annotations=[note(9, 7, [SQUARE], bbox=[1])]), r"annotation 9: .*\$\.bbox`"),
        (document(annotations=[note(9, 7, [["x"]])]), r"annotation 9: .*got `str`"),
        (document(annotations=[note(9, 7, {"size": [1, 1]})]), r"annotation 9: .*`counts`"),
        (document(annotations=[note(9, "7", [])]), r"annotation 9: .*got `str`.*image_id"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, value: object, message: str) -> None:
    path = write(tmp_path, value)
    with pytest.raises(DataError, match=message) as caught:
        CocoIndex.open(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: expected a COCO annotation file"):
        CocoIndex.open(tmp_path / "none.json")


def test_a_file_without_annotations(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document(annotations=[])))
    assert (index.images, index.annotations) == (3, 0)
    assert index.instances(2) == []
    assert index.pasteable(0).shape == (0, 2)
    empty = CocoIndex.open(write(tmp_path, {"images": [], "annotations": []}, "e.json"))
    assert empty.images == 0
