"""COCO annotations: the index agrees with the JSON, and its masks with pycocotools."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stmdata.stills.coco import (
    CocoIndex,
    ImageInfo,
    Instance,
    Rle,
    area_with_boundary,
    rasterise_box,
)
from stmdata.stills.image_path import find_image
from stmtrain.errors import DataError
from tests.coco_files import SQUARE, document, full_mask, reference_mask, write
from tests.paths import REAL, real_data


def test_images_and_instances_keep_the_files_order(tmp_path: Path) -> None:
    index = CocoIndex.open(write(tmp_path, document()))
    assert (index.images, index.annotations) == (3, 4)
    assert [index.image(i).image_id for i in range(3)] == [7, 3, 5]
    assert index.image(1) == ImageInfo(3, "sub/b.jpg", 20, 30, 1)
    assert index.image(2).file_name == "train2017/c.jpg"
    ids = [[o.annotation_id for o in index.instances(i)] for i in range(3)]
    assert ids == [["12", "14"], [], ["11", "13"]]
    assert [o.crowd for o in index.instances(2)] == [False, True]
    assert index.instances(0)[1].bbox == (5, 5, 20, 13)
    np.testing.assert_array_equal(index.instances(0)[0].segmentation[1].ravel(), SQUARE)


def test_masks_equal_pycocotools(tmp_path: Path) -> None:
    source = document()
    index = CocoIndex.open(write(tmp_path, source))
    shapes = {str(a["id"]): a["segmentation"] for a in source["annotations"]}
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

    def pasted(rows: np.ndarray) -> list[str]:
        return [index.instance(*row).annotation_id for row in rows.tolist()]

    assert pasted(index.pasteable(0)) == ["12", "14", "11"]
    assert pasted(index.pasteable(0, crowd=True)) == ["12", "14", "11", "13"]
    rows = index.pasteable(260)
    assert pasted(rows) == ["12", "14"]
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
    instance = Instance("5", (0, 0, 1, 1), True, Rle(b"04", (2, 2)))
    with pytest.raises(DataError, match=r"annotation 5: expected an RLE of 3x2 px .* found 2x2"):
        full_mask(instance, 2, 3)


def test_the_published_area_counts_the_boundary_of_polygons() -> None:
    square = np.array([[10, 10], [20, 10], [20, 20], [10, 20]], np.float32)
    apart = square + np.float32(30)
    for parts, drawn, published in (((square,), 100, 121), ((square, apart), 200, 242)):
        instance = Instance("1", (10, 10, 10, 10), False, parts)
        assert np.count_nonzero(rasterise_box(instance, 60, 60)[0]) == drawn
        assert area_with_boundary(instance, (60, 60)) == published
    overlapping = Instance("2", (10, 10, 10, 10), False, (square, square))
    assert area_with_boundary(overlapping, (60, 60)) == 121  # a union, not a hole
    runs = Instance("3", (0, 0, 2, 2), False, Rle(b"04", (2, 2)))
    assert area_with_boundary(runs, (2, 2)) == 4


@real_data
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_coco_equals_pycocotools(tmp_path: Path, split: str) -> None:
    source = REAL / "coco" / "annotations" / f"instances_{split}.json"
    path = Path(shutil.copy(source, tmp_path))
    annotations = json.loads(source.read_text())["annotations"]
    shapes = {str(a["id"]): a["segmentation"] for a in annotations}
    index = CocoIndex.open(path)
    assert index.images == 80
    assert index.annotations == len(shapes)
    for i in range(80):
        record = index.image(i)
        folder = REAL / "coco" / split
        assert find_image(folder, record.file_name, record.tail, "").is_file()
        for instance in index.instances(i):
            want = reference_mask(shapes[instance.annotation_id], record.height, record.width)
            assert np.array_equal(full_mask(instance, record.height, record.width), want)
