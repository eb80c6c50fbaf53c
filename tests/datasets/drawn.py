"""Small trees of every form in the table of data sets, drawn from one video of three objects."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.datasets.annotation_files import SAV_STEP, AnnotationFiles
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.image_tree import ImageTree
from stmtrain.datasets.json_set import JsonSet
from stmtrain.images.encode import encode_mask

HEIGHT, WIDTH, LENGTH = 48, 64, 6
Masks = dict[str, dict[int, NDArray[np.bool_]]]
"""Frame name to label in 1..3 to (H, W) bool."""


def objects(t: int) -> dict[int, NDArray[np.bool_]]:
    """Three boxes in frame t: 2 overlaps 1 and is smaller, 3 enters in frame 2."""
    out = {}
    for label, (top, left, height, width) in enumerate(
        ((8, 4 + t, 24, 30), (28, 20, 8, 10 + t), (40, 2, 6, 8)), 1
    ):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + height, left : left + width] = True
        if label < 3 or t >= 2:
            out[label] = mask
    return out


def painted(masks: dict[int, NDArray[np.bool_]], order: str = "smaller") -> NDArray[np.uint8]:
    """Paint the objects so that they overlap by a rule; 2 is the smaller of those that do."""
    out = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label in sorted(masks, reverse=order == "lower"):
        out[masks[label]] = label
    return out


def frame(t: int) -> NDArray[np.uint8]:
    out = np.full((HEIGHT, WIDTH, 3), 90 + 10 * t, np.uint8)
    out[painted(objects(t)) > 0] = (200, 40, 40)
    return out


def draw(dataset: Dataset, root: Path, name: str = "3Zf4NFzn") -> Masks:
    """Draw a tree of a data set with one video; return the objects of its masked frames."""
    if isinstance(dataset.form, ImageTree):
        return _image_tree(dataset.form, root, name)
    if isinstance(dataset.form, JsonSet):
        return _json_set(dataset, root, name)
    assert isinstance(dataset.form, AnnotationFiles)
    return _annotation_file(dataset.name, root, name)


def save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _frames(folder: Path, suffix: str = ".jpg") -> list[str]:
    names = [f"frame_{t:06d}" for t in range(LENGTH)]
    for t, name in enumerate(names):
        save(folder / f"{name}{suffix}", frame(t))
    return names


def _image_tree(form: ImageTree, root: Path, name: str) -> Masks:
    place = {"split": "train", "video": name}
    names = _frames(root / form.frames.format(**place))
    folder = root / form.masks.format(**place)
    if form.lists:
        path = root / form.lists.format(split="train")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    masks = {names[t]: objects(t) for t in range(0, LENGTH, 2)}
    options = getattr(form.open_video, "keywords", {})
    for frame_name, shapes in masks.items():
        if form.overlaps:
            for label, mask in shapes.items():
                save(folder / f"{label:03d}" / f"{frame_name}.png", mask.astype(np.uint8) * 255)
            continue
        labels = painted(shapes)
        if options.get("wide"):
            save(folder / f"{frame_name}.png", labels.astype(np.uint16) * 1001)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{frame_name}.png").write_bytes(encode_mask(labels))
        shapes.update({i: labels == i for i in shapes})
    return masks


def runs(mask: NDArray[np.bool_], order: str = "F") -> list[int]:
    """Return run lengths, zeros first: down the columns, or along the rows with ``"C"``."""
    flat = np.concatenate([[False], mask.ravel(order=order)])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *edges, mask.size]).tolist()


def compressed(lengths: list[int]) -> str:
    """Return COCO's text of run lengths."""
    out = ""
    for i, length in enumerate(lengths):
        rest, more = length - (lengths[i - 2] if i > 2 else 0), True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            out += chr(48 + bits + 32 * more)
    return out


def rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": compressed(runs(mask))}


def _json_set(dataset: Dataset, root: Path, name: str) -> Masks:
    form = dataset.form
    assert isinstance(form, JsonSet)
    path = root / form.annotations[0].format(split="train").replace("*", "P01_01")
    frames = root / form.frames[0].format(split="train", folder="train")
    kind = form.read.__name__.removeprefix("read_")
    folder = {"vis": name, "burst": f"LaSOT/{name}", "visor": "P01/P01_01"}[kind]
    names = _frames(frames / folder, ".png" if dataset.name == "uvo" else ".jpg")
    every = range(LENGTH)
    if kind == "vis":
        suffix = ".png" if dataset.name == "uvo" else ".jpg"
        tracks = [
            {
                "id": 40 + i,
                "video_id": 7,
                "category_id": 1,
                "segmentations": [rle(objects(t)[i]) if i in objects(t) else None for t in every],
            }
            for i in (1, 2, 3)
        ]
        files = [f"{name}/{n}{suffix}" for n in names]
        videos = [{"id": 7, "height": HEIGHT, "width": WIDTH, "file_names": files}]
        save_json(path, {"videos": videos, "annotations": tracks})
        return {n: objects(t) for t, n in enumerate(names)}
    if kind == "burst":
        row = {
            "seq_name": name,
            "dataset": "LaSOT",
            "height": HEIGHT,
            "width": WIDTH,
            "all_image_paths": [f"{n}.jpg" for n in names],
            "annotated_image_paths": [f"{n}.jpg" for n in names[::2]],
            "segmentations": [
                {str(i): {"rle": compressed(runs(m))} for i, m in objects(t).items()}
                for t in every[::2]
            ],
        }
        save_json(path, {"sequences": [row]})
        return {names[t]: objects(t) for t in every[::2]}
    rows = [
        {
            "image": {"name": f"{n}.jpg", "subsequence": name, "video": "P01_01"},
            "annotations": [{"name": f"thing {i}", "segments": [_ring(m), []]}
                            for i, m in objects(t).items()],
        }
        for t, n in enumerate(names)
    ]  # fmt: skip
    save_json(path, {"video_annotations": rows[::-1]})
    return {n: objects(t) for t, n in enumerate(names)}


def _ring(mask: NDArray[np.bool_]) -> list[list[float]]:
    top, left, bottom, right = box(mask)
    return [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]


def box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right) of a mask, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def grey(t: int) -> int:
    """Return the grey of frame t of a drawn video file."""
    return 40 + 45 * (3 * t % 5)


def save_film(path: Path, length: int = 4 * LENGTH) -> None:
    """Write an MP4 with B-frames, whose packets are not in the order of display."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.options = {"bf": "2", "g": "12", "qscale": "2"}
        for t in range(length):
            pixels = np.full((HEIGHT, WIDTH, 3), grey(t), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())


def _annotation_file(layout: str, root: Path, name: str) -> Masks:
    if layout.startswith("sav"):
        save_film(root / "sav_000" / f"{name}.mp4")
        steps = [[rle(objects(t).get(i, np.zeros((HEIGHT, WIDTH), bool))) for i in (1, 2, 3)]
                 for t in range(LENGTH)]  # fmt: skip
        value = {
            "video_frame_count": 4.0 * LENGTH,
            "masklet_id": [0, 1, 2],
            "masklet": steps,
        }
        kind = "auto" if layout.endswith("auto") else "manual"
        save_json(root / "sav_000" / f"{name}_{kind}.json", value)
        return {f"{SAV_STEP * t:05d}": objects(t) for t in range(LENGTH)}
    if layout == "supervisely":
        save_film(root / "ds0/video" / f"{name}.mp4")
        rows = [
            {"index": t, "figures": [_figure(i, m) for i, m in objects(t).items()]}
            for t in range(LENGTH)
        ]
        things = [{"key": f"key{i}", "classTitle": "thing"} for i in (1, 2, 3)]
        value = {"framesCount": 4 * LENGTH, "objects": things, "frames": rows}
        save_json(root / "ds0/ann" / f"{name}.mp4.json", value)
        save_json(root / "meta.json", {})
        return {f"{t:05d}": objects(t) for t in range(LENGTH)}
    names = _frames(root / "images")
    tracks = "".join(
        f'<track id="{i - 1}" label="thing">'
        + "".join(_mask_tag(t, objects(t)[i]) for t in range(LENGTH) if i in objects(t))
        + "</track>"
        for i in (1, 2, 3)
    )
    meta = f"<meta><task><name>{name}</name></task></meta>"
    (root / "annotations.xml").write_text(f"<annotations>{meta}{tracks}</annotations>")
    return {n: objects(t) for t, n in enumerate(names)}


def _mask_tag(t: int, mask: NDArray[np.bool_]) -> str:
    top, left, bottom, right = box(mask)
    text = ", ".join(map(str, runs(mask[top:bottom, left:right], "C")))
    return (
        f'<mask frame="{t}" outside="0" rle="{text}" left="{left}" top="{top}" '
        f'width="{right - left}" height="{bottom - top}"/>'
    )


def _figure(i: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    top, left, bottom, right = box(mask)
    data = io.BytesIO()
    Image.fromarray(mask[top:bottom, left:right]).save(data, "PNG")
    text = base64.b64encode(zlib.compress(data.getvalue())).decode()
    bitmap = {"data": text, "origin": [left, top]}
    return {"objectKey": f"key{i}", "geometry": {"bitmap": bitmap}}
