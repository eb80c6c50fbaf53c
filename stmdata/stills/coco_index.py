"""COCO-format JSON (COCO instances, LVIS, custom) to the compact arrays of an index.

A wrong structure is an error that names the place; an annotation whose geometry is unusable is
skipped and counted by reason. :mod:`stmdata.stills.index_file` stores the arrays.

Arrays (I images in file order; A annotations sorted by image, in file order within it; P parts):

    image_id (I,) i8 · image_size (I,2) i4 height, width · name_end (I,) i8 · names (bytes,) u1
    first_annotation (I+1,) i8 · annotation_id, category_id (A,) i8 · area (A,) f8 px
    bbox (A,4) f4 x y w h, px · crowd (A,) u1 · part_end (A,) i8 into point_end
    point_end (P,) i8 into points · points (N,2) f4 x y, px · rle_end (A,) i8 · rle (bytes,) u1
"""

import hashlib
import mmap
import os
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from stmdata.stills.rle import compress_rle, draw_runs, polygon_rle, read_runs, round_outline
from stmtrain.errors import DataError

INDEX_VERSION = 1
_FLUSH = 1 << 20

_Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Length = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
_Side = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class _Image(msgspec.Struct, gc=False):
    id: _Id
    height: _Side
    width: _Side
    file_name: str = ""
    coco_url: str = ""


class _Rle(msgspec.Struct, gc=False):
    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(msgspec.Struct, gc=False):
    id: _Id
    image_id: _Id
    segmentation: list[list[float]] | _Rle | None
    category_id: _Id = 0
    area: Annotated[float, msgspec.Meta(ge=0, le=1e12)] | None = None
    bbox: tuple[_Length, _Length, _Length, _Length] | None = None
    iscrowd: int | bool = 0


class _Document(msgspec.Struct):
    """Annotations remain slices of the file, so that a 450 MB file is never all objects at once."""

    images: list[_Image]
    annotations: list[msgspec.Raw]


class _Owner(msgspec.Struct, gc=False):
    image_id: _Id


class _Name(msgspec.Struct, gc=False):
    id: _Id


def build_index(annotations: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Parse a COCO-format file; memory grows with the index, not with the parsed JSON.

    Returns:
        What the index was built from (``version``, ``bytes``, ``mtime_ns``, ``sha256`` and
        ``skipped``, a count per reason), and the arrays by name.

    Raises:
        DataError: The file is not JSON, a key is missing or has the wrong type, or an image is
            unknown or occurs twice.
    """
    try:
        with annotations.open("rb") as file:
            stat = os.fstat(file.fileno())
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise DataError(f"{annotations}: expected a COCO annotation file ({error})") from None
    document = _decode(msgspec.json.Decoder(_Document), data, str(annotations))
    images = document.images
    position = _positions(images, annotations)
    owners = _owners(document.annotations, position, annotations)
    order = np.argsort(owners, kind="stable")
    columns = _Columns()
    decoder = msgspec.json.Decoder(_Annotation)
    for k in order.tolist():
        raw = document.annotations[k]
        entry = _decode(decoder, raw, str(annotations), raw, k)
        columns.add(entry, int(owners[k]), images[int(owners[k])])
    arrays = _image_arrays(images) | columns.arrays(len(images))
    info = {
        "version": INDEX_VERSION,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": hashlib.sha256(data).hexdigest(),
        "skipped": dict(+columns.skipped),
    }
    return info, arrays


def _decode(
    decoder: "msgspec.json.Decoder[Any]",
    data: Any,
    where: str,
    raw: msgspec.Raw | None = None,
    position: int = 0,
) -> Any:
    """Decode and check the types; the error message names the annotation if ``raw`` is one."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if raw is not None:
            try:
                where += f": annotation {msgspec.json.decode(raw, type=_Name).id}"
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                where += f": annotations[{position}]"
        raise DataError(
            f"{where}: expected COCO instances JSON ({error}); correct the file or choose another"
        ) from None


def _positions(images: Sequence[_Image], path: Path) -> dict[int, int]:
    """Map image ids to positions."""
    position = {image.id: i for i, image in enumerate(images)}
    if len(position) != len(images):
        repeated = next(image.id for i, image in enumerate(images) if position[image.id] != i)
        raise DataError(f"{path}: image id {repeated} occurs twice in images; ids must be unique")
    for image in images:
        if not image.file_name and not image.coco_url:
            raise DataError(f'{path}: image {image.id} lacks "file_name" (and "coco_url"); add it')
    return position


def _owners(
    annotations: Sequence[msgspec.Raw], position: Mapping[int, int], path: Path
) -> NDArray[np.int64]:
    """Return (A,) int64: the position of each annotation's image."""
    decoder = msgspec.json.Decoder(_Owner)
    owners = np.empty(len(annotations), np.int64)
    for k, raw in enumerate(annotations):
        image_id = _decode(decoder, raw, str(path), raw, k).image_id
        if image_id not in position:
            name = _decode(msgspec.json.Decoder(_Name), raw, str(path), raw, k).id
            raise DataError(
                f"{path}: annotation {name} belongs to image {image_id}, which is not in images; "
                "remove it or add the image"
            )
        owners[k] = position[image_id]
    return owners


def _image_arrays(images: Sequence[_Image]) -> dict[str, NDArray[Any]]:
    names = [(image.file_name or _url_name(image.coco_url)).encode() for image in images]
    return {
        "image_id": np.array([image.id for image in images], np.int64),
        "image_size": np.array([(i.height, i.width) for i in images], np.int32).reshape(-1, 2),
        "name_end": np.cumsum([len(name) for name in names], dtype=np.int64),
        "names": np.frombuffer(b"".join(names), np.uint8),
    }


def _url_name(url: str) -> str:
    """``http://images.cocodataset.org/train2017/0001.jpg`` gives ``train2017/0001.jpg``."""
    return "/".join(urlsplit(url).path.split("/")[-2:]).lstrip("/")


@dataclass
class _Columns:
    """The annotation arrays while they grow, and the number of skipped annotations by reason."""

    owner: "array[int]" = field(default_factory=lambda: array("q"))
    annotation_id: "array[int]" = field(default_factory=lambda: array("q"))
    category_id: "array[int]" = field(default_factory=lambda: array("q"))
    area: "array[float]" = field(default_factory=lambda: array("d"))
    bbox: "array[float]" = field(default_factory=lambda: array("f"))
    crowd: bytearray = field(default_factory=bytearray)
    part_end: "array[int]" = field(default_factory=lambda: array("q"))
    point_end: "array[int]" = field(default_factory=lambda: array("q"))
    exact: "array[float]" = field(default_factory=lambda: array("d"))
    points: bytearray = field(default_factory=bytearray)
    rle_end: "array[int]" = field(default_factory=lambda: array("q"))
    rle: bytearray = field(default_factory=bytearray)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, entry: _Annotation, owner: int, image: _Image) -> None:
        """Append an annotation, or count the reason to skip it."""
        parts, rle = self._geometry(entry, image)
        if not parts and not rle:
            return
        area, bbox = entry.area, entry.bbox
        if area is None or bbox is None:
            counts = rle or polygon_rle(parts, (image.height, image.width))
            mask, (top, left) = draw_runs(read_runs(counts), image.height)
            area = float(mask.sum()) if area is None else area
            bbox = (left, top, mask.shape[1], mask.shape[0]) if bbox is None else bbox
        self.owner.append(owner)
        self.annotation_id.append(entry.id)
        self.category_id.append(entry.category_id)
        self.area.append(area)
        self.bbox.extend(bbox)
        self.crowd.append(bool(entry.iscrowd))
        for part in parts:
            self.exact.extend(part)
            self.point_end.append((self.point_end[-1] if self.point_end else 0) + len(part) // 2)
        self.part_end.append(len(self.point_end))
        self.rle += rle
        self.rle_end.append(len(self.rle))
        if len(self.exact) > _FLUSH:
            self._flush()

    def _geometry(self, entry: _Annotation, image: _Image) -> tuple[list[list[float]], bytes]:
        """Return the usable polygon parts, or the compressed RLE; both empty if unusable."""
        shape = entry.segmentation
        if isinstance(shape, _Rle):
            rle = compress_rle(shape.counts, shape.size, (image.height, image.width))
            if rle is None:
                self.skipped["annotation: RLE does not fill its image"] += 1
                return [], b""
            return [], rle
        parts = [part for part in shape or () if len(part) >= 6 and len(part) % 2 == 0]
        if not parts:
            self.skipped["annotation: degenerate polygon"] += 1
            return [], b""
        self.skipped["part of an annotation: degenerate polygon"] += len(shape or ()) - len(parts)
        # Time and memory of the rasteriser grow with the length of the outline: limit it.
        reach = max(image.height, image.width)
        if min(map(min, parts)) < -reach or max(map(max, parts)) > 2 * reach:
            self.skipped["annotation: polygon far outside its image"] += 1
            return [], b""
        return parts, b""

    def _flush(self) -> None:
        self.points += round_outline(np.frombuffer(self.exact, np.float64)).tobytes()
        self.exact = array("d")

    def arrays(self, images: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the index; call this once, after the last annotation."""
        self._flush()
        first = np.searchsorted(np.frombuffer(self.owner, np.int64), np.arange(images + 1))
        return {
            "first_annotation": first.astype(np.int64),
            "annotation_id": np.frombuffer(self.annotation_id, np.int64),
            "category_id": np.frombuffer(self.category_id, np.int64),
            "area": np.frombuffer(self.area, np.float64),
            "bbox": np.frombuffer(self.bbox, np.float32).reshape(-1, 4),
            "crowd": np.frombuffer(self.crowd, np.uint8),
            "part_end": np.frombuffer(self.part_end, np.int64),
            "point_end": np.frombuffer(self.point_end, np.int64),
            "points": np.frombuffer(self.points, np.float32).reshape(-1, 2),
            "rle_end": np.frombuffer(self.rle_end, np.int64),
            "rle": np.frombuffer(self.rle, np.uint8),
        }
