"""Data sets of videos to shards: one sample per video, frames and masks paired by name.

A shard takes several complete videos. Without a resize the JPEG bytes stay those of the data set;
masks are always encoded anew, as palette PNGs whose index is the object id. Every frame and mask is
decoded once, which proves that it is readable and has the size of its video.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stmdata.packing.pack import FaultyInputsError, Job, SetPlan
from stmtrain.datasets.dataset import Dataset, find_dataset
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError, UsageError
from stmtrain.extras import require
from stmtrain.files import read_file
from stmtrain.images.decode import decode_frame
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.masks import VOID, areas, counts_binary, ids_counted
from stmtrain.images.upright import jpeg_orientation, without_exif
from stmtrain.shards.sample import Sample, SampleRecord, Skipped, canonical_json
from stmtrain.streaming.clips import why_no_clip

SHARD_BYTES = 64 << 20
"""Source bytes after which a shard takes no further video; a longer video has its own shard."""
JPEG_QUALITY = 95
"""Of frames that were resized; others keep their bytes."""
_RESIZE_RANGE = (16, 8192)
_ADVICE = "or leave them out with --on-bad-video skip"

OnBadVideo = Literal["raise", "skip"]

_Files = list[tuple[str, str, int]]
Size = tuple[int, int]
"""(height, width), pixels."""


def prepare_videos(
    dataset: str,
    root: Path | str,
    split: str,
    resize: int | None = None,
    *,
    options: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    on_bad_video: OnBadVideo = "raise",
) -> SetPlan:
    """Plan the shards of a split of a data set; :func:`~stmdata.packing.pack.pack` makes them.

    Frames without a mask and objects that appear late stay as they are. In a binary data set, any
    mask pixel above 0 is object 1; elsewhere ids are kept.

    Args:
        dataset: ``davis2016``, ``davis2017``, ``youtube-vos``, ...: a name in
            :data:`stmtrain.datasets.dataset.DATASETS`.
        root: The folder of the data set.
        split: One of its splits.
        resize: Short side of the packed frames, pixels; ``None`` keeps size and JPEG bytes. STM
            trains at 480.
        options: Options of the data set that differ from its defaults.
        shard_bytes: Size at which a shard is full, bytes of its source files.
        on_bad_video: Report all videos that cannot be used in one error: incomplete ones here,
            those with damaged files once all others are packed. Or skip and count them. This is
            no part of the configuration: a set that an error stopped resumes with ``skip``.

    Raises:
        UsageError: A value is out of range, or there is no such data set or split.
        DataError: The tree is incomplete.

    Example:
        >>> plan = prepare_videos("davis2017", "DAVIS", "train")  # doctest: +SKIP
        >>> pack(plan, "shards/davis", workers=8).totals["samples"]  # doctest: +SKIP
        60
    """
    low, high = _RESIZE_RANGE
    if resize is not None and not low <= resize <= high:
        raise UsageError(f"--resize: expected a short side of {low} to {high}, found {resize}")
    if resize is not None:
        require("cv2", "--resize")
    if on_bad_video not in ("raise", "skip"):
        raise UsageError(f"--on-bad-video: expected raise or skip, found {on_bad_video!r}")
    known = find_dataset(dataset)
    chosen = {**known.options, **(options or {})}
    listed, faults = _list_videos(known, Path(root), split, chosen)
    videos, files = [video for video, _ in listed], [sizes for _, sizes in listed]
    if faults and (on_bad_video == "raise" or not videos):
        raise FaultyInputsError(faults, _ADVICE if on_bad_video == "raise" else "no other is left")
    names = [video.name for video in videos]
    config = {
        "dataset": known.name,
        "split": split,
        **chosen,
        "resize": resize,
        "jpeg_quality": None if resize is None else JPEG_QUALITY,
        "shard_bytes": shard_bytes,
        "source": {
            "videos": len(videos),
            "frames": sum(len(video.frames) for video in videos),
            "masks": sum(len(video.masks) for video in videos),
            "sha256_of_names_and_sizes": hashlib.sha256(canonical_json([names, files])).hexdigest(),
            **({"left_out": sorted(faults)} if faults else {}),
        },
    }
    make = VideoMaker(known.name, split, resize, Path(root), on_bad_video)
    groups = _group([sum(size for _, _, size in sizes) for sizes in files], shard_bytes)
    jobs = [
        Job(f"{known.name}-{split}-{number:06d}", tuple(videos[i] for i in group))
        for number, group in enumerate(groups)
    ]
    if faults:
        left_out = tuple(make.left_out(name, fault) for name, fault in sorted(faults.items()))
        jobs[0] = replace(jobs[0], items=left_out + jobs[0].items)
    return SetPlan(config, jobs, make)


@dataclass(frozen=True)
class VideoMaker:
    """Makes the samples of a job of videos, and videos left out, with the options of the plan."""

    dataset: str
    split: str
    resize: int | None
    root: Path
    on_bad_video: OnBadVideo

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        """Yield one sample per video, and a note for every object that its masks do not show."""
        faults: dict[str, str] = {}
        for item in job.items:
            if isinstance(item, Skipped):
                yield item
                continue
            try:
                yield from self._video(item)
            except DataError as error:  # raised before the video's sample is yielded
                faults[item.name] = str(error)
                yield self.left_out(item.name, str(error))
        if faults and self.on_bad_video == "raise":
            raise FaultyInputsError(faults, _ADVICE)

    def left_out(self, name: str, fault: str) -> Skipped:
        """Note a video that cannot be used, in words that do not depend on where the tree is."""
        return Skipped(f"{name}: {fault.replace(f'{self.root}/', '')}", "unusable video, left out")

    def _video(self, video: Video) -> Iterator[Sample | Skipped]:
        """Yield the sample of one video, then its notes."""
        original_size = video.size()
        frames, size, turned = self._frames(video)
        masks: dict[str, bytes] = {}
        packed_areas: dict[str, NDArray[np.int64]] = {}
        total, smooth = np.zeros(VOID + 1, np.int64), 0
        for name in video.masks:
            mask, soft = _load_mask(video, name, original_size)
            smooth += soft
            packed_areas[name] = areas(mask)
            total += packed_areas[name]
            if size != original_size:
                mask = _resize_mask(mask, size)
                packed_areas[name] = areas(mask)
            masks[name] = encode_mask(mask)
        if counts_binary(total):  # read as ids, 0 and 255 are background and void
            raise DataError(
                f"{next(iter(video.masks.values())).parent}: expected object ids in the masks, "
                f"found only 0 and {VOID} (void); masks of DAVIS 2016 are packed with --year 2016"
            )
        origin = {"dataset": self.dataset, "split": self.split, "video": video.name}
        record = SampleRecord.of(
            video.name,
            tuple(video.frames),
            packed_areas,
            size=size,
            original_size=original_size,
            origin={**origin, **video.origin},
        )
        yield Sample(record, frames, masks)
        yield from (Skipped(video.name, note) for note in video.notes)
        no_clip = why_no_clip(record)
        if no_clip is not None:  # it is packed, since it can be evaluated
            yield Skipped(video.name, no_clip)
        if turned:
            yield Skipped(f"{video.name}, {turned} frames", "turned upright, encoded anew")
        if smooth:
            yield Skipped(f"{video.name}, {smooth} masks", "smooth edges, thresholded at half")
        expected = {*ids_counted(total), *video.first_seen}
        for i in sorted(expected - set(record.object_ids)):
            reason = "vanished in the resize" if total[i] else "of meta.json is in no mask"
            yield Skipped(f"{video.name}, object {i}", f"object {reason}")

    def _frames(self, video: Video) -> tuple[dict[str, bytes], Size, int]:
        """Return the frames' JPEG bytes, their size, and how many were turned upright.

        Without a resize, frames keep their bytes, but no orientation by which readers turn them.
        """
        frames: dict[str, bytes] = {}
        original_size, turned = video.size(), 0
        size = _target_size(original_size, self.resize)
        for name, path in video.frames.items():
            image = video.read_frame(name)  # completely: a header can hide a damaged end
            data = read_file(path)
            if jpeg_orientation(data) > 1:
                as_stored = np.array_equal(image, decode_frame(data, str(path)))
                turned += not as_stored
                data = without_exif(data) if as_stored else encode_frame(image, JPEG_QUALITY)
            frames[name] = data if size == original_size else _resize_frame(image, size)
        return frames, size, turned


def _group(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Cut ``0..len(sizes)`` into runs of at most ``limit`` bytes, or of one that is larger."""
    if limit <= 0:
        raise UsageError(f"shard size: expected more than 0 bytes, found {limit}")
    groups: list[list[int]] = []
    total = 0
    for i, size in enumerate(sizes):
        if not groups or total + size > limit:
            groups.append([])
            total = 0
        groups[-1].append(i)
        total += size
    return groups


def _list_videos(
    dataset: Dataset, root: Path, split: str, options: Mapping[str, str]
) -> tuple[list[tuple[Video, _Files]], dict[str, str]]:
    """Return the complete videos of a split, each with its files, and the others' faults."""
    found, faults = dataset.usable_videos(root, split, **options)
    listed = []
    for video in found:
        try:
            listed.append((video, _list_files(video)))
        except DataError as error:
            faults[video.name] = str(error)
    return listed, faults


def _list_files(video: Video) -> _Files:
    """Return (kind, name, bytes) of a video's files; any change of the tree shows in these."""
    out = []
    for kind, files in (("frame", video.frames), ("mask", video.masks)):
        for name, path in files.items():
            try:
                out.append((kind, name, path.stat().st_size))
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be read ({error.strerror}); restore the file"
                ) from None
    return out


def _load_mask(video: Video, name: str, size: Size) -> tuple[NDArray[np.uint8], bool]:
    """Read a mask, which must have the size of its frame; see :meth:`Video.load_mask`."""
    mask, smooth = video.load_mask(name)
    if mask.shape != size:
        raise DataError(
            f"{video.masks[name]}: expected a mask of {size[1]}x{size[0]} pixels like its frame, "
            f"found {mask.shape[1]}x{mask.shape[0]}; make the mask again at the frame's size"
        )
    return mask, smooth


def _target_size(size: Size, short_side: int | None) -> Size:
    """Scale a size up or down to a short side."""
    if short_side is None:
        return size
    scale = short_side / min(size)
    return max(short_side, round(size[0] * scale)), max(short_side, round(size[1] * scale))


def _resize_frame(image: NDArray[np.uint8], size: Size) -> bytes:
    """Resize (H, W, 3) RGB and encode it; shrinking averages over areas, to avoid aliasing."""
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    shrinks = size[0] <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(image, size[::-1], interpolation=method)
    return encode_frame(np.asarray(resized, np.uint8), JPEG_QUALITY)


def _resize_mask(mask: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Take the id at each new pixel's centre; plain ``INTER_NEAREST`` would take its corner."""
    import cv2

    resized = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.uint8)
