"""A plain tree of frames and masks of any origin, without lists."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from stmtrain.datasets.files import find_folder, pair_files, some, video_folders
from stmtrain.datasets.protocol import LATE_OBJECTS, OWN_VIDEOS
from stmtrain.datasets.video import Video, fit_masks
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError
from stmtrain.images.masks import VOID, areas, counts_binary, ids_counted


def folder_set(root: Path) -> VideoSet:
    """Open ``JPEGImages/<video>/*.jpg`` and ``Annotations/<video>/*.png`` of any origin.

    Any frame may have a mask, which gives the objects that no earlier mask has. A video whose masks
    hold only 0 and 255 has one object. A video without an object in any mask is left out.

    Raises:
        DataError: A folder is missing, no video has an object, or a mask is damaged or far from its
            frame's size.
    """
    frames_root, masks_root = find_folder(root, "JPEGImages"), find_folder(root, "Annotations")
    names = video_folders(frames_root)
    if not names:
        raise DataError(f"{frames_root}: expected one folder per video, found none")
    found = {name: _video(name, frames_root, masks_root) for name in names}
    videos = [video for video in found.values() if video is not None]
    if not videos:
        raise DataError(
            f"{masks_root}: expected masks of {some(names)} that show objects, with ids from 1, "
            "found none; paint the objects in the first mask of each video"
        )
    left_out = {name: "no mask shows an object" for name in names if found[name] is None}
    late = any(video.first_seen for video in videos)
    protocol = LATE_OBJECTS if late else OWN_VIDEOS
    return VideoSet(root.resolve().name, tuple(videos), protocol, left_out=left_out)


def _video(name: str, frames_root: Path, masks_root: Path) -> Video | None:
    """Read all masks of a video to learn where its objects first appear; None without objects."""
    if not (masks_root / name).is_dir():
        return None
    frames, masks = pair_files(frames_root / name, masks_root / name)
    video = fit_masks(Video(name, frames, masks))
    counts = {frame: areas(video.read_mask(frame)) for frame in masks}
    total = sum(counts.values(), np.zeros(256, np.int64))
    if counts_binary(total):
        video = replace(video, binary=True)
        objects = {frame: [1] if count[VOID] else [] for frame, count in counts.items()}
    else:
        objects = {f: ids_counted(c) for f, c in counts.items()}
    first_seen: dict[int, str] = {}
    for frame, ids in objects.items():
        for object_id in ids:
            first_seen.setdefault(object_id, frame)
    if not first_seen:
        return None
    late = set(first_seen.values()) != {next(iter(frames))}
    return replace(video, first_seen=dict(sorted(first_seen.items())) if late else {})
