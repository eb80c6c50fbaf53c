"""COCO-format JSON as annotation tools write it, and not only as COCO does.

What decides nothing may be of any type; ids and sizes may be numbers or text, as VIA, FiftyOne and
pandas write them. What decides pixels is read strictly.
"""

import codecs
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from stmtrain.errors import DataError
from stmtrain.files import refuse_lfs_pointer

Polygons = list[list[float]]
ImageId = int | str

_NUMBER = re.compile(r"(-?[0-9]{1,40})(\.0*)?")
_LARGEST_ID = 10**40
_LONGEST_SIDE = 65_535
_NO = frozenset({"", "0", "0.0", "false", "no", "none", "null", "nan"})
_FORMATS = {  # what only such a file contains, and what to do
    b"\x1f\x8b\x08": "a gzip file; unpack it",
    b"PK\x03\x04": "a zip file; unpack it",
    b'"videos"': "annotations of videos, in the style of YouTube-VIS",
    b'"_via_': "a VIA project; in VIA, export the annotations as COCO",
    b'"original_width"': "an export of Label Studio; export the annotations as COCO there",
    b'"shapes"': "a labelme file; convert the labelme files with labelme2coco",
}


class Image(msgspec.Struct, gc=False):
    """An image; sizes in pixels."""

    id: ImageId
    height: int
    width: int
    file_name: str


class RunLengths(msgspec.Struct, gc=False):
    """An RLE as the file states it: (height, width), and compressed or plain run lengths."""

    size: tuple[int, int]
    counts: str | list[int]


class Annotation(msgspec.Struct, gc=False):
    """An annotation; ``segmentation`` is ``False`` where its form is unknown."""

    id: Any = None
    segmentation: Polygons | RunLengths | bool | None = None
    bbox: Any = None
    iscrowd: Any = None


class _AnyAnnotation(msgspec.Struct, gc=False):
    id: Any = None
    segmentation: Any = None
    bbox: Any = None
    iscrowd: Any = None


class _AnyImage(msgspec.Struct, gc=False):
    id: Any = None
    height: Any = None
    width: Any = None
    file_name: Any = None
    coco_url: Any = None


class _Document(msgspec.Struct):
    """Annotations remain slices of the file, so that a 450 MB file is never all objects at once."""

    images: list[_AnyImage]
    annotations: list[msgspec.Raw]


class _Owner(msgspec.Struct, gc=False):
    image_id: Any = None


_DOCUMENT, _OWNER = msgspec.json.Decoder(_Document), msgspec.json.Decoder(_Owner)
_ANNOTATION = msgspec.json.Decoder(Annotation)
_ANY_ANNOTATION = msgspec.json.Decoder(_AnyAnnotation)


def read_document(data: Any, path: Path) -> tuple[list[Image], list[msgspec.Raw]]:
    """Parse the images of a file, and find its annotations.

    Args:
        data: The bytes of the file, or their buffer.
        path: The file; opens the error messages.

    Raises:
        DataError: It is not COCO JSON; an image has no id, size or name, or an id occurs twice.
    """
    refuse_lfs_pointer(data[:50], path)
    document = _decode_document(data, path)
    images = [_image(entry, i, path) for i, entry in enumerate(document.images)]
    seen: set[ImageId] = set()
    for image in images:
        if image.id in seen:
            raise DataError(
                f"{path}: image id {image.id} occurs twice in images; give each image its own id"
            )
        seen.add(image.id)
    return images, document.annotations


def owner_of(raw: msgspec.Raw, position: int, path: Path) -> ImageId:
    """Return the id of the image of the annotation at ``position``."""
    try:
        image_id = parse_id(_OWNER.decode(raw).image_id)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: annotations[{position}]: {error}; correct the file") from None
    if image_id is None:
        name = annotation_name(read_annotation(raw, position, path), position)
        raise DataError(f'{path}: annotation {name} has no "image_id"; add it, or remove it')
    return image_id


def read_annotation(raw: msgspec.Raw, position: int, path: Path) -> Annotation:
    """Parse one annotation; a flat list of numbers is one polygon, as VIA writes it.

    Raises:
        DataError: It is not a JSON object.
    """
    try:
        return _ANNOTATION.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        loose = _ANY_ANNOTATION.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: annotations[{position}]: {error}; correct the file") from None
    shape = loose.segmentation
    if isinstance(shape, list) and shape and not isinstance(shape[0], list | dict):
        shape = [shape]
    try:  # text and whole floats become numbers
        known = msgspec.convert(shape or None, Polygons | RunLengths | None, strict=False)
    except msgspec.ValidationError:
        known = False
    return Annotation(loose.id, known, loose.bbox, loose.iscrowd)


def annotation_name(annotation: Annotation, position: int) -> str:
    """Return the annotation's id, or its position where it has none."""
    found = parse_id(annotation.id)
    return f"[{position}]" if found is None else str(found)


def is_crowd(value: Any) -> bool:
    """Interpret ``iscrowd``: a number, a truth value, their text, or nothing."""
    if isinstance(value, str):
        return value.strip().lower() not in _NO
    return isinstance(value, int | float) and value != 0


def box_of(value: Any) -> tuple[float, float, float, float] | None:
    """Return an annotated (x, y, w, h), px, if it is one; it may be anything."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(number, int | float) and abs(number) <= 1e6 for number in value):
        return None
    x, y, w, h = map(float, value)
    return (x, y, w, h) if w >= 1 and h >= 1 else None


def parse_id(value: Any) -> ImageId | None:
    """Return an id as a number if it is a whole one of at most 40 digits, else as text.

    Example:
        >>> parse_id("7"), parse_id(7.0), parse_id("2f1c-77aa"), parse_id(None)
        (7, 7, '2f1c-77aa', None)
    """
    if isinstance(value, float):
        value = int(value) if value.is_integer() else str(value)
    if isinstance(value, int):
        return value if abs(value) < _LARGEST_ID else str(value)
    if not isinstance(value, str):
        return None
    number = _NUMBER.fullmatch(value)
    return int(number[1]) if number else value or None


def _decode_document(data: Any, path: Path) -> _Document:
    start = len(codecs.BOM_UTF8) if data[:3] == codecs.BOM_UTF8 else 0
    view = memoryview(data)[start:]
    try:
        try:
            return _DOCUMENT.decode(view)
        except msgspec.ValidationError:
            raise
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's parser takes what others write: NaN (pandas), UTF-16 (PowerShell).
            return _DOCUMENT.decode(msgspec.json.encode(json.loads(bytes(data))))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        found = next((what for key, what in _FORMATS.items() if data.find(key) >= 0), None)
        what = f"found {found}" if found else f"{error}; correct the file or choose another"
        raise DataError(f"{path}: expected COCO instances JSON, {what}") from None


def _image(entry: _AnyImage, position: int, path: Path) -> Image:
    image_id = parse_id(entry.id)
    if image_id is None:
        raise DataError(f'{path}: images[{position}] has no "id"; add it')
    height, width = parse_id(entry.height), parse_id(entry.width)
    for name, side, stated in (("height", height, entry.height), ("width", width, entry.width)):
        if not isinstance(side, int) or not 1 <= side <= _LONGEST_SIDE:
            raise DataError(
                f'{path}: image {image_id}: expected "{name}" to be 1 to {_LONGEST_SIDE} pixels, '
                f"found {stated!r}; state the size of the image file"
            )
    file_name = entry.file_name or _url_name(entry.coco_url)
    if not isinstance(file_name, str) or not file_name:
        raise DataError(f'{path}: image {image_id} lacks "file_name" (and "coco_url"); add it')
    assert isinstance(height, int)
    assert isinstance(width, int)
    return Image(image_id, height, width, file_name)


def _url_name(url: Any) -> str:
    """``http://images.cocodataset.org/train2017/0001.jpg`` gives ``train2017/0001.jpg``."""
    path = urlsplit(url).path if isinstance(url, str) else ""
    return "/".join(path.split("/")[-2:]).lstrip("/")
