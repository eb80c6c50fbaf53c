"""Videos with an annotation file each: SA-V, Supervisely, CVAT for video."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stmtrain.datasets.files import FRAME_SUFFIXES, list_images, video_folders
from stmtrain.datasets.ids import ObjectId, keep_or_shift, rank
from stmtrain.datasets.json_set import MALFORMED, load_json
from stmtrain.datasets.listing import Entry, Listing
from stmtrain.datasets.shapes import Shape, draw_bitmap, draw_boxed_runs, draw_segment
from stmtrain.datasets.video import FilmFrame, Video
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file

SAV_STEP = 4
"""SA-V has 24 frames a second, and masks six times a second."""

FILM_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")

_MOST_FRAMES = 1_000_000
"""More frames than any annotated video has; a larger number is a damaged file."""


@dataclass(frozen=True)
class AnnotationFiles:
    """A file of annotations for each video.

    Attributes:
        files: Where the files are below the root, with ``*``, and ``{split}`` if folders of the
            root are splits; the first pattern that any file matches counts.
        open_video: Opens the video of a file.
        split: The split of all videos, where the folders are not splits.
        suffix: What the file's name has after that of its video, a regular expression; empty if
            the video has the name of the folder.
        films: Folder of the video files, relative to that of the annotations; empty for images.
        overlaps: Whether objects can overlap.
    """

    files: tuple[str, ...]
    open_video: Callable[[Path], Video]
    split: str = ""
    suffix: str = ""
    films: str = ""
    overlaps: bool = True

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the folders that have annotations, or the one split; see :class:`Form`."""
        if "{split}" not in self.files[0]:
            return (self.split,)
        found = [s for s in video_folders(root) if next(root.glob(self._pattern(0, s)), None)]
        if not found:
            raise DataError(
                f"{root / self.files[0].format(split='DATASET')}: expected annotations, found none;"
                " check the folder, or name another --layout"
            )
        return tuple(found)

    def listing(self, root: Path, split: str) -> Listing:
        """List the videos that have an annotation file; see :class:`Form`."""
        if self.split and split != self.split:
            raise UsageError(
                f"split: these annotations are of {self.split!r} only, found {split!r}"
            )
        for i in range(len(self.files)):
            paths = sorted(root.glob(self._pattern(i, split)))
            if paths:
                break
        else:
            raise DataError(
                f"{root / self._pattern(0, split)}: expected files of annotations, found none; "
                "check the folder, or name another --layout"
            )
        entries = [Entry(self._name(p), split, partial(self.open_video, p)) for p in paths]
        return Listing(tuple(entries), self._without(paths))

    def _pattern(self, number: int, split: str) -> str:
        return self.files[number].format(split=split)

    def _name(self, path: Path) -> str:
        return re.sub(f"{self.suffix}$", "", path.name) if self.suffix else path.parent.name

    def _without(self, paths: list[Path]) -> dict[str, str]:
        """Return the video files without an annotation file, with that reason."""
        if not self.films:
            return {}
        annotated = {path.parent / self.films / self._name(path) for path in paths}
        found = {
            film.with_suffix("")
            for folder in {film.parent for film in annotated}
            for film in folder.glob("*.*")
            if film.suffix.lower() in FILM_SUFFIXES
        }
        return dict.fromkeys(sorted(film.name for film in found - annotated), "has no annotations")


def _open(path: Path, read: Callable[[Path, Any], Video], value: Any) -> Video:
    """Call a reader and turn what a malformed file raises into one line."""
    try:
        return read(path, value)
    except MALFORMED as error:
        raise DataError(
            f"{path}: is not an annotation as expected ({error!r}); use the original file"
        ) from None


def _film_frames(path: Path, film: Path, count: int) -> dict[str, FilmFrame]:
    """Name the frames of a video file as its authors' extraction does: 00000, 00001, ..."""
    if not 0 < count <= _MOST_FRAMES:
        raise DataError(f"{path}: expected a number of frames, found {count}; use another file")
    if not film.is_file():
        raise DataError(
            f"{path}: expected its video {film}, found none; add it, or leave the video out"
        )
    return {f"{t:05d}": FilmFrame(film, t) for t in range(count)}


# --- SA-V -----------------------------------------------------------------------------------------


def open_sav(path: Path) -> Video:
    """Open a video of SA-V's training set: an MP4, and a JSON of one RLE per object and step."""
    return _open(path, _read_sav, load_json(path))


def _read_sav(path: Path, value: Mapping[str, Any]) -> Video:
    name = re.sub(r"_(manual|auto)\.json$", "", path.name)
    frames = _film_frames(path, path.with_name(f"{name}.mp4"), int(value["video_frame_count"]))
    ids = [int(i) for i in value["masklet_id"]]
    masks: dict[str, Mapping[ObjectId, Shape]] = {}
    for step, row in enumerate(value["masklet"]):
        masks[f"{SAV_STEP * step:05d}"] = {
            object_id: partial(draw_segment, segment)
            for object_id, segment in zip(ids, row, strict=True)
            if segment is not None
        }
    beyond = [frame for frame in masks if frame not in frames]
    if beyond:
        raise DataError(
            f"{path}: has masks of {len(masks)} steps, the last in frame {beyond[-1]}, for a video "
            f"of {len(frames)} frames; use the original file"
        )
    return Video(name, frames, masks, id_map=keep_or_shift(ids), sources=(path,), where=str(path))


# --- Supervisely ----------------------------------------------------------------------------------


def open_supervisely(path: Path) -> Video:
    """Open a video of a Supervisely project: figures of objects in the frames that are listed.

    A frame that is not listed may be empty or not looked at; it counts as not annotated.
    """
    return _open(path, _read_supervisely, load_json(path))


def _read_supervisely(path: Path, value: Mapping[str, Any]) -> Video:
    file = path.name.removesuffix(".json")
    film = path.parent.parent / "video" / file
    frames = _film_frames(path, film, int(value["framesCount"]))
    others = 0
    masks: dict[str, dict[ObjectId, Shape]] = {}
    for row in sorted(value["frames"], key=lambda row: int(row["index"])):
        name = f"{int(row['index']):05d}"
        if name not in frames:
            raise DataError(
                f"{path}: has masks in frame {name}, for a video of {len(frames)} frames; use the "
                "original file"
            )
        shapes = masks.setdefault(name, {})
        for figure in row["figures"]:
            bitmap = figure["geometry"].get("bitmap")
            if bitmap is None:
                others += 1
                continue
            x, y = (int(side) for side in bitmap["origin"])
            shapes[str(figure["objectKey"])] = partial(draw_bitmap, bitmap["data"], (x, y))
    keys = [str(found["key"]) for found in value["objects"]]
    titles = {str(found["key"]): found.get("classTitle") for found in value["objects"]}
    return Video(
        film.stem,
        frames,
        masks,
        id_map=rank(keys),
        origin={"categories": titles},
        notes=(f"{others} figures are no bitmaps, left out",) if others else (),
        sources=(path,),
        where=str(path),
    )


# --- CVAT for video -------------------------------------------------------------------------------


def open_cvat(path: Path) -> Video:
    """Open ``annotations.xml`` of CVAT for video 1.1, with its frames in ``images``.

    Tracks state every frame in which an object is in view, so that all frames are annotated.
    """
    data = read_file(path)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError(f"{path}: expected XML of CVAT, found entities; use the original file")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: expected XML ({error}); use the original file") from None
    return _open(path, _read_cvat, root)


def _read_cvat(path: Path, root: ElementTree.Element) -> Video:
    frames = list_images(path.parent / "images", FRAME_SUFFIXES)
    names = list(frames)
    masks: dict[str, dict[ObjectId, Shape]] = {name: {} for name in names}
    labels, others = {}, 0
    for track in root.iter("track"):
        object_id = int(track.attrib["id"])
        labels[object_id] = track.attrib.get("label")
        others += sum(found.tag != "mask" for found in track)
        for found in track.iter("mask"):
            if found.attrib.get("outside") == "1":
                continue
            left, top, width, height = (
                int(found.attrib[side]) for side in ("left", "top", "width", "height")
            )
            draw = partial(draw_boxed_runs, found.attrib["rle"], (left, top, width, height))
            number = int(found.attrib["frame"])
            if not 0 <= number < len(names):
                raise DataError(
                    f"{path}: track {object_id} has a mask in frame {number}, expected 0 to "
                    f"{len(names) - 1}, the frames in {path.parent / 'images'}; add the frames"
                )
            masks[names[number]][object_id] = draw
    if not any(masks.values()):
        if others:
            raise DataError(
                f"{path}: expected tracks of masks, found {others} other shapes; convert these to "
                "masks in CVAT, or export as MOTS PNG (--layout cvat-mots)"
            )
        raise DataError(
            f"{path}: expected tracks of masks, found none; annotate tracks, not single shapes, "
            "and export as CVAT for video 1.1"
        )
    name = (root.findtext("./meta/task/name") or path.parent.resolve().name).strip()
    return Video(
        name,
        frames,
        masks,
        id_map=keep_or_shift(labels),
        origin={"categories": {str(i): label for i, label in labels.items()}},
        notes=(f"{others} shapes are no masks, left out",) if others else (),
        sources=(path,),
        where=str(path),
    )
