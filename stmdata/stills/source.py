"""Still-image sources: data sets of images with objects, as COCO-format files or mask folders.

Given the position of an image, a source returns a picture (image and label map); it also draws
cut-outs. A source is small and picklable: every worker receives it and opens the files itself.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmdata.stills.coco import CocoIndex, Instance, find_image, rasterise_box
from stmdata.stills.mask_files import Still, read_still
from stmdata.synthesis.layers import Cutout, cut_out
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_still
from stmtrain.shards.sample import Skipped

MAX_INSTANCES = 200
"""Most instances of one image in its label map; pasted objects have the ids above them."""

Part = tuple[NDArray[np.uint8], tuple[int, int]]
"""A mask (h, w) uint8, nonzero inside, and the (top, left) of its box in the image, px."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A still image: (H, W, 3) uint8 RGB, (H, W) uint8 ids 1.., and its skipped instances."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read: its name in the data set, and the error."""

    image: str
    error: DataError


class StillSource(Protocol):
    """What :mod:`stmdata.packing.clips` needs from a data set of still images."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def key(self, position: int) -> str:
        """Return the image's part of a sample key: unique; letters, digits, ``_`` and ``-``."""
        ...

    def name(self, position: int) -> str:
        """Return the image's name in the data set."""
        ...

    def origin(self, position: int) -> Mapping[str, Any]:
        """Return what the record of a sample states about its image, as JSON values."""
        ...

    def read(self, position: int, min_area: float) -> Picture:
        """Read an image and its instances of at least ``min_area`` px."""
        ...

    def cutouts(self, count: int, min_box: float, rng: Generator) -> Iterator[Cutout | Unreadable]:
        """Draw cut-outs at random; an image that cannot be read yields that instead."""
        ...


def label_map(parts: Sequence[Part], height: int, width: int) -> NDArray[np.uint8]:
    """Join masks into a label map: mask i gets id i + 1, and the earliest wins an overlap.

    Args:
        parts: At most 254 masks with their positions.
        height: H of the image.
        width: W of the image.

    Returns:
        (H, W) uint8.
    """
    labels = np.zeros((height, width), np.uint8)
    for i in reversed(range(len(parts))):
        mask, (top, left) = parts[i]
        box = labels[top : top + mask.shape[0], left : left + mask.shape[1]]
        np.copyto(box, np.uint8(i + 1), where=mask.astype(bool))
    return labels


@lru_cache(maxsize=2)
def _index(annotations: Path) -> CocoIndex:
    """Open an index once per process; processes share the memory of its mapped arrays."""
    return CocoIndex.open(annotations)


@dataclass(frozen=True)
class CocoSource:
    """Images with a COCO-format annotation file; the first ``limit`` images, if given."""

    images: Path
    annotations: Path
    limit: int | None = None

    @property
    def index(self) -> CocoIndex:
        """Return the annotations."""
        return _index(self.annotations)

    def __len__(self) -> int:
        """Return the number of images."""
        return min(self.index.images, self.limit or self.index.images)

    def key(self, position: int) -> str:
        """Return ``coco_000000131074``."""
        return f"coco_{self.index.image(position).image_id:012d}"

    def name(self, position: int) -> str:
        """Return the image's file name in the annotations."""
        return self.index.image(position).file_name

    def origin(self, position: int) -> Mapping[str, Any]:
        """Return the data set and the image's id and file."""
        info = self.index.image(position)
        return {"dataset": "coco", "image_id": info.image_id, "image": info.file_name}

    def read(self, position: int, min_area: float) -> Picture:
        """Read an image and its instances; crowd regions and small instances are skipped."""
        image = self._image(position)
        height, width = image.shape[:2]
        usable: list[Part] = []
        skipped = []
        for instance in self.index.instances(position):
            reason = _unusable(instance, min_area, len(usable))
            if reason:
                name = f"{self.key(position)} annotation {instance.annotation_id}"
                skipped.append(Skipped(name, reason))
            else:
                usable.append(rasterise_box(instance, height, width))
        return Picture(image, label_map(usable, height, width), tuple(skipped))

    def cutouts(self, count: int, min_box: float, rng: Generator) -> Iterator[Cutout | Unreadable]:
        """Draw instances of the complete data set, never crowd regions."""
        self.index.forget_pages()  # once per shard
        rows = _pasteable(self.annotations, min_box, len(self))
        if not len(rows):
            return
        for position, annotation in rows[rng.integers(len(rows), size=count)].tolist():
            try:
                image = self._image(position)
                instance = self.index.instance(position, annotation)
                mask, (top, left) = rasterise_box(instance, *image.shape[:2])
            except DataError as error:
                yield Unreadable(self.name(position), error)
                continue
            if mask.size:
                yield cut_out(image[top : top + mask.shape[0], left : left + mask.shape[1]], mask)

    def _image(self, position: int) -> NDArray[np.uint8]:
        info = self.index.image(position)
        path = find_image(self.images, info)
        size = (info.height, info.width)
        return decode_still(read_file(path), str(path), size, like=f"image {info.image_id}")


@lru_cache(maxsize=2)
def _pasteable(annotations: Path, min_box: float, images: int) -> NDArray[np.int64]:
    """Return (K, 2) image and annotation positions of what may be pasted from the first images."""
    rows = _index(annotations).pasteable(min_box)
    return rows[rows[:, 0] < images]


@dataclass(frozen=True)
class MaskSource:
    """Images with one mask file each."""

    stills: tuple[Still, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.stills)

    @property
    def digest(self) -> str:
        """Return a sha256 over the files' names and sizes: the identity of the set."""
        digest = hashlib.sha256()
        for still in self.stills:
            sizes = (still.image.stat().st_size, still.mask.stat().st_size)
            digest.update(f"{still.name}\0{sizes}\n".encode())
        return digest.hexdigest()

    def key(self, position: int) -> str:
        """Return ``masks_0001``; a name with other characters gets a hash that makes it unique."""
        name = self.stills[position].name
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
        if safe == name and len(name) <= _LONGEST:
            return f"masks_{name}"
        return f"masks_{safe[-(_LONGEST - 9) :]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def name(self, position: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.stills[position].name

    def origin(self, position: int) -> Mapping[str, Any]:
        """Return the data set and the image's name."""
        return {"dataset": "masks", "image": self.name(position)}

    def read(self, position: int, min_area: float) -> Picture:
        """Read an image and its objects; small objects are skipped."""
        image, masks = read_still(self.stills[position])
        usable: list[Part] = []
        skipped = []
        for number, mask in enumerate(masks, 1):
            reason = _too_small(cv2.countNonZero(mask), min_area) or _too_many(len(usable))
            if reason:
                skipped.append(Skipped(f"{self.key(position)} object {number}", reason))
            else:
                usable.append((mask, (0, 0)))
        if not masks:
            skipped.append(Skipped(self.key(position), "mask without an object"))
        return Picture(image, label_map(usable, *image.shape[:2]), tuple(skipped))

    def cutouts(self, count: int, min_box: float, rng: Generator) -> Iterator[Cutout | Unreadable]:
        """Draw images of the data set, and one object of each."""
        for position in rng.integers(len(self), size=count).tolist():
            try:
                image, masks = read_still(self.stills[position])
            except DataError as error:
                yield Unreadable(self.name(position), error)
                continue
            choice = rng.random()  # always drawn, so that one image does not change the others
            boxes = [(mask, cv2.boundingRect(mask)) for mask in masks]
            boxes = [(mask, box) for mask, box in boxes if box[2] * box[3] >= min_box]
            if boxes:
                mask, (x, y, w, h) = boxes[int(choice * len(boxes))]
                yield cut_out(image[y : y + h, x : x + w], mask[y : y + h, x : x + w])


_LONGEST = 50  # characters of a name in a key, which has 64 with "masks_" and "_v000"


def _unusable(instance: Instance, min_area: float, so_far: int) -> str | None:
    """Return why an instance cannot be an object, or ``None``."""
    if instance.crowd:
        return "crowd region"
    return _too_small(instance.area, min_area) or _too_many(so_far)


def _too_small(area: float, min_area: float) -> str | None:
    return f"instance smaller than {min_area:g} px" if area < min_area else None


def _too_many(so_far: int) -> str | None:
    return f"more than {MAX_INSTANCES} instances in an image" if so_far >= MAX_INSTANCES else None
