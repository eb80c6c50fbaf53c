"""Small data sets drawn from a seed: COCO, DAVIS and YouTube-VOS trees for the tests and the demo.

Each tree has the layout of the published one, including its quirks. The pictures come from
``stmdata.drawn.scenes``; equal arguments give equal bytes.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmdata.drawn.scenes import TEXTURES, Blob, ToyScene, draw_scene, draw_video
from stmtrain.images.encode import encode_mask
from stmtrain.images.masks import VOID, ids_present

Bytes = NDArray[np.uint8]

_CATEGORY_IDS = (1, 3, 17, 90)
"""Ids of the textures, with gaps between them as in COCO."""
_CROWD = 99
_MASK_STRIDE = 5
"""YouTube-VOS has a mask on every fifth frame."""


def draw_coco(
    root: Path, images: int = 12, size: tuple[int, int] = (240, 320), seed: int = 0
) -> Path:
    """Draw ``train2017/*.jpg`` and ``annotations/instances_train2017.json``; return ``root``.

    Image i is of kind i mod 6: 0 polygons; 1 an object in two polygons; 2 an object in compressed
    RLE; 3 a crowd in uncompressed RLE; 4 a grey image; 5 an image without annotations. Odd images
    are upright (height and width exchanged).

    Args:
        root: Folder to fill; ``train2017`` must not exist in it yet.
        images: Number of images.
        size: (height, width), pixels; objects are 30 to 56 % of the short side wide.
        seed: Equal seeds give equal pictures.
    """
    folder = root / "train2017"
    folder.mkdir(parents=True)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(images):
        rng = np.random.default_rng([seed, 0, i])
        height, width = size if i % 2 == 0 else size[::-1]
        picture, found = _coco_image(rng, i % 6, (height, width))
        number, name = 37 * (i + 1), f"{37 * (i + 1):012d}.jpg"
        records.append({"id": number, "file_name": name, "height": height, "width": width})
        (folder / name).write_bytes(_encode(picture, "L" if i % 6 == 4 else "RGB", "JPEG"))
        for entry in found:
            annotations.append({"id": 1000 + len(annotations), "image_id": number} | entry)
    names = dict(zip(_CATEGORY_IDS, TEXTURES, strict=True)) | {_CROWD: "crowd"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    value = {"images": records, "annotations": annotations, "categories": categories}
    _write_json(root / "annotations" / "instances_train2017.json", value)
    return root


def draw_davis(
    root: Path,
    year: int = 2017,
    videos: int = 3,
    frames: int = 8,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
    *,
    val: int = 1,
    objects: tuple[int, int] = (1, 3),
    ids: Sequence[int] = (1, 2, 3),
    void: bool = False,
) -> Path:
    """Draw a DAVIS tree, with frames, masks and ``ImageSets/<year>``; return ``root``.

    The folders are named 480p at any size. The 2016 style has one object per video in grey masks of
    0 and 255, and the last mask of the first video has an alpha channel, like one real file. The
    2017 style has palette masks of object ids.

    Args:
        root: Folder to fill; the videos must not exist in it yet.
        year: 2016 or 2017.
        videos: Number of videos; the last ``val`` of them are the val split, the others train.
        frames: Frames per video.
        size: (height, width), pixels.
        seed: Equal seeds give equal pictures.
        val: Videos in the val split.
        objects: Smallest and largest number of objects of a 2017-style video; the videos cycle
            through the range.
        ids: Object ids to use, as many as the largest number of objects; (1, 4, 9) leaves gaps.
        void: Draw the outlines of the objects as void (255).
    """
    names = [f"drawn-{i:02d}" for i in range(videos)]
    for i, name in enumerate(names):
        rng = np.random.default_rng([seed, 1, i])
        count = 1 if year == 2016 else objects[0] + i % (objects[1] - objects[0] + 1)
        pictures, slots = draw_video(rng, frames=frames, size=size, objects=count)
        masks = np.array([0, *ids], np.uint8)[slots]
        if void:
            masks = np.where(_outline(masks), np.uint8(VOID), masks)
        _write_frames(root / "JPEGImages" / "480p" / name, pictures)
        encoded = {t: encode_mask(mask) for t, mask in enumerate(masks)}
        if year == 2016:
            grey = np.where(slots > 0, np.uint8(255), np.uint8(0))
            encoded = {t: _encode(mask, "L", "PNG") for t, mask in enumerate(grey)}
            if i == 0:
                encoded[frames - 1] = _encode(grey[-1], "LA", "PNG")
        _write_files(root / "Annotations" / "480p" / name, "png", encoded)
    lists = root / "ImageSets" / str(year)
    lists.mkdir(parents=True)
    for split, members in (("train", names[: videos - val]), ("val", names[videos - val :])):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in members))
    return root


def draw_youtube_vos(
    root: Path,
    train: int = 2,
    valid: int = 1,
    frames: int = 13,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
) -> Path:
    """Draw a YouTube-VOS tree with the splits ``train`` and ``valid``; return ``root``.

    Videos have three or two objects in turn, with ids 1, 3 and 4; the last object enters late.
    ``train`` has a mask on every fifth frame. In ``valid`` only the frames in which an object first
    appears have a mask, and it shows that object alone. ``meta.json`` lists for each object the
    frames whose mask shows it (train), or those to be exported (valid).

    ``train`` and ``valid`` are the numbers of videos; an object can only be late in 6 or more
    ``frames``. The other arguments are those of :func:`draw_davis`.
    """
    for stream, (split, videos) in enumerate((("train", train), ("valid", valid)), start=2):
        record: dict[str, Any] = {}
        for i in range(videos):
            rng = np.random.default_rng([seed, stream, i])
            name = f"{rng.integers(2**40):010x}"
            count = 3 - i % 2
            late = {count: _MASK_STRIDE * min(2, (frames - 1) // _MASK_STRIDE)}
            pictures, slots = draw_video(rng, frames=frames, size=size, objects=count, enters=late)
            every = np.array([0, 1, 3, 4], np.uint8)[slots]
            masks = {t: every[t] for t in range(0, frames, _MASK_STRIDE)}
            record[name] = {"objects": _listed_frames(masks, exported=split == "valid")}
            if split == "valid":
                masks = _first_masks(masks)
            _write_frames(root / split / "JPEGImages" / name, pictures)
            encoded = {t: encode_mask(mask) for t, mask in masks.items()}
            _write_files(root / split / "Annotations" / name, "png", encoded)
        _write_json(root / split / "meta.json", {"videos": record})
    return root


def _coco_image(
    rng: np.random.Generator, kind: int, size: tuple[int, int]
) -> tuple[Bytes, list[dict[str, Any]]]:
    """Draw an image (H, W, 3) uint8 RGB of one kind (see ``draw_coco``) and its annotations."""
    count = 0 if kind == 5 else int(rng.integers(1, 4))
    scene = draw_scene(rng, size, count)
    groups = [[blob] for blob in scene.blobs]
    if kind == 1:
        groups[0] = _in_two(groups[0][0])
    if kind == 3:
        groups.append(_crowd(rng, size))
    blobs = tuple(blob for group in groups for blob in group)
    picture, _ = ToyScene(scene.colours, scene.waves, blobs).render(size)
    return picture, [
        _annotation(group, size, crowd=kind == 3 and number == count, rle=kind == 2 and number == 0)
        for number, group in enumerate(groups)
    ]


def _in_two(blob: Blob) -> list[Blob]:
    """Return two smaller blobs of the same appearance, apart from each other."""
    radius = 0.6 * blob.radius
    shift = np.array([blob.radius * 0.75, 0], np.float32)
    return [replace(blob, radius=radius, middle=blob.middle + side * shift) for side in (-1, 1)]


def _crowd(rng: np.random.Generator, size: tuple[int, int]) -> list[Blob]:
    """Return five small blobs of one appearance in a row."""
    first = draw_scene(rng, size, 1).blobs[0]
    extent = np.array(size[::-1], np.float32) / min(size)
    places = [extent * (0.15 + 0.17 * i, 0.85) for i in range(5)]
    still = replace(first, reach=np.zeros(2, np.float32), radius=0.07)
    return [replace(still, middle=place.astype(np.float32)) for place in places]


def _annotation(
    blobs: Sequence[Blob], size: tuple[int, int], *, crowd: bool, rle: bool
) -> dict[str, Any]:
    """Return one COCO annotation (without its ids) that covers ``blobs``."""
    from pycocotools.mask import encode  # only here: the lean install draws videos without it

    mask = np.any([blob.paint(size, 0)[0] > 0.5 for blob in blobs], axis=0)
    polygons = [blob.polygon(size) for blob in blobs]
    counts = _run_lengths(mask)
    segmentation: Any = [[round(float(v), 2) for v in polygon.ravel()] for polygon in polygons]
    if crowd:
        segmentation = {"counts": counts, "size": list(size)}
    elif rle:
        segmentation = {
            "counts": encode(np.asfortranarray(mask, np.uint8))["counts"].decode(),
            "size": size,
        }
    points = np.concatenate(polygons)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    return {
        "category_id": _CROWD if crowd else _CATEGORY_IDS[blobs[0].texture],
        "iscrowd": int(crowd),
        "area": float(mask.sum()),
        "bbox": [round(float(v), 2) for v in (x0, y0, x1 - x0, y1 - y0)],
        "segmentation": segmentation,
    }


def _run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed counts: runs of 0, 1, 0, ... down the columns."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()  # type: ignore[no-any-return]


def _outline(masks: Bytes) -> NDArray[np.bool_]:
    """Return (T, H, W) bool: pixels whose right or lower neighbour has another label."""
    out = np.zeros(masks.shape, bool)
    out[:, :-1] |= masks[:, :-1] != masks[:, 1:]
    out[:, :, :-1] |= masks[:, :, :-1] != masks[:, :, 1:]
    return out


def _listed_frames(masks: Mapping[int, Bytes], *, exported: bool) -> dict[str, Any]:
    """Return the objects of one video in ``meta.json``."""
    out: dict[str, Any] = {}
    for number in sorted({i for mask in masks.values() for i in ids_present(mask)}):
        shown = [t for t, mask in masks.items() if (mask == number).any()]
        listed = [t for t in masks if t >= shown[0]] if exported else shown
        out[str(number)] = {"category": "blob", "frames": [f"{t:05d}" for t in listed]}
    return out


def _first_masks(masks: Mapping[int, Bytes]) -> dict[int, Bytes]:
    """Keep each object only in the frame in which it first appears, and drop empty masks."""
    known: set[int] = set()
    out: dict[int, Bytes] = {}
    for t, mask in masks.items():
        new = set(ids_present(mask)) - known
        if new:
            out[t] = np.where(np.isin(mask, list(new)), mask, np.uint8(0))
        known |= new
    return out


def _encode(picture: Bytes, mode: str, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, kind, quality=92)  # PNG has no quality
    return out.getvalue()


def _write_frames(folder: Path, pictures: Bytes) -> None:
    encoded = {t: _encode(picture, "RGB", "JPEG") for t, picture in enumerate(pictures)}
    _write_files(folder, "jpg", encoded)


def _write_files(folder: Path, ending: str, files: Mapping[int, bytes]) -> None:
    folder.mkdir(parents=True)
    for t, data in files.items():
        (folder / f"{t:05d}.{ending}").write_bytes(data)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
