"""Indexing COCO-format JSON: every usable geometry is kept exactly, the rest is counted."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stmdata.stills import coco_index
from stmdata.stills.coco import CocoIndex, Instance, rasterise_box
from stmdata.stills.coco_json import Annotation, Image
from stmtrain.errors import DataError
from tests.coco_files import SQUARE, document, full_mask, note, reference_mask, write
from tests.profiles import examples


@pytest.mark.parametrize("box", [None, [], [1], "5 5 20 13", [0.1, 0.1, 0.5, 0.5], [1, 2, 3, None]])
def test_the_box_is_measured_where_the_file_has_none(tmp_path: Path, box: object) -> None:
    annotations = [a | {"bbox": box} for a in document()["annotations"]]
    index = CocoIndex.open(write(tmp_path, document(annotations=annotations)))
    for instance in (instance for i in range(3) for instance in index.instances(i)):
        mask = full_mask(instance, 20, 30)
        x, y, w, h = map(int, instance.bbox)
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
        assert mask[y : y + h, x : x + w].any(axis=0).all()


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
    image = Image(1, height, width, "a.jpg")
    columns.add(msgspec.convert(note(1, 1, segmentation), Annotation), "1", 0, image)
    arrays = columns.arrays(1) | {"image_size": np.array([[height, width]], np.int32)}
    return CocoIndex("", arrays).instances(0)[0]


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


def test_unusable_geometry_stays_in_the_index_with_its_reason(tmp_path: Path) -> None:
    bad = {
        "polygon of fewer than 3 points": [[[1.0, 1.0, 2.0, 2.0]]],
        "annotation without a segmentation": [[], None, [[]], {}],
        "polygon with an odd number of coordinates": [[[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 4.0]]],
        "polygon far outside its image": [[[0.0, 0.0, 1e9, 0.0, 1e9, 1e9]]],
        "RLE of another size than its image": [{"size": [30, 20], "counts": [600]}],
        "RLE that does not fill its image": [
            {"size": [20, 30], "counts": [1, 2]},
            {"size": [20, 30], "counts": "0"},
            {"size": [20, 30], "counts": [601, -1]},
            {"size": [20, 30], "counts": []},
        ],
        "segmentation that is neither polygons nor RLE": [
            "1 2 3", 7, True, [["x"]], [[[1, 2], [3, 4], [5, 6]]], [None], {"size": [1, 1]},
        ],
    }  # fmt: skip
    pairs = [(reason, shape) for reason, shapes in bad.items() for shape in shapes]
    annotations = [note(k, 7, shape) for k, (_, shape) in enumerate(pairs)]
    annotations.append(note(99, 7, [SQUARE, [1.0, 1.0], [2.0] * 7]))
    index = CocoIndex.open(write(tmp_path, document(annotations=annotations)))
    found = index.instances(0)
    assert [(one.unusable, one.annotation_id) for one in found[:-1]] == [
        (reason, str(k)) for k, (reason, _) in enumerate(pairs)
    ]
    assert (found[-1].unusable, found[-1].lost_parts) == ("", 2)
    assert index.annotations == len(annotations)
    assert len(index.pasteable(0)) == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", r"expected a COCO annotation file"),
        ("{", r"expected COCO instances JSON"),
        ("[" * 100_000, r"expected COCO instances JSON"),
        ("[]", r"Expected `object`, got `array`"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"Git LFS pointer"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, r"a VIA project; in VIA, export"),
        ({"videos": [], "annotations": []}, r"annotations of videos"),
        ([{"original_width": 9}], r"an export of Label Studio; export"),
        ({"shapes": [], "imagePath": "a.jpg"}, r"a labelme file"),
        ({"annotations": []}, r"missing required field `images`"),
        ({"images": []}, r"missing required field `annotations`"),
        (document(images=[{"file_name": "a"}]), r'images\[0\] has no "id"'),
        (document(images=[{"id": 7, "file_name": "a", "height": 2}]), r'image 7: expected "width"'),
        (document(images=[{"id": 7, "height": 2, "width": 2}]), r'image 7 lacks "file_name"'),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 2, "width": 2}] * 2),
            r"image id 7 occurs twice",
        ),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 0, "width": 2}]),
            r'image 7: expected "height" to be 1 to 65535 pixels, found 0',
        ),
        (document(annotations=[note(9, 8, [])]), r"annotation 9 belongs to image 8"),
        (
            document(annotations=[{"id": 9, "segmentation": []}]),
            r'annotation 9 has no "image_id"',
        ),
        (document(annotations=[{"segmentation": []}]), r'annotation \[0\] has no "image_id"'),
        (document(annotations=[7]), r"annotations\[0\]: Expected `object`"),
    ],
)
def test_wrong_files_are_refused_in_one_line(tmp_path: Path, value: object, message: str) -> None:
    path = write(tmp_path, value)
    with pytest.raises(DataError, match=message) as caught:
        CocoIndex.open(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_compressed_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(DataError, match=r"instances\.json: .*a gzip file; unpack it"):
        CocoIndex.open(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: expected a COCO annotation file"):
        CocoIndex.open(tmp_path / "none.json")
    (tmp_path / "empty.json").touch()
    with pytest.raises(DataError, match=r"empty\.json: .*it is empty.*restore the file"):
        CocoIndex.open(tmp_path / "empty.json")


def test_a_file_without_annotations(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document(annotations=[])))
    assert (index.images, index.annotations) == (3, 0)
    assert index.instances(2) == []
    assert index.pasteable(0).shape == (0, 2)
    empty = CocoIndex.open(write(tmp_path, {"images": [], "annotations": []}, "e.json"))
    assert empty.images == 0
