"""Dataset trees as their authors distribute them, to videos whose files are paired by name.

In comes the folder of DAVIS (2016 or 2017) or YouTube-VOS, out come :class:`Video` records with
paths; pixels are read on request. A tree that is incomplete or contradicts itself is refused
here, with the file that is missing, rather than later with a wrong number.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.files import find_folder, pair_files, plain_name, read_file, some
from stmtrain.errors import DataError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask, frame_size
from stmtrain.images.masks import MAX_OBJECT_ID, resample_mask

__all__ = ["DAVIS_SPLITS", "Video", "davis_videos", "youtube_vos_videos"]

DAVIS_SPLITS: Mapping[int, tuple[str, ...]] = {
    2016: ("train", "val", "trainval"),
    2017: ("train", "val", "trainval", "test-dev", "test-challenge"),
}

_MASKED_SPLITS = ("train", "val", "trainval")
"""DAVIS splits in which every frame has a mask; in the others only the first has."""


@dataclass(frozen=True)
class Video:
    """One video of a data set; frames and masks are paired by name.

    Attributes:
        name: The data set's name of the sequence.
        frames: Frame name (``00000``) to JPEG file, in time order, never empty.
        masks: Frame name to mask PNG, in time order; its names are among those of ``frames``.
        binary: One object, any non-zero pixel of a mask (DAVIS 2016).
        first_seen: Object id to the name of the frame that gives its mask (YouTube-VOS).
        required: Object id to the names of the frames to export, in time order (YouTube-VOS).
        misfits: Names of the masks that differ from their frames' size by a pixel or two, which
            ``video_sets.fit_masks`` found: they are sampled at that size when read.
    """

    name: str
    frames: Mapping[str, Path]
    masks: Mapping[str, Path]
    binary: bool = False
    first_seen: Mapping[int, str] = field(default_factory=dict)
    required: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames, pixels; the first one's header tells."""
        path = next(iter(self.frames.values()))
        return frame_size(read_file(path), str(path))

    def original_size(self) -> tuple[int, int]:
        """Return the size of the data set's own frames: these are they."""
        return self.size()

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a frame to (H, W, 3) uint8 RGB; :class:`DataError` if it is missing or broken."""
        path = self._path(self.frames, frame_name, "frame")
        return decode_frame(read_file(path), str(path))

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a mask to (H, W) uint8 object ids; :class:`DataError` if missing or broken.

        Ids are as stored, 255 is void; in a binary video every non-zero pixel becomes 1.
        """
        path = self._path(self.masks, frame_name, "mask")
        mask = decode_mask(read_file(path), str(path))
        if frame_name in self.misfits:
            mask = resample_mask(mask, self.size())
        return (mask > 0).astype(np.uint8) if self.binary else mask

    def _path(self, files: Mapping[str, Path], frame_name: str, kind: str) -> Path:
        if frame_name not in files:
            raise DataError(
                f"video {self.name!r}: expected a {kind} for frame {frame_name!r}, found none; "
                f"there are {len(files)}: {some(files)}"
            )
        return files[frame_name]


def davis_videos(root: Path, year: int, split: str, resolution: str = "480p") -> list[Video]:
    """List the videos of a DAVIS tree (``JPEGImages``, ``Annotations``, ``ImageSets``).

    Args:
        root: The folder that holds those three.
        year: 2016 (one object, binary masks) or 2017 (several objects). A 2017 tree serves both.
        split: One of ``DAVIS_SPLITS[year]``; ``trainval`` needs no list of its own.
        resolution: Subfolder of ``JPEGImages`` and ``Annotations``.

    Returns:
        Videos in the order of the split's list. Every frame has a mask, except in the test
        splits, where the first has.

    Raises:
        UsageError: No such year or split.
        DataError: A folder, split list, sequence, frame or mask is missing.
    """
    if year not in DAVIS_SPLITS:
        raise UsageError(f"year: expected one of {some(map(str, DAVIS_SPLITS))}, found {year}")
    if split not in DAVIS_SPLITS[year]:
        raise UsageError(
            f"split: DAVIS {year} has {', '.join(DAVIS_SPLITS[year])}, found {split!r}"
        )
    names = _davis_names(root, year, split)
    frames_root = find_folder(root, "JPEGImages", resolution)
    masks_root = find_folder(root, "Annotations", resolution)
    videos = []
    for name in names:
        frames, masks = pair_files(frames_root / name, masks_root / name)
        needed = frames if split in _MASKED_SPLITS else [next(iter(frames))]
        bare = [frame for frame in needed if frame not in masks]
        if bare:
            raise DataError(
                f"{masks_root / name}: expected a mask for each of {len(needed)} frames, found "
                f"none for {some(bare)}; unpack DAVIS {year} again"
            )
        videos.append(Video(name, frames, masks, binary=year == 2016))
    return videos


def youtube_vos_videos(root: Path, split: str) -> list[Video]:
    """List the videos of a YouTube-VOS tree.

    A split's folder holds ``JPEGImages``, ``Annotations`` and ``meta.json``.

    Args:
        root: The folder that holds the splits.
        split: ``train``, ``valid`` or ``test``. ``valid_all_frames`` and its like take masks and
            ``meta.json`` from ``valid`` where they have none of their own.

    Returns:
        Videos in the order of their names. Not every frame has a mask: in ``valid`` only those
        have in which an object first appears.

    Raises:
        DataError: A folder, video, frame or mask is missing, or ``meta.json`` does not fit.
    """
    own, base = root / split, root / split.removesuffix("_all_frames")
    frames_root = find_folder(root, split, "JPEGImages")
    masks_root = own / "Annotations"
    if not masks_root.is_dir():
        masks_root = find_folder(root, base.name, "Annotations")
    meta_path = own / "meta.json" if (own / "meta.json").is_file() else base / "meta.json"
    listed = _read_meta(meta_path)
    found = {p.name for p in frames_root.iterdir() if p.is_dir() and not p.name.startswith(".")}
    unlisted = sorted(found - set(listed))
    if unlisted:
        raise DataError(
            f"{frames_root}: expected the videos of {meta_path}, found {some(unlisted)} beside "
            "them; take the meta.json of this split"
        )
    return [
        _youtube_video(frames_root / name, masks_root / name, listed[name], meta_path)
        for name in sorted(listed)
    ]


def _youtube_video(
    frames_folder: Path, masks_folder: Path, objects: Mapping[int, Sequence[str]], meta_path: Path
) -> Video:
    frames, masks = pair_files(frames_folder, masks_folder)
    position = {name: i for i, name in enumerate(frames)}
    required = {}
    for object_id, listed in objects.items():
        where = f"{meta_path}: video {frames_folder.name!r}, object {object_id}"
        strange = [name for name in listed if name not in position]
        if strange:
            raise DataError(
                f"{where}: lists frames that {frames_folder} does not have, {some(strange)}; "
                "unpack the split again"
            )
        required[object_id] = tuple(sorted(listed, key=position.__getitem__))
        first = required[object_id][0]
        if first not in masks:
            raise DataError(
                f"{where}: expected a mask in {first!r}, where it first appears, found none in "
                f"{masks_folder}; unpack the split again"
            )
    first_seen = {object_id: names[0] for object_id, names in required.items()}
    return Video(frames_folder.name, frames, masks, first_seen=first_seen, required=required)


def _read_meta(path: Path) -> dict[str, dict[int, list[str]]]:
    """Return video name to object id to frame names."""
    try:
        meta = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON ({error}); unpack the split again") from None
    videos = meta.get("videos") if isinstance(meta, dict) else None
    if not isinstance(videos, dict) or not videos:
        raise DataError(f'{path}: expected a JSON object with "videos"; take YouTube-VOS\'s own')
    return {
        plain_name(name, str(path)): _read_objects(video, f"{path}: video {name!r}")
        for name, video in videos.items()
    }


def _read_objects(video: Any, where: str) -> dict[int, list[str]]:
    try:
        objects = {int(key): list(value["frames"]) for key, value in video["objects"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f'{where}: expected {{"objects": {{"1": {{"frames": [...]}}}}}}, found something '
            f"else ({error!r}); take YouTube-VOS's own meta.json"
        ) from None
    for object_id, names in objects.items():
        if not 1 <= object_id <= MAX_OBJECT_ID:
            raise DataError(f"{where}: expected ids in 1..{MAX_OBJECT_ID}, found {object_id}")
        if not names or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}, object {object_id}: expected frame names, found {names!r}")
    return dict(sorted(objects.items()))


def _davis_names(root: Path, year: int, split: str) -> list[str]:
    """Read a split's list; the 2016 release has its lists, of paths, in ``ImageSets/480p``."""
    sets = find_folder(root, "ImageSets")
    for folder in [sets / str(year)] + ([sets / "480p"] if year == 2016 else []):
        if (folder / f"{split}.txt").is_file():
            return _read_names(folder / f"{split}.txt")
        halves = [folder / "train.txt", folder / "val.txt"]
        if split == "trainval" and all(half.is_file() for half in halves):
            return [name for half in halves for name in _read_names(half)]
    found = sorted(path.relative_to(sets).as_posix() for path in sets.glob("*/*.txt"))
    raise DataError(
        f"{sets}: expected {year}/{split}.txt, found {', '.join(found) or 'no split lists'}; "
        f"choose a year and split that are there, or unpack DAVIS {year}"
    )


def _read_names(path: Path) -> list[str]:
    """Read sequence names, one per line, or out of lines of ``/JPEGImages/480p/<name>/<file>``."""
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected text ({error}); replace the file") from None
    names = []
    for entry in (line.split()[0].strip("/") for line in lines if line.strip()):
        name = entry.split("/")[-2] if "/" in entry else entry
        names.append(plain_name(name, str(path)))
    if not names:
        raise DataError(f"{path}: expected sequence names, found an empty list; replace the file")
    return list(dict.fromkeys(names))
