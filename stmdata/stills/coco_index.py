"""COCO-format JSON (COCO instances, LVIS, custom) to the compact arrays of an index.

:mod:`stmdata.stills.coco_json` parses the file, and :mod:`stmdata.stills.index_file` stores the
arrays. An annotation whose geometry is unusable stays in the index, with the reason.

Arrays (I images in file order; A annotations sorted by image, in file order within it; P parts):

    image_size (I,2) i4 height, width · image_tail (I,) u1 see ``unique_tails``
    image_id_end, name_end (I,) i8 · image_ids, names (UTF-8,) u1
    first_annotation (I+1,) i8 · annotation_id_end (A,) i8 · annotation_ids (UTF-8,) u1
    bbox (A,4) f4 x y w h, px · crowd (A,) u1 · unusable (A,) u1 into ``REASONS``
    lost_parts (A,) u1 number of unusable polygons, at most 255 · part_end (A,) i8 into point_end
    point_end (P,) i8 into points · points (N,2) f4 x, y, px · rle_end (A,) i8 · rle (bytes,) u1
"""

import hashlib
import mmap
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stmdata.stills.coco_json import (
    Annotation,
    Image,
    Polygons,
    RunLengths,
    annotation_name,
    box_of,
    is_crowd,
    owner_of,
    read_annotation,
    read_document,
)
from stmdata.stills.image_path import unique_tails
from stmdata.stills.rle import compress_rle, polygon_rle, round_outline
from stmtrain.errors import DataError
from stmtrain.files import open_regular
from stmtrain.images.rle import draw_runs, read_runs

INDEX_VERSION = 2
_FLUSH = 1 << 20

REASONS = (
    "",
    "annotation without a segmentation",
    "segmentation that is neither polygons nor RLE",
    "polygon of fewer than 3 points",
    "polygon with an odd number of coordinates",
    "polygon far outside its image",
    "RLE of another size than its image",
    "RLE that does not fill its image",
)
"""Why the geometry of an annotation is unusable; the first one means that it is usable."""

_USABLE, _NONE, _UNKNOWN, _SHORT, _ODD, _FAR, _OTHER_SIZE, _NOT_FILLING = range(len(REASONS))


def build_index(annotations: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Parse a COCO-format file; memory grows with the index, not with the parsed JSON.

    Returns:
        What the index was built from (``version``, ``bytes``, ``mtime_ns``, ``sha256``), and the
        arrays by name.

    Raises:
        DataError: The file is not COCO JSON, what identifies an image or its size is missing or
            wrong, or an image is unknown or occurs twice.
    """
    try:
        with open_regular(annotations) as file:
            stat = os.fstat(file.fileno())
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is empty"  # which cannot be mapped
        raise DataError(
            f"{annotations}: expected a COCO annotation file, found none ({reason}); check the "
            "path, or restore the file"
        ) from None
    images, raw = read_document(data, annotations)
    owners = _owners(raw, images, annotations)
    columns = _Columns()
    for k in np.argsort(owners, kind="stable").tolist():
        entry = read_annotation(raw[k], k, annotations)
        columns.add(entry, annotation_name(entry, k), int(owners[k]), images[int(owners[k])])
    arrays = _image_arrays(images) | columns.arrays(len(images))
    info = {
        "version": INDEX_VERSION,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return info, arrays


def _owners(
    annotations: Sequence[msgspec.Raw], images: Sequence[Image], path: Path
) -> NDArray[np.int64]:
    """Return (A,) int64: the position of each annotation's image."""
    position = {image.id: i for i, image in enumerate(images)}
    owners = np.empty(len(annotations), np.int64)
    for k, raw in enumerate(annotations):
        image_id = owner_of(raw, k, path)
        if image_id not in position:
            name = annotation_name(read_annotation(raw, k, path), k)
            raise DataError(
                f"{path}: annotation {name} belongs to image {image_id}, which is not in images; "
                "remove it or add the image"
            )
        owners[k] = position[image_id]
    return owners


def _image_arrays(images: Sequence[Image]) -> dict[str, NDArray[Any]]:
    names = [image.file_name for image in images]
    ids, id_end = _pack([str(image.id) for image in images])
    packed, name_end = _pack(names)
    return {
        "image_size": np.array([(i.height, i.width) for i in images], np.int32).reshape(-1, 2),
        "image_tail": np.array(unique_tails(names), np.uint8),
        "image_ids": ids,
        "image_id_end": id_end,
        "names": packed,
        "name_end": name_end,
    }


def _pack(texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return texts as one row of UTF-8 bytes, and where each of them ends."""
    encoded = [text.encode(errors="replace") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


@dataclass
class _Columns:
    """The annotation arrays while they grow."""

    owner: "array[int]" = field(default_factory=lambda: array("q"))
    ids: bytearray = field(default_factory=bytearray)
    id_end: "array[int]" = field(default_factory=lambda: array("q"))
    bbox: "array[float]" = field(default_factory=lambda: array("f"))
    crowd: bytearray = field(default_factory=bytearray)
    unusable: bytearray = field(default_factory=bytearray)
    lost_parts: bytearray = field(default_factory=bytearray)
    part_end: "array[int]" = field(default_factory=lambda: array("q"))
    point_end: "array[int]" = field(default_factory=lambda: array("q"))
    exact: "array[float]" = field(default_factory=lambda: array("d"))
    points: bytearray = field(default_factory=bytearray)
    rle_end: "array[int]" = field(default_factory=lambda: array("q"))
    rle: bytearray = field(default_factory=bytearray)

    def add(self, entry: Annotation, name: str, owner: int, image: Image) -> None:
        """Append an annotation of the image at position ``owner``."""
        size = (image.height, image.width)
        parts, rle, reason = _geometry(entry.segmentation, size)
        bbox = box_of(entry.bbox)
        if bbox is None:
            bbox = (0.0, 0.0, 0.0, 0.0)
            if reason == _USABLE:
                mask, (top, left) = draw_runs(
                    read_runs(rle or polygon_rle(parts, size)), image.height
                )
                bbox = (left, top, mask.shape[1], mask.shape[0])
        self.owner.append(owner)
        self.ids += name.encode(errors="replace")
        self.id_end.append(len(self.ids))
        self.bbox.extend(bbox)
        self.crowd.append(is_crowd(entry.iscrowd))
        self.unusable.append(reason)
        stated = entry.segmentation
        lost = len(stated) - len(parts) if parts and isinstance(stated, list) else 0
        self.lost_parts.append(min(lost, 255))
        for part in parts:
            self.exact.extend(part)
            self.point_end.append((self.point_end[-1] if self.point_end else 0) + len(part) // 2)
        self.part_end.append(len(self.point_end))
        self.rle += rle
        self.rle_end.append(len(self.rle))
        if len(self.exact) > _FLUSH:
            self._flush()

    def _flush(self) -> None:
        self.points += round_outline(np.frombuffer(self.exact, np.float64)).tobytes()
        self.exact = array("d")

    def arrays(self, images: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the index; call this once, after the last annotation."""
        self._flush()
        first = np.searchsorted(np.frombuffer(self.owner, np.int64), np.arange(images + 1))
        return {
            "first_annotation": first.astype(np.int64),
            "annotation_ids": np.frombuffer(self.ids, np.uint8),
            "annotation_id_end": np.frombuffer(self.id_end, np.int64),
            "bbox": np.frombuffer(self.bbox, np.float32).reshape(-1, 4),
            "crowd": np.frombuffer(self.crowd, np.uint8),
            "unusable": np.frombuffer(self.unusable, np.uint8),
            "lost_parts": np.frombuffer(self.lost_parts, np.uint8),
            "part_end": np.frombuffer(self.part_end, np.int64),
            "point_end": np.frombuffer(self.point_end, np.int64),
            "points": np.frombuffer(self.points, np.float32).reshape(-1, 2),
            "rle_end": np.frombuffer(self.rle_end, np.int64),
            "rle": np.frombuffer(self.rle, np.uint8),
        }


def _geometry(
    shape: Polygons | RunLengths | bool | None, size: tuple[int, int]
) -> tuple[Polygons, bytes, int]:
    """Check a segmentation.

    Args:
        shape: As the file states it.
        size: (height, width) of the image, px.

    Returns:
        The usable polygons, or the compressed RLE, and the position in ``REASONS``; both are empty
        if the annotation is unusable.
    """
    if isinstance(shape, RunLengths):
        rle = compress_rle(shape.counts, shape.size, size)
        if rle is not None:
            return [], rle, _USABLE
        return [], b"", _NOT_FILLING if shape.size == size else _OTHER_SIZE
    if isinstance(shape, bool):
        return [], b"", _UNKNOWN
    if not shape or not any(shape):
        return [], b"", _NONE
    parts = [part for part in shape if len(part) >= 6 and len(part) % 2 == 0]
    if not parts:
        return [], b"", _ODD if any(len(part) % 2 for part in shape) else _SHORT
    # Time and memory of the rasteriser grow with the length of the outline: limit it.
    reach = max(size)
    if min(map(min, parts)) < -reach or max(map(max, parts)) > 2 * reach:
        return [], b"", _FAR
    return parts, b"", _USABLE
