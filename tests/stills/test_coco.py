"""COCO-format annotations: the index agrees with the JSON, and masks with pycocotools."""

import json
import multiprocessing
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stmdata.stills import array_file, coco, coco_index, rle
from stmdata.stills.coco import (
    CocoIndex,
    ImageRecord,
    Instance,
    Rle,
    find_image,
    rasterise,
    rasterise_box,
)
from stmtrain.errors import DataError
from tests.paths import REAL, real_data
from tests.profiles import examples

TRIANGLE = [2.0, 2.0, 20.1, 3.3, 9.7, 15.9]
SQUARE = [5.0, 5.0, 25.0, 5.0, 25.0, 18.0, 5.0, 18.0]


def document(**changes: Any) -> dict[str, Any]:
    """Three images of 30x20 (the second empty); annotations in mixed order, one a crowd."""
    base: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30},
            {"id": 3, "file_name": "sub/b.jpg", "height": 20, "width": 30},
            {"id": 5, "coco_url": "http://h/train2017/c.jpg", "height": 20, "width": 30},
        ],
        "annotations": [
            note(11, 5, [TRIANGLE]),
            note(12, 7, [TRIANGLE, SQUARE]),
            note(13, 5, {"size": [20, 30], "counts": [100, 50, 450]}, iscrowd=1),
            note(14, 7, [SQUARE], area=260.5, bbox=[5, 5, 20, 13], category_id=4),
        ],
        "categories": [],
    }
    return base | changes


def note(annotation_id: int, image_id: int, segmentation: object, **more: Any) -> dict[str, Any]:
    return {"id": annotation_id, "image_id": image_id, "segmentation": segmentation} | more


def write(folder: Path, value: object, name: str = "instances.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def reference_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """What pycocotools' COCO.annToMask does."""
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = coco_mask.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    with warnings.catch_warnings():  # pycocotools 2.0.11 with NumPy 2
        warnings.simplefilter("ignore", DeprecationWarning)
        mask: np.ndarray = coco_mask.decode(runs)
    return mask


def test_images_and_instances_keep_the_files_order(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    assert (index.images, index.annotations) == (3, 4)
    assert [index.image(i).image_id for i in range(3)] == [7, 3, 5]
    assert index.image(1) == ImageRecord(3, "sub/b.jpg", 20, 30)
    assert index.image(2).file_name == "train2017/c.jpg"
    ids = [[o.annotation_id for o in index.instances(i)] for i in range(3)]
    assert ids == [[12, 14], [], [11, 13]]
    assert [o.crowd for o in index.instances(2)] == [False, True]
    given_box = index.instances(0)[1]
    assert (given_box.area, given_box.bbox, given_box.category_id) == (260.5, (5, 5, 20, 13), 4)
    np.testing.assert_array_equal(index.instances(0)[0].segmentation[1].ravel(), SQUARE)


def test_area_and_box_are_measured_where_the_file_has_none(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    for i in range(3):
        for instance in index.instances(i):
            mask = rasterise(instance, 20, 30)
            if instance.annotation_id != 14:
                assert instance.area == mask.sum()
                x, y, w, h = map(int, instance.bbox)
                assert mask[y : y + h, x : x + w].sum() == mask.sum()


def test_masks_equal_pycocotools(tmp_path: Path) -> None:
    source = document()
    index = CocoIndex.open(write(tmp_path, source))
    shapes = {a["id"]: a["segmentation"] for a in source["annotations"]}
    for instance in (o for i in range(3) for o in index.instances(i)):
        mask = rasterise(instance, 20, 30)
        assert mask.dtype == np.uint8
        assert mask.flags.c_contiguous
        np.testing.assert_array_equal(mask, reference_mask(shapes[instance.annotation_id], 20, 30))


def test_overlapping_parts_leave_no_hole(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    both = rasterise(index.instances(0)[0], 20, 30)
    assert both[8, 10] == 1  # inside both parts: the even-odd rule would leave 0


def test_pasteable_rows_are_single_objects_of_the_asked_size(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    assert {index.instance(*row).annotation_id for row in index.pasteable(0).tolist()} == {
        11,
        12,
        14,
    }
    rows = index.pasteable(260)
    assert {index.instance(*row).annotation_id for row in rows.tolist()} == {12, 14}
    assert rows.dtype == np.int64
    assert index.pasteable(1e9).shape == (0, 2)
    with pytest.raises(IndexError, match="is not of image"):
        index.instance(1, 0)


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
    return CocoIndex(Path(), None, "", {}, arrays).instances(0)[0]


@examples(150)
@given(st.lists(polygon, min_size=1, max_size=4), st.integers(1, 34), st.integers(1, 34))
@example([[212.1, 3.3, 212.3, 40.7, 240.9, 3.1]], 60, 260)
@example([[-3.3, -2.7, 9.1, -0.1, 4.0, 8.0], [0, 0, 9, 0, 9, 9]], 12, 12)
def test_any_polygons_equal_pycocotools(parts: list[list[float]], height: int, width: int) -> None:
    height, width = max(height, 21), max(width, 21)  # else most polygons lie too far outside
    want = reference_mask(parts, height, width)
    instance = indexed(parts, height, width)
    np.testing.assert_array_equal(rasterise(instance, height, width), want)
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
    np.testing.assert_array_equal(rasterise(indexed(shape, height, width), height, width), want)


@examples(120)
@given(st.lists(st.integers(0, 60_000 * 5).map(lambda n: n / 50), min_size=1, max_size=20))
def test_float32_draws_as_the_json_number(values: list[float]) -> None:
    exact = np.array(values)
    rounded = rle.round_outline(exact)
    assert np.abs(rounded - exact).max() <= 2 * np.spacing(np.float32(max(values) + 1))
    snapped = np.trunc(5 * rounded.astype(np.float64) + 0.5)
    np.testing.assert_array_equal(snapped, np.trunc(5 * exact + 0.5))


@given(st.binary(max_size=12), st.integers(1, 9), st.integers(1, 9))
@examples(150)
@example(b"0", 4, 4)  # pycocotools would leave pixels unset
@example(b"`0P", 4, 4)  # ... or read past the end
def test_a_bad_compressed_rle_never_reaches_pycocotools(data: bytes, h: int, w: int) -> None:
    accepted = rle.compress_rle(data.decode("latin-1"), (h, w), (h, w))
    assert data not in (b"0", b"`0P") or accepted is None
    if accepted is not None:
        lengths = rle.read_runs(accepted)
        assert lengths.min() >= 0
        assert lengths.sum() == h * w


@pytest.mark.parametrize("data", [b"", b"`0P", b"`0 ", b"`0\xff", b"PPPPPPP0"])
def test_an_unfinished_rle_is_no_rle(data: bytes) -> None:
    np.testing.assert_array_equal(rle.read_runs(b"`0"), [16])
    with pytest.raises(ValueError, match="not a compressed RLE"):
        rle.read_runs(data)


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
        (
            document(images=[{"id": 7, "height": 2, "width": 2}]),
            r'image 7 lacks "file_name"',
        ),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 2, "width": 2}] * 2),
            r"image id 7 occurs twice",
        ),
        (
            document(images=[{"id": 7, "file_name": "a", "height": 0, "width": 2}]),
            r"`int` >= 1 - at `\$\.images\[0\]\.height`",
        ),
        (document(annotations=[note(9, 8, [])]), r"annotation 9 is of image 8, which"),
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


@contextmanager
def counting_builds() -> Iterator[list[Path]]:
    built: list[Path] = []

    def build(path: Path) -> Any:
        built.append(path)
        return coco_index.build_index(path)

    with patch.object(coco, "build_index", build):
        yield built


def test_indexed_once_and_again_only_when_the_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    with counting_builds() as built:
        CocoIndex.open(path)
        CocoIndex.open(path)
        assert len(built) == 1
        os.utime(path, ns=(1, 1))  # touched: same content
        CocoIndex.open(path)
        assert len(built) == 1
        changed = document()
        changed["images"][0]["file_name"] = "z.jpg"  # same size, other content
        write(tmp_path, changed)
        os.utime(path, ns=(2, 2))
        assert CocoIndex.open(path).image(0).file_name == "z.jpg"
        assert len(built) == 2
        write(tmp_path, document(images=document()["images"][:1], annotations=[]))
        assert CocoIndex.open(path).images == 1
        assert len(built) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "magic", "version", "header"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path, document())
    CocoIndex.open(path)
    place = tmp_path / "instances.json.stmindex"
    data = place.read_bytes()
    place.write_bytes(
        {
            "cut": data[:-64],
            "empty": b"",
            "magic": b"X" + data[1:],
            "version": data.replace(b'"version": 1', b'"version": 9'),
            "header": data.replace(b'"<f4"', b'"|O8"'),
        }[damage]
    )
    with counting_builds() as built:
        assert CocoIndex.open(path).annotations == 4
    assert len(built) == 1
    assert place.read_bytes() == data


def test_the_cache_is_used_where_the_folder_is_read_only(tmp_path: Path) -> None:
    path = write(tmp_path, document())

    def read_only(place: Path, *content: Any) -> None:
        if place.parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(place))
        array_file.write_arrays(place, *content)

    with patch.object(coco, "write_arrays", read_only):
        with pytest.raises(DataError, match=r"index cannot be written .*give a cache folder"):
            CocoIndex.open(path)
        assert CocoIndex.open(path, tmp_path / "cache" / "deep").annotations == 4
        with counting_builds() as built:
            CocoIndex.open(path, tmp_path / "cache" / "deep")
        assert built == []


def test_the_index_is_mapped_read_only_and_travels_as_a_path(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    with pytest.raises(ValueError, match="read-only"):
        index.instances(0)[0].segmentation[0][0] = 1
    data = pickle.dumps(index)
    assert len(data) < 500
    assert [o.annotation_id for o in pickle.loads(data).instances(2)] == [11, 13]


def test_processes_may_start_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, document(annotations=document()["annotations"] * 500))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        opened = pool.map(CocoIndex.open, [path] * 4, chunksize=1)
    assert [index.annotations for index in opened] == [2000] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, path.name + ".stmindex"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, document())
    with (
        patch.object(os, "fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(DataError, match="No space left"),
    ):
        CocoIndex.open(path)
    assert list(tmp_path.iterdir()) == [path]


def test_an_rle_of_another_size_is_refused() -> None:
    instance = Instance(5, 0, 1.0, (0, 0, 1, 1), True, Rle(b"04", (2, 2)))
    with pytest.raises(DataError, match="annotation 5: RLE is of a 2x2 image, the image is 3x2"):
        rasterise(instance, 2, 3)


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "sub/../../a.jpg", "C:\\a.jpg", "..\\a.jpg", "a\0.jpg", "", "."],
)
def test_a_file_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"image 1: file_name .* must be a relative path inside"):
        find_image(tmp_path / "images", ImageRecord(1, name, 1, 1))


def test_find_image(tmp_path: Path) -> None:
    folder = tmp_path / "train2017"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/a.jpg"):
        (folder / name).write_bytes(b"x")

    def find(at: Path, name: str) -> Path:
        return find_image(at, ImageRecord(1, name, 1, 1))

    assert find(folder, "a.jpg") == folder / "a.jpg"
    assert find(folder, "sub/a.jpg") == folder / "sub" / "a.jpg"
    assert find(folder, "train2017/a.jpg") == folder / "a.jpg"  # LVIS, given COCO's folder
    assert find(tmp_path, "train2017/a.jpg") == folder / "a.jpg"  # ... or the folder above
    for missing in ("b.jpg", "other/a.jpg", "x" * 300):
        with pytest.raises(DataError, match="image 1 is missing"):
            find(folder, missing)


@real_data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_coco_equals_pycocotools(tmp_path: Path, split: str) -> None:
    source = REAL / "coco" / "annotations" / f"instances_{split}.json"
    path = Path(shutil.copy(source, tmp_path))
    annotations = json.loads(source.read_text())["annotations"]
    shapes = {a["id"]: a["segmentation"] for a in annotations}
    index = CocoIndex.open(path)
    assert index.images == 80
    assert index.annotations == len(shapes)
    for i in range(80):
        record = index.image(i)
        assert find_image(REAL / "coco" / split, record).is_file()
        for instance in index.instances(i):
            want = reference_mask(shapes[instance.annotation_id], record.height, record.width)
            assert np.array_equal(rasterise(instance, record.height, record.width), want)


def test_forgotten_pages_are_read_again(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    before = [repr(index.instances(i)) for i in range(index.images)]
    index.forget_pages()
    assert [repr(index.instances(i)) for i in range(index.images)] == before
