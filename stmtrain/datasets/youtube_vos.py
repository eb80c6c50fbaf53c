"""YouTube-VOS as distributed: a folder per split, whose ``meta.json`` lists objects and frames.

A tree that is incomplete or contradicts itself is refused with the name of the missing file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stmtrain.datasets.files import find_folder, pair_files, plain_name, some, video_folders
from stmtrain.datasets.listing import Entry, Listing, in_order
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.masks import MAX_OBJECT_ID

ALL_FRAMES = "_all_frames"
"""Suffix of the folder that holds a split's frames at the videos' own frame rate."""


@dataclass(frozen=True)
class YoutubeVosTree:
    """A YouTube-VOS tree: a folder of each split with ``JPEGImages`` and ``Annotations``.

    ``meta.json`` lists its videos and objects. Without it nothing is known of the videos but their
    masks.
    """

    overlaps: bool = False

    def splits(self, root: Path) -> tuple[str, ...]:
        """Return the folders that have frames and masks; see :class:`Form`."""
        if not root.is_dir():
            find_folder(root, "train", "JPEGImages")
        folders = ("JPEGImages", "Annotations")
        found = {n for n in video_folders(root) if all((root / n / f).is_dir() for f in folders)}
        if not found:
            find_folder(root, "train", "JPEGImages")
        return in_order(found)

    def listing(self, root: Path, split: str) -> Listing:
        """List the videos of a split in the order of their names.

        Not every frame has a mask: in ``valid`` only those have one in which an object first
        appears.

        Args:
            root: The folder that holds the splits.
            split: ``train``, ``valid`` or ``test``. ``valid_all_frames`` and the like take masks
                and ``meta.json`` from ``valid`` if they have none of their own.

        Raises:
            DataError: A folder is missing, or ``meta.json`` is not of the expected form.
        """
        own, base = root / split, root / split.removesuffix(ALL_FRAMES)
        frames = find_folder(root, split, "JPEGImages")
        masks = own / "Annotations"
        if not masks.is_dir():
            masks = find_folder(root, base.name, "Annotations")
        found = video_folders(frames)
        meta = own / "meta.json" if (own / "meta.json").is_file() else base / "meta.json"
        listed = read_meta(meta) if meta.is_file() else None
        if listed is None:
            opened = {n: partial(_video_of_masks, frames / n, masks / n) for n in found}
        else:
            filled = [n for n in found if n in listed or any((frames / n).iterdir())]
            opened = {
                n: partial(_open, frames, masks, n, listed.get(n), meta)
                for n in sorted({*listed, *filled})
            }
        return Listing(tuple(Entry(name, split, open_) for name, open_ in opened.items()))


def _open(frames: Path, masks: Path, name: str, stated: Any, meta: Path) -> Video:
    plain_name(name, str(meta))
    if stated is None:
        raise DataError(
            f"{frames / name}: expected only videos of {meta}, which does not list this one; use "
            "the meta.json that lists it, or remove it"
        )
    objects = read_objects(stated, f"{meta}: video {name!r}")
    return _video(frames / name, masks / name, objects, meta)


@dataclass(frozen=True)
class ListedObject:
    """What ``meta.json`` states about an object: frames to segment, and perhaps a category."""

    frames: Sequence[str]
    category: str | None


def _video_of_masks(frames_folder: Path, masks_folder: Path) -> Video:
    """Pair the files of a video of which nothing else is stated: MOSE, LVOS, Ref-YouTube-VOS."""
    frames, masks = pair_files(frames_folder, masks_folder)
    return Video(
        frames_folder.name,
        frames,
        masks,
        notes=("no meta.json: objects enter where a mask first shows them",),
    )


def _video(
    frames_folder: Path, masks_folder: Path, objects: Mapping[int, ListedObject], meta_path: Path
) -> Video:
    """Pair a video's files and check them against ``meta.json``."""
    frames, masks = pair_files(frames_folder, masks_folder)
    position = {name: i for i, name in enumerate(frames)}
    required: dict[int, tuple[str, ...]] = {}
    for object_id, listed in objects.items():
        where = f"{meta_path}: video {frames_folder.name!r}, object {object_id}"
        absent = [name for name in listed.frames if name not in position]
        if absent:
            raise DataError(
                f"{where}: lists frames that {frames_folder} does not have, {some(absent)}; "
                "add them, or use the meta.json of these frames"
            )
        required[object_id] = tuple(sorted(listed.frames, key=position.__getitem__))
        first = required[object_id][0]
        if first not in masks:
            raise DataError(
                f"{where}: expected a mask in {first!r}, where it first appears, found none in "
                f"{masks_folder}; add it, or use the meta.json of these masks"
            )
    first_seen = {object_id: names[0] for object_id, names in required.items()}
    origin = {
        "first_seen": {str(i): name for i, name in first_seen.items()},
        "required": {str(i): list(names) for i, names in required.items()},
        "categories": {str(i): o.category for i, o in objects.items() if o.category is not None},
    }
    return Video(
        frames_folder.name, frames, masks, first_seen=first_seen, required=required, origin=origin
    )


def read_meta(path: Path) -> dict[str, Any]:
    """Return video name to what is stated about the video."""
    try:
        meta = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON ({error}); use the original file") from None
    videos = meta.get("videos") if isinstance(meta, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise DataError(f'{path}: expected a JSON object with "videos"; use the original file')
    return videos


def read_objects(video: Any, where: str) -> dict[int, ListedObject]:
    """Return object id to what is stated about the object."""
    try:
        objects = {
            int(key): ListedObject(
                list(value["frames"]), str(value["category"]) if "category" in value else None
            )
            for key, value in video["objects"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f'{where}: expected {{"objects": {{"1": {{"frames": [...]}}}}}}, found something '
            f"else ({error!r}); use the meta.json of YouTube-VOS"
        ) from None
    for object_id, listed in objects.items():
        names = listed.frames
        if not 1 <= object_id <= MAX_OBJECT_ID:
            raise DataError(
                f"{where}: expected ids in 1..{MAX_OBJECT_ID}, found {object_id}; "
                "number the objects from 1, in the masks too"
            )
        if not names or not all(isinstance(name, str) for name in names):
            raise DataError(
                f"{where}, object {object_id}: expected frame names, found "
                f"{names!r}; list them, or remove the object"
            )
    return dict(sorted(objects.items()))
