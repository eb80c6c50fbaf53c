"""What can be evaluated: DAVIS, YouTube-VOS, a plain tree of frames and masks, a shard set.

In comes a folder, out comes a :class:`VideoSet`: videos, how their results are laid out for the
benchmark's server, and what a reader of the numbers must know. Everything that can be found wrong
without the network is found here, before hours of work. Torch-free.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from stmtrain.datasets.davis import Video, davis_videos, youtube_vos_videos
from stmtrain.datasets.files import find_folder, pair_files
from stmtrain.datasets.packed import shard_videos
from stmtrain.datasets.video import VideoSource
from stmtrain.errors import DataError
from stmtrain.images.masks import VOID
from stmtrain.images.png import png_header
from stmtrain.shards.sample import canonical_json
from stmtrain.shards.urls import shown

__all__ = [
    "MISFIT",
    "VideoSet",
    "davis_set",
    "fit_masks",
    "given_objects",
    "packed_set",
    "plain_set",
    "youtube_vos_set",
]

MISFIT = 2
"""Pixels by which a mask's sides may differ from its frame's: tools that round resize so."""


@dataclass(frozen=True)
class VideoSet:
    """Videos to segment.

    Attributes:
        dataset: Name for people: ``DAVIS 2017 val``.
        videos: In the data set's order.
        layout: How the benchmark wants its zip: ``davis`` has ``<video>/<frame>.png``,
            ``youtube-vos`` has ``Annotations/<video>/<frame>.png`` of the required frames only.
        notes: What a reader of the results must know of the input.
    """

    dataset: str
    videos: tuple[VideoSource, ...]
    layout: Literal["davis", "youtube-vos"] = "davis"
    notes: tuple[str, ...] = ()

    def exported(self, video: VideoSource) -> tuple[str, ...]:
        """Return the names of the frames whose masks are results, in time order."""
        if self.layout == "davis" or not video.required:
            return tuple(video.frames)
        wanted = {name for names in video.required.values() for name in names}
        return tuple(name for name in video.frames if name in wanted)

    @property
    def frames(self) -> int:
        """Frames of all videos."""
        return sum(len(video.frames) for video in self.videos)

    @property
    def mended(self) -> tuple[str, ...]:
        """The masks that are sampled at their frames' size, as ``video/frame``."""
        return tuple(f"{video.name}/{name}" for video in self.videos for name in video.misfits)

    def identity(self) -> str:
        """Return a digest of names, masks and objects: equal from a tree and from its shards."""
        digest = hashlib.sha256(canonical_json([self.layout, self.dataset]))
        for v in self.videos:
            names = [v.name, v.binary, list(v.frames), list(v.masks), dict(v.first_seen)]
            digest.update(canonical_json(names))
        return digest.hexdigest()

    def why_not_scored(self) -> str | None:
        """Say why results cannot be scored here; None if they can be."""
        kinds = {(video.binary, bool(video.first_seen)) for video in self.videos}
        if len(kinds) > 1:
            return "videos of one object and of several are mixed"
        if any(video.size() != video.original_size() for video in self.videos):
            return "the frames were resized when they were packed"
        bare = [video.name for video in self.videos if not _has_truth(video)]
        if bare:
            return f"{len(bare)} of {len(self.videos)} videos have no ground truth after the start"
        return None


def davis_set(root: Path, year: int, split: str, resolution: str = "480p") -> VideoSet:
    """Open a split of DAVIS; arguments and errors of :func:`davis_videos`."""
    videos = [fit_masks(video) for video in davis_videos(root, year, split, resolution)]
    return VideoSet(f"DAVIS {year} {split}", tuple(videos))


def youtube_vos_set(root: Path, split: str) -> VideoSet:
    """Open a split of YouTube-VOS.

    Where ``<split>_all_frames`` is there too, its frames are the ones that are processed: the
    network then sees the video at its own rate, as the protocol asks. Exported are in both cases
    the frames that ``meta.json`` lists.
    """
    all_frames = f"{split}_all_frames"
    whole = split.endswith("_all_frames") or (root / all_frames / "JPEGImages").is_dir()
    source = split if split.endswith("_all_frames") or not whole else all_frames
    videos = [fit_masks(video) for video in youtube_vos_videos(root, source)]
    note = f"frames from {source}" + ("" if whole else f"; there is no {all_frames}")
    name = f"YouTube-VOS {split.removesuffix('_all_frames')}"
    return VideoSet(name, tuple(videos), "youtube-vos", (note,))


def plain_set(root: Path) -> VideoSet:
    """Open ``JPEGImages/<video>/*.jpg`` and ``Annotations/<video>/*.png`` of any origin.

    A mask may be there for any frame, and gives the objects that no earlier mask has. Where all
    values of a video's masks are 0 and 255, it has one object.

    Raises:
        DataError: A folder or mask is missing, broken, or far from its frame's size.
    """
    frames_root, masks_root = find_folder(root, "JPEGImages"), find_folder(root, "Annotations")
    names = sorted(
        path.name
        for path in frames_root.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise DataError(f"{frames_root}: expected one folder per video, found none")
    found = [_plain_video(name, frames_root, masks_root) for name in names]
    return VideoSet(root.resolve().name, tuple(_uniform(found)))


def packed_set(location: Path | str) -> VideoSet:
    """Open a shard set; pixels and ids are those of the tree that it was packed from."""
    videos = shard_videos(location)
    origin = videos[0].record.origin
    known = {"davis2016": "DAVIS 2016", "davis2017": "DAVIS 2017", "youtube-vos": "YouTube-VOS"}
    dataset, split = str(origin.get("dataset", "")), str(origin.get("split", ""))
    split = split.removesuffix("_all_frames") if dataset == "youtube-vos" else split
    name = shown(location) if isinstance(location, str) else location.name
    if dataset in known:
        name = f"{known[dataset]} {split}"
    resized = sum(video.size() != video.original_size() for video in videos)
    notes = [f"{resized} videos were resized when packed; results have the original size"]
    return VideoSet(
        name,
        tuple(videos),
        "youtube-vos" if dataset == "youtube-vos" else "davis",
        tuple(notes) if resized else (),
    )


def fit_masks(video: Video) -> Video:
    """Compare the masks' headers with the frames' size and note those to be mended.

    Returns:
        The video, with ``misfits``.

    Raises:
        DataError: A mask's side differs by more than :data:`MISFIT` pixels.
    """
    size = video.size()
    misfits = []
    for name, path in video.masks.items():
        with path.open("rb") as file:
            header = png_header(file.read(26))
        found = (header.height, header.width) if header else video.read_mask(name).shape
        if found == size:
            continue
        if max(abs(a - b) for a, b in zip(found, size, strict=True)) > MISFIT:
            raise DataError(
                f"{path}: expected a mask of {size[1]}x{size[0]} pixels like its frame, found "
                f"{found[1]}x{found[0]}; make the mask again at the frame's size"
            )
        misfits.append(name)
    return replace(video, misfits=tuple(misfits))


def given_objects(video: VideoSource) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Find out which mask gives which object; reads masks until each object was seen.

    An object is given by the first mask that shows it, but not before the frame that ``first_seen``
    names. Where that is empty, the first frame gives all of them.

    Returns:
        Frame index to the ids that are given there, and the ids that no mask shows.
    """
    names = list(video.frames)
    if not video.first_seen:
        ids = _ids(video, names[0])
        return {0: ids}, [] if ids else [0]
    left = {i: names.index(name) for i, name in video.first_seen.items()}
    given: dict[int, tuple[int, ...]] = {}
    for name in video.masks:
        t = names.index(name)
        due = [i for i, first in left.items() if first <= t]
        if not due:
            continue
        shown_here = set(_ids(video, name))
        ids = tuple(i for i in due if i in shown_here)
        if ids:
            given[t] = ids
        for i in ids:
            del left[i]
        if not left:
            break
    return given, sorted(left)


def _plain_video(name: str, frames_root: Path, masks_root: Path) -> Video:
    frames, masks = pair_files(frames_root / name, masks_root / name)
    video = fit_masks(Video(name, frames, masks))
    values = {frame: _values(video, frame) for frame in masks}
    every = set().union(*values.values())
    if every - {0} == {VOID}:
        video = replace(video, binary=True)
        values = {frame: {1} if found - {0} else set() for frame, found in values.items()}
    first_seen: dict[int, str] = {}
    for frame, found in values.items():
        for object_id in sorted(found - {0, VOID}):
            first_seen.setdefault(object_id, frame)
    if not first_seen:
        raise DataError(
            f"{masks_root / name}: expected an object in one of {len(masks)} masks, found "
            "background only; paint the objects with ids from 1"
        )
    return replace(video, first_seen=dict(sorted(first_seen.items())))


def _uniform(videos: Sequence[Video]) -> list[Video]:
    """Give all videos one protocol: late objects in any of them, or in none."""
    if all(set(video.first_seen.values()) == {next(iter(video.frames))} for video in videos):
        return [replace(video, first_seen={}) for video in videos]
    return [replace(video, required=_from_first(video)) for video in videos]


def _from_first(video: Video) -> Mapping[int, tuple[str, ...]]:
    names = list(video.frames)
    return {i: tuple(names[names.index(first) :]) for i, first in video.first_seen.items()}


def _has_truth(video: VideoSource) -> bool:
    """Say whether every frame that would be scored has a mask."""
    if not video.first_seen:
        return len(video.masks) == len(video.frames) >= 3
    scored = {name for names in video.required.values() for name in names[1:]}
    return bool(scored) and scored <= set(video.masks)


def _values(video: VideoSource, frame_name: str) -> set[int]:
    counts = np.bincount(video.read_mask(frame_name).ravel(), minlength=256)
    return set(np.flatnonzero(counts).tolist())


def _ids(video: VideoSource, frame_name: str) -> tuple[int, ...]:
    return tuple(sorted(_values(video, frame_name) - {0, VOID}))
