"""Still-image sources: data sets of images with objects, as COCO-format files or mask folders.

Given the position of an image, a source returns a picture (image and label map); it also draws
cut-outs. A source is small and picklable: every worker receives it and opens the files itself.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stmdata.stills.coco import CocoIndex, area_with_boundary, rasterise_box
from stmdata.stills.image_path import find_image
from stmdata.stills.mask_files import Still, read_still
from stmdata.stills.objects import Candidate, draw_labels
from stmdata.synthesis.layers import Cutout, cut_out
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_still
from stmtrain.shards.sample import Skipped


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

    def read(self, position: int, min_area: float, *, small_in_front: bool = True) -> Picture:
        """Read an image and its objects, as :func:`~stmdata.stills.objects.draw_labels` does."""
        ...

    def cutouts(self, count: int, min_box: float, rng: Generator) -> Iterator[Cutout | Unreadable]:
        """Draw cut-outs at random; an image that cannot be read yields that instead."""
        ...


@lru_cache(maxsize=2)
def _index(annotations: Path, cache: Path | None, _: object) -> CocoIndex:
    """Open an index once per process; processes share the memory of its mapped arrays."""
    return CocoIndex.open(annotations, cache)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file: its index is opened again then."""
    try:
        stat = path.stat()
    except OSError:
        return None  # opening it says what is wrong
    return stat.st_mtime_ns, stat.st_size


@dataclass(frozen=True)
class CocoSource:
    """Images with a COCO-format annotation file.

    Attributes:
        images: Folder of the images.
        annotations: The file.
        limit: Use the first images only.
        cache: Folder for the index of the annotations; by default the user's cache folder.
    """

    images: Path
    annotations: Path
    limit: int | None = None
    cache: Path | None = None

    @property
    def index(self) -> CocoIndex:
        """Return the annotations."""
        return _index(self.annotations, self.cache, _stamp(self.annotations))

    def __len__(self) -> int:
        """Return the number of images."""
        return min(self.index.images, self.limit or self.index.images)

    def key(self, position: int) -> str:
        """Return ``coco_000000131074``, or ``coco_`` and the id where the id is text."""
        image_id = self.index.image(position).image_id
        return f"coco_{image_id:012d}" if isinstance(image_id, int) else safe_key("coco", image_id)

    def name(self, position: int) -> str:
        """Return the image's file name in the annotations."""
        return self.index.image(position).file_name

    def origin(self, position: int) -> Mapping[str, Any]:
        """Return the data set and the image's id and file."""
        info = self.index.image(position)
        return {"dataset": "coco", "image_id": info.image_id, "image": info.file_name}

    def read(self, position: int, min_area: float, *, small_in_front: bool = True) -> Picture:
        """Read an image and its instances.

        Each annotation is an object of the label map or skipped; its area is that of its mask, or,
        without ``small_in_front``, that of the published code, which counts the boundary too.
        """
        image = self._image(position)
        size = (image.shape[0], image.shape[1])
        candidates: list[Candidate] = []
        skipped = []
        for instance in self.index.instances(position):
            name = f"{self.key(position)} annotation {instance.annotation_id}"
            reason = instance.unusable or ("crowd region" if instance.crowd else "")
            if reason:
                skipped.append(Skipped(name, reason))
                continue
            if instance.lost_parts:
                parts = f"{name}: {instance.lost_parts} of its polygons"
                skipped.append(Skipped(parts, "part of an annotation: unusable polygon"))
            mask, corner = rasterise_box(instance, *size)
            area = np.count_nonzero(mask) if small_in_front else area_with_boundary(instance, size)
            candidates.append(Candidate(name, mask, corner, int(area)))
        labels, more = draw_labels(candidates, size, min_area, small_in_front=small_in_front)
        return Picture(image, labels, (*skipped, *more))

    def cutouts(
        self, count: int, min_box: float, rng: Generator, *, crowd: bool = False
    ) -> Iterator[Cutout | Unreadable]:
        """Draw instances of the complete data set; crowd regions only if asked for."""
        self.index.forget_pages()  # once per shard
        rows = _pasteable(self.index, min_box, len(self), crowd)
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
        path = find_image(self.images, info.file_name, info.tail, str(info.image_id))
        size = (info.height, info.width)
        return decode_still(read_file(path), str(path), size, like=f"image {info.image_id}")


@lru_cache(maxsize=2)
def _pasteable(index: CocoIndex, min_box: float, images: int, crowd: bool) -> NDArray[np.int64]:
    """Return (K, 2) image and annotation positions of what may be pasted from the first images."""
    rows = index.pasteable(min_box, crowd=crowd)
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
        """Return ``masks_0001``, for instance."""
        return safe_key("masks", self.name(position))

    def name(self, position: int) -> str:
        """Return the image's path in its folder, without suffix."""
        return self.stills[position].name

    def origin(self, position: int) -> Mapping[str, Any]:
        """Return the data set and the image's name."""
        return {"dataset": "masks", "image": self.name(position)}

    def read(self, position: int, min_area: float, *, small_in_front: bool = True) -> Picture:
        """Read an image and its objects; small objects are skipped."""
        image, objects = read_still(self.stills[position])
        key = self.key(position)
        candidates = [
            Candidate(f"{key} object {number}", mask, (0, 0), cv2.countNonZero(mask))
            for number, mask in enumerate(objects.masks, 1)
        ]
        size = (image.shape[0], image.shape[1])
        labels, skipped = draw_labels(candidates, size, min_area, small_in_front=small_in_front)
        note = objects.unused or ("" if objects.masks else "mask without an object")
        if note:
            skipped = (Skipped(key, note), *skipped)
        return Picture(image, labels, skipped)

    def cutouts(self, count: int, min_box: float, rng: Generator) -> Iterator[Cutout | Unreadable]:
        """Draw images of the data set, and one object of each."""
        for position in rng.integers(len(self), size=count).tolist():
            try:
                image, objects = read_still(self.stills[position])
            except DataError as error:
                yield Unreadable(self.name(position), error)
                continue
            choice = rng.random()  # always drawn, so that one image does not change the others
            boxes = [(mask, cv2.boundingRect(mask)) for mask in objects.masks]
            boxes = [(mask, box) for mask, box in boxes if box[2] * box[3] >= min_box]
            if boxes:
                mask, (x, y, w, h) = boxes[int(choice * len(boxes))]
                yield cut_out(image[y : y + h, x : x + w], mask[y : y + h, x : x + w])


def safe_key(prefix: str, name: str) -> str:
    """Turn a name into a part of sample keys; one with other characters gets a hash to be unique.

    Example:
        >>> safe_key("masks", "0001"), safe_key("masks", "a b")
        ('masks_0001', 'masks_a_b_c8687a08')
    """
    safe = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    if safe == name and len(name) <= _LONGEST:
        return f"{prefix}_{name}"
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:8]
    return f"{prefix}_{safe[-(_LONGEST - 9) :]}_{digest}"


_LONGEST = 50  # characters of a name in a key, which has 64 with "masks_" and "_v000"
