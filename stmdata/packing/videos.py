"""DAVIS and YouTube-VOS to shards: one sample per video, frames and masks paired by name.

In come the videos of ``evaluation.trees``, out come shards of several whole videos. Without a
resize the JPEG bytes are the data set's own; masks are always written anew, as palette PNGs whose
index is the object id. Every frame and mask is decoded once, so that what is packed is known to
be readable, and of one size within its video.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.packing.pack import Job, Progress, pack
from stmtrain.datasets.dataset import Dataset, find_dataset
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_frame
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.masks import VOID
from stmtrain.processes import resolve_workers
from stmtrain.shards.manifest import Manifest
from stmtrain.shards.sample import Sample, SampleRecord, Skipped, canonical_json

__all__ = [
    "JPEG_QUALITY",
    "SHARD_BYTES",
    "PackVideos",
    "pack_davis",
    "pack_videos",
    "pack_youtube_vos",
]

SHARD_BYTES = 64 << 20
"""Source bytes after which a shard takes no further video; a longer video has its own shard."""
JPEG_QUALITY = 95
"""Of frames that were resized; others keep their bytes."""
_RESIZE_RANGE = (16, 8192)

Size = tuple[int, int]


def pack_videos(
    dataset: Dataset,
    root: Path,
    split: str,
    out: Path,
    resize: int | None = None,
    *,
    options: Mapping[str, str] | None = None,
    workers: int | str = "auto",
    overwrite: bool = False,
    suspect: Collection[str] = (),
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Manifest:
    """Pack a split of a data set.

    Frames without a mask and objects that appear late stay as they are. In a binary data set, any
    mask pixel above 0 is object 1; elsewhere ids are kept.

    Args:
        dataset: Which data set, from :data:`stmtrain.datasets.dataset.DATASETS`.
        root: The folder of the data set.
        split: One of its splits.
        out: Folder of the shards.
        resize: Short side of the packed frames, pixels; ``None`` keeps size and JPEG bytes. STM
            trains at 480.
        options: Options of the data set that differ from its defaults.
        workers: Processes, or ``"auto"``; does not change the bytes.
        overwrite: Replace a set of another configuration.
        suspect: Tar names of shards to make again even if they look finished.
        shard_bytes: Size at which a shard is full, source bytes.
        progress: Told (videos done, videos in all, notes on parts left out).

    Raises:
        UsageError: A value makes no sense, or ``out`` holds another set.
        DataError: The tree is incomplete, or a frame or mask is broken or does not fit.
    """
    chosen = {**dataset.options, **(options or {})}
    videos = dataset.videos(root, split, **chosen)
    settings = {"dataset": dataset.name, "split": split, **chosen}
    packer = PackVideos(dataset.name, split, _check_resize(resize))
    return _pack(packer, videos, out, settings, shard_bytes, workers, overwrite, suspect, progress)


def pack_davis(
    root: Path, year: int, split: str, out: Path, resize: int | None = None, **rest: Any
) -> Manifest:
    """Pack a split of DAVIS 2016 or 2017; see :func:`pack_videos`."""
    return pack_videos(find_dataset(f"davis{year}"), root, split, out, resize, **rest)


def pack_youtube_vos(
    root: Path, split: str, out: Path, resize: int | None = None, **rest: Any
) -> Manifest:
    """Pack a split of YouTube-VOS; see :func:`pack_videos`."""
    return pack_videos(find_dataset("youtube-vos"), root, split, out, resize, **rest)


@dataclass(frozen=True)
class PackVideos:
    """Makes the samples of a job whose items are videos.

    Attributes:
        dataset: For the samples' origin.
        split: For the samples' origin.
        resize: Short side, pixels; ``None`` passes JPEG bytes through.
    """

    dataset: str
    split: str
    resize: int | None = None

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        """Yield one sample per video, and a note for every object that is lost on the way."""
        cv2.setNumThreads(1)  # the processes are the parallelism
        for video in job.items:
            yield from self.video(video)

    def video(self, video: Video) -> Iterator[Sample | Skipped]:
        """Yield the sample of one video, then its notes."""
        frames, source, size = self._frames(video)
        masks: dict[str, bytes] = {}
        areas: list[NDArray[np.int64]] = []
        present = np.zeros(256, np.bool_)
        for name in video.masks:
            mask = _read_mask(video, name, source)
            counts = _areas(mask)
            present |= counts > 0
            if size != source:
                mask = _resize_mask(mask, size)
                counts = _areas(mask)
            areas.append(counts)
            masks[name] = encode_mask(mask)
        _refuse_void_only(video, present)
        table = np.array(areas, np.int64).reshape(len(areas), 256)
        ids = [i for i in range(1, VOID) if table[:, i].any()]
        record = SampleRecord(
            sample_key=video.name,
            height=size[0],
            width=size[1],
            frames=tuple(video.frames),
            mask_frames=tuple(video.masks),
            object_ids=tuple(ids),
            areas=tuple(tuple(table[:, i].tolist()) for i in ids),
            original_size=source,
            origin=self._origin(video),
        )
        yield Sample(record, frames, masks)
        for i in sorted({*np.flatnonzero(present[:VOID]).tolist(), *video.first_seen} - {0, *ids}):
            lost = "vanished in the resize" if present[i] else "of meta.json is in no mask"
            yield Skipped(f"{video.name}, object {i}", f"object {lost}")

    def _frames(self, video: Video) -> tuple[dict[str, bytes], Size, Size]:
        """Return the frames' JPEG bytes, and (height, width) before and after the resize."""
        frames: dict[str, bytes] = {}
        first = next(iter(video.frames.values()))
        source = size = (0, 0)
        for name, path in video.frames.items():
            data = read_file(path)
            image = decode_frame(data, str(path))  # all of it: a header says nothing of the rest
            found = (image.shape[0], image.shape[1])
            if not frames:
                source, size = found, _target_size(found, self.resize)
            elif found != source:
                raise DataError(
                    f"{path}: expected {source[1]}x{source[0]} pixels like {first.name}, found "
                    f"{found[1]}x{found[0]}; the frames of a video must have one size"
                )
            frames[name] = data if size == source else _resize_frame(image, size)
        return frames, source, size

    def _origin(self, video: Video) -> dict[str, Any]:
        identity = {"dataset": self.dataset, "split": self.split, "video": video.name}
        return {**identity, **video.origin}


def _pack(
    packer: PackVideos,
    videos: Sequence[Video],
    out: Path,
    settings: Mapping[str, Any],
    shard_bytes: int,
    workers: int | str,
    overwrite: bool,
    suspect: Collection[str],
    progress: Progress | None,
) -> Manifest:
    listings = [_listing(video) for video in videos]
    sizes = [sum(size for _, _, size in listing) for listing in listings]
    names = [video.name for video in videos]
    config = {
        **settings,
        "resize": packer.resize,
        "jpeg_quality": None if packer.resize is None else JPEG_QUALITY,
        "shard_bytes": shard_bytes,
        "source": {
            "videos": len(videos),
            "frames": sum(len(video.frames) for video in videos),
            "masks": sum(len(video.masks) for video in videos),
            "sha256_of_names_and_sizes": hashlib.sha256(
                canonical_json([names, listings])
            ).hexdigest(),
        },
    }
    stem = f"{packer.dataset}-{packer.split}"
    jobs = [
        Job(f"{stem}-{number:06d}", tuple(videos[i] for i in group))
        for number, group in enumerate(_group(sizes, shard_bytes))
    ]
    return pack(
        out,
        jobs,
        packer,
        config,
        workers=resolve_workers(workers),
        overwrite=overwrite,
        suspect=suspect,
        progress=progress,
    )


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


def _listing(video: Video) -> list[tuple[str, str, int]]:
    """Return (kind, name, bytes) of a video's files: a changed tree shows in these."""
    out = []
    for kind, files in (("frame", video.frames), ("mask", video.masks)):
        for name, path in files.items():
            try:
                out.append((kind, name, path.stat().st_size))
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return out


def _read_mask(video: Video, name: str, size: Size) -> NDArray[np.uint8]:
    """Read a mask, (H,W) uint8 ids, which must have the size of its frame."""
    mask = video.read_mask(name)
    if mask.shape != size:
        raise DataError(
            f"{video.masks[name]}: expected a mask of {size[1]}x{size[0]} pixels like its frame, "
            f"found {mask.shape[1]}x{mask.shape[0]}; make the mask again at the frame's size"
        )
    return mask


def _refuse_void_only(video: Video, present: NDArray[np.bool_]) -> None:
    """Refuse grey 0/255 masks read as ids: they would be background and void, nothing else."""
    if present[VOID] and not present[1:VOID].any():
        raise DataError(
            f"{next(iter(video.masks.values())).parent}: expected object ids in the masks, found "
            f"only 0 and {VOID} (void); masks of DAVIS 2016 are packed with --year 2016"
        )


def _areas(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of every id, (256,)."""
    return np.bincount(mask.ravel(), minlength=256)


def _check_resize(resize: int | None) -> int | None:
    low, high = _RESIZE_RANGE
    if resize is not None and not low <= resize <= high:
        raise UsageError(f"--resize: expected a short side of {low} to {high}, found {resize}")
    return resize


def _target_size(size: Size, short_side: int | None) -> Size:
    """Scale (height, width) so that the short side is as asked, up or down."""
    if short_side is None:
        return size
    scale = short_side / min(size)
    return max(short_side, round(size[0] * scale)), max(short_side, round(size[1] * scale))


def _resize_frame(image: NDArray[np.uint8], size: Size) -> bytes:
    """Resize (H,W,3) RGB and encode it: area average to shrink, which does not alias."""
    shrinks = size[0] <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(image, size[::-1], interpolation=method)
    return encode_frame(np.asarray(resized, np.uint8), JPEG_QUALITY)


def _resize_mask(mask: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Take the id at each new pixel's centre; plain ``INTER_NEAREST`` takes its corner."""
    resized = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, np.uint8)
