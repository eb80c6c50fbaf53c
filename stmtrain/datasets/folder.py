"""A plain tree of frames and masks of any origin, without lists."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from stmtrain.datasets.files import find_folder, pair_files, video_folders
from stmtrain.datasets.protocol import DAVIS, LATE_OBJECTS
from stmtrain.datasets.video import Video, fit_masks
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError
from stmtrain.images.masks import VOID, areas, counts_binary, ids_counted


def folder_set(root: Path) -> VideoSet:
    """Open ``JPEGImages/<video>/*.jpg`` and ``Annotations/<video>/*.png`` of any origin.

    Any frame may have a mask, which gives the objects that no earlier mask has. A video whose masks
    hold only 0 and 255 has one object.

    Raises:
        DataError: A folder or mask is missing, damaged, or far from its frame's size.
    """
    frames_root, masks_root = find_folder(root, "JPEGImages"), find_folder(root, "Annotations")
    names = video_folders(frames_root)
    if not names:
        raise DataError(f"{frames_root}: expected one folder per video, found none")
    videos = [_video(name, frames_root, masks_root) for name in names]
    late = any(set(v.first_seen.values()) != {next(iter(v.frames))} for v in videos)
    if late:
        complete = [replace(video, required=_from_first(video)) for video in videos]
    else:
        complete = [replace(video, first_seen={}) for video in videos]
    return VideoSet(root.resolve().name, tuple(complete), LATE_OBJECTS if late else DAVIS)


def _video(name: str, frames_root: Path, masks_root: Path) -> Video:
    """Read all masks of a video to learn where its objects first appear."""
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
        raise DataError(
            f"{masks_root / name}: expected an object in one of {len(masks)} masks, found "
            "background only; paint the objects with ids from 1"
        )
    return replace(video, first_seen=dict(sorted(first_seen.items())))


def _from_first(video: Video) -> Mapping[int, tuple[str, ...]]:
    names = list(video.frames)
    return {i: tuple(names[names.index(first) :]) for i, first in video.first_seen.items()}
