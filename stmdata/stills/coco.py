"""COCO-format annotations as records: images, their instances, and an instance's mask.

``CocoIndex.open`` parses an annotation file once into a compact file of numpy arrays beside it
(``stmdata.stills.coco_index``); every later start and every worker maps that file.
"""

import hashlib
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stmdata.stills.array_file import map_arrays, write_arrays
from stmdata.stills.coco_index import INDEX_VERSION, build_index
from stmdata.stills.rle import draw_runs, polygon_rle, read_runs
from stmtrain.errors import DataError

__all__ = [
    "CocoIndex",
    "ImageRecord",
    "Instance",
    "Rle",
    "find_image",
    "rasterise",
    "rasterise_box",
]

_Index = tuple[dict[str, Any], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class ImageRecord:
    """One image as the annotations name it; sizes in pixels."""

    image_id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Rle:
    """A run-length mask: COCO's compressed counts, and (height, width) in pixels."""

    counts: bytes
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object.

    Attributes:
        annotation_id: The annotation's id in its file.
        category_id: As annotated; 0 where the file has none.
        area: As annotated, px; measured from the mask where the file has none.
        bbox: (x, y, w, h), px; measured from the mask where the file has none.
        crowd: A region of many objects, never to be used as one.
        segmentation: (N, 2) float32 polygons (x, y in px) whose union is the mask, or an RLE.
    """

    annotation_id: int
    category_id: int
    area: float
    bbox: tuple[float, float, float, float]
    crowd: bool
    segmentation: tuple[NDArray[np.float32], ...] | Rle


@dataclass(frozen=True, eq=False)
class CocoIndex:
    """The images and instances of one annotation file, memory-mapped.

    Sent to another process it travels as its path and is mapped again there.

    Attributes:
        path: The annotation file.
        cache: Folder for the index where the annotation file's own folder is read-only.
        sha256: Of the annotation file, hex.
        skipped: Annotations (or parts of them) without usable geometry, a count per reason.
    """

    path: Path
    cache: Path | None
    sha256: str
    skipped: Mapping[str, int]
    _arrays: Mapping[str, NDArray[Any]] = field(repr=False)

    @classmethod
    def open(
        cls, annotations: Path, cache: Path | None = None, log: Callable[[str], None] | None = None
    ) -> Self:
        """Map the index of an annotation file, building it first if it is absent or stale.

        An index is fresh if the annotation file has the size and time that it records, or the
        size and the content. It lies beside the annotations, or in ``cache`` if that is not
        writable.

        Args:
            annotations: COCO-format JSON.
            cache: Folder to fall back to; created when needed.
            log: Called with one line when an index is built.

        Raises:
            DataError: The annotations are unreadable or wrong, or the index has nowhere to go.
        """
        places = _index_places(annotations, cache)
        index = next((index for p in places if (index := _fresh(annotations, p))), None)
        if index is None:
            if log:
                log(f"indexing {annotations}, once")
            index = _write_first(*build_index(annotations), places, annotations)
        info, arrays = index
        return cls(annotations, cache, info["sha256"], info["skipped"], arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call of ``open``."""
        return type(self).open, (self.path, self.cache)

    def forget_pages(self) -> None:
        """Give the memory of what was read back to the system; reading again maps it again.

        A worker that lives through a whole set would come to hold all of a large index.
        """
        buffer = self._arrays["image_id"].base
        if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            buffer.madvise(mmap.MADV_DONTNEED)

    @property
    def images(self) -> int:
        """Number of images, with or without annotations."""
        return len(self._arrays["image_id"])

    @property
    def annotations(self) -> int:
        """Number of usable annotations, crowd regions included."""
        return len(self._arrays["annotation_id"])

    def image(self, i: int) -> ImageRecord:
        """Return the image at position ``i`` in the file's order."""
        a = self._arrays
        start, stop = _span(a["name_end"], i)
        height, width = a["image_size"][i].tolist()
        name = a["names"][start:stop].tobytes().decode()
        return ImageRecord(int(a["image_id"][i]), name, height, width)

    def instances(self, i: int) -> list[Instance]:
        """Return all instances of the image at position ``i``, in the file's order."""
        start, stop = self._arrays["first_annotation"][i : i + 2].tolist()
        size = self._arrays["image_size"][i]
        return [self._instance(k, size) for k in range(start, stop)]

    def instance(self, i: int, annotation: int) -> Instance:
        """Return one instance by its two positions, a row of :meth:`pasteable`."""
        start, stop = self._arrays["first_annotation"][i : i + 2].tolist()
        if not start <= annotation < stop:
            raise IndexError(f"annotation position {annotation} is not of image position {i}")
        return self._instance(annotation, self._arrays["image_size"][i])

    def pasteable(self, min_box_area: float) -> NDArray[np.int64]:
        """Find the single objects whose box is large enough to be pasted elsewhere.

        Args:
            min_box_area: Least width times height of the box, px.

        Returns:
            (K, 2) int64: image position, annotation position; ascending.
        """
        a = self._arrays
        large = a["bbox"][:, 2].astype(np.float64) * a["bbox"][:, 3] >= min_box_area
        chosen = np.flatnonzero(large & (a["crowd"] == 0))
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
            annotation_id=int(a["annotation_id"][k]),
            category_id=int(a["category_id"][k]),
            area=float(a["area"][k]),
            bbox=(x, y, w, h),
            crowd=bool(a["crowd"][k]),
            segmentation=shape,
        )


def _span(ends: NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return where entry ``k`` starts and stops in a packed array."""
    return int(ends[k - 1]) if k else 0, int(ends[k])


def _index_places(annotations: Path, cache: Path | None) -> list[Path]:
    places = [annotations.with_name(annotations.name + ".stmindex")]
    if cache is not None:
        digest = hashlib.sha256(str(annotations.absolute()).encode()).hexdigest()[:16]
        places.append(cache / f"{annotations.stem}-{digest}.stmindex")
    return places


def _fresh(annotations: Path, place: Path) -> _Index | None:
    """Map the index at ``place`` if it is of these annotations."""
    index = map_arrays(place)
    if index is None or index[0].get("version") != INDEX_VERSION:
        return None
    info = index[0]
    try:
        stat = annotations.stat()
        if stat.st_size != info["bytes"]:
            return None
        if stat.st_mtime_ns == info["mtime_ns"]:
            return index
        with annotations.open("rb") as file:  # copied or touched, perhaps not changed
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{annotations}: expected a COCO annotation file ({error})") from None
    return index if digest == info["sha256"] else None


def _write_first(
    info: dict[str, Any], arrays: Mapping[str, NDArray[Any]], places: list[Path], annotations: Path
) -> _Index:
    """Write the index at the first writable place and map it there."""
    refusals = []
    for place in places:
        try:
            if place != places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(place, info, arrays)
        except OSError as error:
            refusals.append(str(error))
            continue
        mapped = map_arrays(place)
        if mapped is not None:
            return mapped
    raise DataError(
        f"{annotations}: its index cannot be written ({'; '.join(refusals)}); make the folder "
        "writable or give a cache folder"
    )


def rasterise(instance: Instance, height: int, width: int) -> NDArray[np.uint8]:
    """Draw an instance at its image's size: the union of its parts, as pycocotools draws it.

    Returns:
        (height, width) uint8, 0 or 1, equal to pycocotools' ``annToMask``.

    Raises:
        DataError: An RLE of another size than the image.
    """
    mask = np.zeros((height, width), np.uint8)
    box, (top, left) = rasterise_box(instance, height, width)
    mask[top : top + box.shape[0], left : left + box.shape[1]] = box
    return mask


def rasterise_box(
    instance: Instance, height: int, width: int
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Draw only the smallest box that holds the instance; several times faster than the image.

    Args:
        instance: Polygons or RLE.
        height: Of the image, px.
        width: Of the image, px.

    Returns:
        (h, w) uint8, 0 or 1, C-contiguous, and the (top, left) of the box in the image, px. An
        instance without a pixel gives a (0, 0) mask.

    Raises:
        DataError: An RLE of another size than the image.
    """
    shape = instance.segmentation
    if isinstance(shape, Rle):
        if shape.size != (height, width):
            raise DataError(
                f"annotation {instance.annotation_id}: RLE is of a {shape.size[1]}x{shape.size[0]} "
                f"image, the image is {width}x{height}; replace the image or the annotation"
            )
        counts = shape.counts
    else:
        parts = [part.reshape(-1).astype(np.float64) for part in shape]
        counts = polygon_rle(parts, (height, width))
    return draw_runs(read_runs(counts), height)


def find_image(images_dir: Path, record: ImageRecord) -> Path:
    """Find an image's file inside the images folder.

    ``file_name`` may hold folders; one that repeats the name of ``images_dir`` may be left out on
    disk, as with LVIS, whose ``train2017/0001.jpg`` lies in COCO's ``train2017``.

    Raises:
        DataError: The name leads out of the folder, or there is no such file.
    """
    name = record.file_name
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or "\0" in name or "\\" in name or PureWindowsPath(name).anchor:
        raise DataError(
            f"image {record.image_id}: file_name {name!r} must be a relative path inside "
            f"{images_dir}; mend the annotations"
        )
    places = [images_dir.joinpath(*parts)]
    if len(parts) > 1 and parts[0] == images_dir.absolute().name:
        places.append(images_dir.joinpath(*parts[1:]))
    try:
        return next(place for place in places if place.is_file())
    except (StopIteration, OSError):
        raise DataError(
            f"{places[0]}: image {record.image_id} is missing; check the images folder"
        ) from None
