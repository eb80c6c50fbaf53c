"""COCO documents of the tests, and the masks that pycocotools makes of them."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from stmdata.stills.coco import Instance, rasterise_box

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


def full_mask(instance: Instance, height: int, width: int) -> np.ndarray:
    """Draw an instance at the size of its image."""
    mask = np.zeros((height, width), np.uint8)
    box, (top, left) = rasterise_box(instance, height, width)
    mask[top : top + box.shape[0], left : left + box.shape[1]] = box
    return mask
