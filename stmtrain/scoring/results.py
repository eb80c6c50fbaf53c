"""The files of a folder of results: which are there, and one mask as it is scored."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.files import some, video_folders
from stmtrain.datasets.protocol import Protocol
from stmtrain.datasets.video import VideoSource
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_mask
from stmtrain.images.masks import VOID, is_binary


def read_result(
    results: Path,
    video: VideoSource,
    frame_name: str,
    shape: tuple[int, ...],
    object_ids: Sequence[int],
    objects: str = "given",
) -> NDArray[np.uint8]:
    """Read one result mask as it is scored.

    In a binary video every non-zero pixel is object 1. In a video of one object, a mask of 0 and
    255 shows that object too, if its id is ``given`` and no more. Objects that have a folder
    each in the ground truth may be ids in one mask of the video in the results.

    Args:
        results: The folder of results.
        video: The ground truth.
        frame_name: One of the video's frames.
        shape: (H, W) of the ground truth.
        object_ids: The ids that are scored.
        objects: What the protocol states of them.

    Returns:
        (H, W) uint8 object ids, which may include ids that the ground truth does not have.

    Raises:
        DataError: The file is unreadable, not a label map, or of the wrong size, or has several
            objects in the folder of one.
    """
    path, label = _place(results, video, frame_name)
    mask = decode_mask(read_file(path, "write it again"), str(path))
    if mask.shape != shape:
        raise DataError(
            f"{path}: expected {shape[1]}x{shape[0]} pixels like the ground truth, found "
            f"{mask.shape[1]}x{mask.shape[0]}; save results at the video's own size"
        )
    if label is not None:
        mask = np.where(mask == label, mask, 0).astype(np.uint8)
    if video.binary:
        if objects == "folders" and (mask[mask > 0] != mask.max()).any():
            raise DataError(
                f"{path}: expected one object, since each has a folder, found the values "
                f"{some(map(str, np.unique(mask)[1:]))}; write each object to its own folder"
            )
        return (mask > 0).view(np.uint8)
    scaled = len(object_ids) == 1 and objects == "given" and mask.max() == VOID
    if scaled and is_binary(mask):
        mask[mask == VOID] = object_ids[0]
    return mask


def _place(results: Path, video: VideoSource, frame_name: str) -> tuple[Path, int | None]:
    """Return the file of a result, and the id in it if it is a mask of all objects."""
    own = results / video.name / f"{frame_name}.png"
    shared = results / folder_of(video) / own.name
    if shared == own or own.exists() or not shared.exists():
        return own, None
    return shared, next(iter(video.first_seen))


def missing_videos(results: Path, videos: Sequence[VideoSource], protocol: Protocol) -> list[str]:
    """Return the videos without a folder of results, which the protocol counts or leaves out.

    Raises:
        DataError: The protocol needs every video, none is there, or one lacks a scored frame.
    """
    missing = []
    for name in dict.fromkeys(folder_of(video) for video in videos):
        if not (results / name).is_dir():
            missing.append(name)
    if missing and (protocol.missing_video == "refuse" or len(missing) == len(_folders(videos))):
        nested = sorted(path.parent for path in results.glob(f"*/{missing[0]}") if path.is_dir())
        advice = f"pass {nested[0]}" if nested else "run the method on the complete split"
        more = f" (and of {len(missing) - 1} more videos)" if len(missing) > 1 else ""
        raise DataError(
            f"{results / missing[0]}: expected the results of video {missing[0]!r}{more}, found no "
            f"folder; {advice}"
        )
    for video in videos:
        if folder_of(video) not in missing:
            _check_frames(results / video.name, video, protocol)  # seconds, scoring takes minutes
    return missing


def folder_of(video: VideoSource) -> str:
    """Return the video that a folder of one object belongs to, or the video itself."""
    return video.name.partition("/")[0]


def in_order(video: VideoSource, scored: Mapping[int, Collection[str]]) -> list[str]:
    """Return every frame in which any object is scored, in time order."""
    names = {name for names in scored.values() for name in names}
    return [name for name in video.frames if name in names]


def extra_folders(results: Path, videos: Sequence[VideoSource]) -> Iterator[str]:
    """Note the folders that are results of none of the videos or objects."""
    known: dict[Path, set[str]] = {results: _folders(videos)}
    for video in videos:
        folder, _, part = video.name.partition("/")
        if part:
            known.setdefault(results / folder, set()).add(part)
    for where, names in known.items():
        extra = sorted(set(video_folders(where)) - names) if where.is_dir() else []
        if extra:
            yield f"{where}: {len(extra)} folders are not in the ground truth: {some(extra)}"


def extra_files(results: Path, video: VideoSource) -> Iterator[str]:
    """Note PNG files that are named like none of the frames, and masks of all objects."""
    label = _place(results, video, next(reversed(list(video.frames))))[1]
    if label is not None:
        yield f"{video.name}: is id {label} in masks of all objects, where none can overlap"
    stems = sorted(path.stem for path in (results / video.name).glob("*.png"))
    extra = [stem for stem in stems if stem not in video.frames and not stem.startswith(".")]
    if extra:
        yield (
            f"{video.name}: {len(extra)} PNG files belong to no frame, the first is {extra[0]}.png"
        )


def _folders(videos: Collection[VideoSource]) -> set[str]:
    return {folder_of(video) for video in videos}


def _check_frames(folder: Path, video: VideoSource, protocol: Protocol) -> None:
    """Refuse a video without a result for every scored frame."""
    names = in_order(video, protocol.scored_frames(video))
    if "/" in video.name and not folder.is_dir() and any(folder.parent.glob("*.png")):
        folder = folder.parent
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    missing = [name for name in names if f"{name}.png" not in present]
    if missing:
        others = sorted(present - {f"{name}.png" for name in video.frames})
        found = f", but {len(others)} others beside them, such as {others[0]}" if others else ""
        raise DataError(
            f"{folder}: expected a mask for each of {len(names)} scored frames, found none for "
            f"{len(missing)}, the first is {missing[0]}.png{found}; run the method on the complete "
            "video and name its PNGs like the frames"
        )
