"""Small trees to test data sets with: of empty files, or of drawn frames and masks."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.datasets.tree import open_dataset
from stmtrain.datasets.video_set import VideoSet
from stmtrain.images.encode import encode_mask

SIZE = (48, 64)


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def numbered(count, suffix, step=1):
    return [f"{step * i:05d}.{suffix}" for i in range(count)]


def draw_folder(root: Path, masks: dict[str, NDArray[np.uint8]], frames: int = 6) -> Path:
    """Draw a tree of one video, ``clip``, with the given masks by frame name."""
    rng = np.random.default_rng(0)
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "clip").mkdir(parents=True)
    for t in range(frames):
        pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / "clip" / f"{t:05d}.jpg")
    for name, mask in masks.items():
        (root / "Annotations" / "clip" / f"{name}.png").write_bytes(encode_mask(mask))
    return root


def box(object_id: int, left: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    mask[10:40, left : left + 16] = object_id
    return mask


def open_folder(root: Path) -> VideoSet:
    """Open a plain tree of frames and masks."""
    return open_dataset(root, "own-frames-and-masks").open()
