"""COCO-format annotations: images, their instances, and the mask of an instance.

``CocoIndex.open`` parses an annotation file once into a compact index file of NumPy arrays in the
user's cache (``index_file`` and ``coco_index``); every later start and every worker maps that file.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.stills.coco_index import REASONS
from stmdata.stills.coco_json import parse_id
from stmdata.stills.index_file import open_index
from stmdata.stills.rle import polygon_rle
from stmtrain.errors import DataError
from stmtrain.images.rle import draw_runs, read_runs


@dataclass(frozen=True)
class ImageInfo:
    """One image as the annotations describe it; sizes in pixels.

    ``tail`` is the number of parts at the end of ``file_name`` that no other image shares.
    """

    image_id: int | str
    file_name: str
    height: int
    width: int
    tail: int = 1


@dataclass(frozen=True)
class Rle:
    """A run-length mask: COCO's compressed counts, and (height, width) in pixels."""

    counts: bytes
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object.

    Attributes:
        annotation_id: The annotation's id in its file, or ``[k]``, its position.
        bbox: (x, y, w, h), px; measured from the mask where the file has none.
        crowd: A region of many objects, never to be used as one.
        segmentation: (N, 2) float32 polygons (x, y in px) whose union is the mask, or an RLE.
        unusable: Why the annotation has no mask; empty if it has one.
        lost_parts: Number of its polygons that are unusable, while others are used.
    """

    annotation_id: str
    bbox: tuple[float, float, float, float]
    crowd: bool
    segmentation: tuple[NDArray[np.float32], ...] | Rle
    unusable: str = ""
    lost_parts: int = 0


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """The images and instances of one annotation file, memory-mapped; ``sha256`` is the file's."""

    sha256: str
    _arrays: Mapping[str, NDArray[Any]] = field(repr=False)

    @classmethod
    def open(cls, annotations: Path, cache: Path | None = None) -> Self:
        """Map the index of an annotation file, building it first if needed.

        Args:
            annotations: The file.
            cache: Folder of the index; by default the user's cache folder.

        Raises:
            DataError: The annotations are unreadable or wrong.
            StmError: The cache is not writable.
        """
        info, arrays = open_index(annotations, cache)
        return cls(info["sha256"], arrays)

    def forget_pages(self) -> None:
        """Return the memory of the pages that were read to the system; they stay readable.

        Otherwise a worker that runs through a complete set would end up holding a large index.
        """
        buffer = self._arrays["image_size"].base
        if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            buffer.madvise(mmap.MADV_DONTNEED)

    @property
    def images(self) -> int:
        """Number of images, with and without annotations."""
        return len(self._arrays["image_size"])

    @property
    def annotations(self) -> int:
        """Number of annotations, unusable ones and crowd regions included."""
        return len(self._arrays["crowd"])

    def image(self, i: int) -> ImageInfo:
        """Return the image at position ``i`` in the file's order."""
        a = self._arrays
        height, width = a["image_size"][i].tolist()
        image_id = parse_id(_text(a["image_ids"], a["image_id_end"], i))
        assert image_id is not None
        name = _text(a["names"], a["name_end"], i)
        return ImageInfo(image_id, name, height, width, int(a["image_tail"][i]))

    def instances(self, i: int) -> list[Instance]:
        """Return all instances of the image at position ``i``, in the file's order."""
        start, stop = self._arrays["first_annotation"][i : i + 2].tolist()
        size = self._arrays["image_size"][i]
        return [self._instance(k, size) for k in range(start, stop)]

    def instance(self, i: int, annotation: int) -> Instance:
        """Return one instance by its two positions: a row of :meth:`pasteable`."""
        start, stop = self._arrays["first_annotation"][i : i + 2].tolist()
        if not start <= annotation < stop:
            raise IndexError(f"annotation {annotation} is not of the image at position {i}")
        return self._instance(annotation, self._arrays["image_size"][i])

    def pasteable(self, min_box_area: float, *, crowd: bool = False) -> NDArray[np.int64]:
        """Find the objects whose box is large enough to be pasted.

        Args:
            min_box_area: Smallest width times height of the box, px.
            crowd: Include crowd regions.

        Returns:
            (K, 2) int64: image position, annotation position; ascending.
        """
        a = self._arrays
        chosen = a["bbox"][:, 2].astype(np.float64) * a["bbox"][:, 3] >= min_box_area
        chosen &= a["unusable"] == 0
        if not crowd:
            chosen &= a["crowd"] == 0
        chosen = np.flatnonzero(chosen)
        owner = np.searchsorted(a["first_annotation"], chosen, side="right") - 1
        return np.stack([owner, chosen], axis=1).astype(np.int64)

    def _instance(self, k: int, size: NDArray[np.int32]) -> Instance:
        a = self._arrays
        start, stop = _span(a["rle_end"], k)
        if stop > start:
            height, width = size.tolist()
            shape: Any = Rle(a["rle"][start:stop].tobytes(), (height, width))
        else:
            spans = (_span(a["point_end"], part) for part in range(*_span(a["part_end"], k)))
            shape = tuple(a["points"][first:last] for first, last in spans)
        x, y, w, h = a["bbox"][k].tolist()
        return Instance(
            annotation_id=_text(a["annotation_ids"], a["annotation_id_end"], k),
            bbox=(x, y, w, h),
            crowd=bool(a["crowd"][k]),
            segmentation=shape,
            unusable=REASONS[a["unusable"][k]],
            lost_parts=int(a["lost_parts"][k]),
        )


def _span(ends: NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return start and stop of entry ``k`` in a packed array."""
    return int(ends[k - 1]) if k else 0, int(ends[k])


def _text(packed: NDArray[np.uint8], ends: NDArray[np.int64], k: int) -> str:
    start, stop = _span(ends, k)
    return packed[start:stop].tobytes().decode()


def rasterise_box(
    instance: Instance, height: int, width: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Draw an instance, the union of its parts, in the smallest box that holds it.

    The pixels are those of pycocotools' ``annToMask``; drawing only the box is several times
    faster.

    Args:
        instance: Polygons or RLE.
        height: Of the image, px.
        width: Of the image, px.

    Returns:
        (h, w) uint8, 0 or 1, C-contiguous, and the (top, left) of the box in the image, px. The
        mask of an instance without pixels has the shape (0, 0).

    Raises:
        DataError: The RLE and the image differ in size.
    """
    shape = instance.segmentation
    if isinstance(shape, Rle):
        if shape.size != (height, width):
            raise DataError(
                f"annotation {instance.annotation_id}: expected an RLE of {width}x{height} px like "
                f"the image, found {shape.size[1]}x{shape.size[0]}; replace one of them"
            )
        counts = shape.counts
    else:
        parts = [part.reshape(-1).astype(np.float64) for part in shape]
        counts = polygon_rle(parts, (height, width))
    return draw_runs(read_runs(counts), height)


def area_with_boundary(instance: Instance, size: tuple[int, int]) -> int:
    """Return the area of an instance in px, as OpenCV fills polygons: the boundary is inside.

    Args:
        instance: Polygons or RLE; an RLE has no boundary besides its own pixels.
        size: (height, width) of the image, px.
    """
    if isinstance(instance.segmentation, Rle):
        return int(np.count_nonzero(rasterise_box(instance, *size)[0]))
    canvas = np.zeros(size, np.uint8)
    for part in instance.segmentation:
        cv2.fillPoly(canvas, [np.round(part).astype(np.int32)], 1)
    return cv2.countNonZero(canvas)
