"""COCO annotations: the index agrees with the JSON, and its masks with pycocotools."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stmdata.stills.coco import CocoIndex, ImageInfo, Instance, Rle, find_image
from stmtrain.errors import DataError
from tests.coco_files import SQUARE, document, full_mask, reference_mask, write
from tests.paths import REAL, real_data


def test_images_and_instances_keep_the_files_order(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    assert (index.images, index.annotations) == (3, 4)
    assert [index.image(i).image_id for i in range(3)] == [7, 3, 5]
    assert index.image(1) == ImageInfo(3, "sub/b.jpg", 20, 30)
    assert index.image(2).file_name == "train2017/c.jpg"
    ids = [[o.annotation_id for o in index.instances(i)] for i in range(3)]
    assert ids == [[12, 14], [], [11, 13]]
    assert [o.crowd for o in index.instances(2)] == [False, True]
    given_box = index.instances(0)[1]
    assert (given_box.area, given_box.bbox, given_box.category_id) == (260.5, (5, 5, 20, 13), 4)
    np.testing.assert_array_equal(index.instances(0)[0].segmentation[1].ravel(), SQUARE)


def test_masks_equal_pycocotools(tmp_path: Path) -> None:
    source = document()
    index = CocoIndex.open(write(tmp_path, source))
    shapes = {a["id"]: a["segmentation"] for a in source["annotations"]}
    for instance in (o for i in range(3) for o in index.instances(i)):
        mask = full_mask(instance, 20, 30)
        assert mask.dtype == np.uint8
        assert mask.flags.c_contiguous
        np.testing.assert_array_equal(mask, reference_mask(shapes[instance.annotation_id], 20, 30))


def test_overlapping_parts_leave_no_hole(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    both = full_mask(index.instances(0)[0], 20, 30)
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
    with pytest.raises(IndexError, match="is not of the image"):
        index.instance(1, 0)


def test_the_index_is_mapped_read_only(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    with pytest.raises(ValueError, match="read-only"):
        index.instances(0)[0].segmentation[0][0] = 1


def test_forgotten_pages_are_read_again(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    before = [repr(index.instances(i)) for i in range(index.images)]
    index.forget_pages()
    assert [repr(index.instances(i)) for i in range(index.images)] == before


def test_an_rle_of_another_size_is_refused() -> None:
    instance = Instance(5, 0, 1.0, (0, 0, 1, 1), True, Rle(b"04", (2, 2)))
    with pytest.raises(DataError, match=r"annotation 5: expected an RLE of 3x2 px .* found 2x2"):
        full_mask(instance, 2, 3)


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "sub/../../a.jpg", "C:\\a.jpg", "..\\a.jpg", "a\0.jpg", "", "."],
)
def test_a_file_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"image 1: file_name .* must be a relative path inside"):
        find_image(tmp_path / "images", ImageInfo(1, name, 1, 1))


def test_find_image(tmp_path: Path) -> None:
    folder = tmp_path / "train2017"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/a.jpg"):
        (folder / name).write_bytes(b"x")

    def find(at: Path, name: str) -> Path:
        return find_image(at, ImageInfo(1, name, 1, 1))

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
            assert np.array_equal(full_mask(instance, record.height, record.width), want)
