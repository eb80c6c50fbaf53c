"""Real videos to samples: frames and masks paired by name, checked, and encoded.

Without a resize the JPEG bytes stay those of the data set; frames of other files are encoded.
Masks are always encoded anew, as palette PNGs whose index is the object id. Every frame and mask is
decoded once, which proves that it is readable and has the size of its video.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from stmdata.packing.names import frame_names
from stmdata.packing.pack import FaultyInputsError, Job
from stmtrain.datasets.listing import Entry
from stmtrain.datasets.video import FilmFrame, Video, fit_masks
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_frame
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.masks import MAX_OBJECT_ID, VOID, areas, counts_binary, ids_counted
from stmtrain.images.upright import jpeg_orientation, without_exif
from stmtrain.shards.sample import Sample, SampleRecord, Skipped
from stmtrain.streaming.clips import MASK_STRIDE, median_stride, why_no_clip

JPEG_QUALITY = 95
"""Of frames that are encoded: resized ones, and those of video files and PNGs."""
ADVICE = "or leave them out with --on-bad-video skip"

OnBadVideo = Literal["raise", "skip"]
Frames = Literal["all", "masked"]
ManyObjects = Literal["refuse", "split"]

Size = tuple[int, int]
"""(height, width), pixels."""


@dataclass(frozen=True)
class NamedEntry:
    """A video of a job, and the sample key that it gets."""

    entry: Entry
    key: str


@dataclass(frozen=True)
class VideoMaker:
    """Makes the samples of a job of videos, and videos left out, with the options of the plan."""

    dataset: str
    own: bool
    resize: int | None
    root: Path
    on_bad_video: OnBadVideo
    frames: Frames
    many_objects: ManyObjects

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        """Yield one sample per video, and a note for every object that its masks do not show."""
        faults: dict[str, str] = {}
        for item in job.items:
            if isinstance(item, Skipped):
                yield item
                continue
            try:
                for video, key in self._parts(item):
                    yield from self._video(video, key)
            except DataError as error:  # raised before the video's sample is yielded
                faults[item.entry.name] = str(error)
                yield self.left_out(item.entry.name, str(error))
        if faults and self.on_bad_video == "raise":
            raise FaultyInputsError(faults, ADVICE)

    def left_out(self, name: str, fault: str) -> Skipped:
        """Note a video that cannot be used, in words that do not depend on where the tree is."""
        return Skipped(f"{name}: {fault.replace(f'{self.root}/', '')}", "unusable video, left out")

    def _parts(self, item: NamedEntry) -> Iterator[tuple[Video, str]]:
        """Yield the video of an entry; several times, with some objects each, if it has many."""
        video = item.entry.open()
        if self.own:
            video = fit_masks(video)
        if self.frames == "masked":
            stride = {MASK_STRIDE: median_stride(tuple(video.masks), tuple(video.frames))}
            frames = {name: frame for name, frame in video.frames.items() if name in video.masks}
            video = replace(video, frames=frames, origin={**video.origin, **stride})
        ids = list(video.labels)
        if self.many_objects == "refuse" or len(ids) <= MAX_OBJECT_ID:
            yield video, item.key
            return
        for number, start in enumerate(range(0, len(ids), MAX_OBJECT_ID)):
            some = {i: n for n, i in enumerate(ids[start : start + MAX_OBJECT_ID], 1)}
            yield replace(video, id_map=some), f"{item.key}_{number}"

    def _video(self, video: Video, key: str) -> Iterator[Sample | Skipped]:
        """Yield the sample of one video, then its notes."""
        original_size = video.size()
        frames, size, turned = self._frames(video)
        masks: dict[str, bytes] = {}
        packed_areas: dict[str, NDArray[np.int64]] = {}
        total, smooth = np.zeros(VOID + 1, np.int64), 0
        names = dict(zip(video.frames, frame_names(tuple(video.frames), key), strict=True))
        for name in video.masks:
            mask, soft = _load_mask(video, name, original_size)
            smooth += soft
            counts = areas(mask)
            total += counts
            if size != original_size:
                mask = _resize_mask(mask, size)
                counts = areas(mask)
            masks[names[name]], packed_areas[names[name]] = encode_mask(mask), counts
        if counts_binary(total):  # read as ids, 0 and 255 are background and void
            if self.own:
                yield from self._video(replace(video, binary=True), key)
                return
            raise DataError(
                f"{_place(video)}: expected object ids in the masks, found only 0 and {VOID} "
                "(void); masks of DAVIS 2016 are packed with --year 2016, others with "
                "--layout own-frames-and-masks"
            )
        record = SampleRecord.of(
            key,
            tuple(names.values()),
            packed_areas,
            size=size,
            original_size=original_size,
            origin=self._origin(video, names),
        )
        yield Sample(record, {names[name]: data for name, data in frames.items()}, masks)
        yield from self._notes(video, record, turned, smooth, total)

    def _origin(self, video: Video, names: dict[str, str]) -> dict[str, Any]:
        """Return where a sample comes from, with what its names and ids were."""
        origin: dict[str, Any] = {
            "dataset": self.dataset,
            "split": video.split,
            "video": video.name,
            **video.origin,
        }
        if list(names) != list(names.values()):
            origin["frames"] = list(names)
        if any(str(i) != str(label) for i, label in video.labels.items()):
            origin["id_map"] = {str(i): label for i, label in video.labels.items()}
        if self.own and video.binary:
            origin["binary"] = True
        return origin

    def _notes(
        self,
        video: Video,
        record: SampleRecord,
        turned: int,
        smooth: int,
        total: NDArray[np.int64],
    ) -> Iterator[Skipped]:
        yield from (Skipped(video.name, note) for note in video.notes)
        no_clip = why_no_clip(record)
        if no_clip is not None:  # it is packed, since it can be evaluated
            yield Skipped(video.name, no_clip)
        if turned:
            yield Skipped(f"{video.name}, {turned} frames", "turned upright, encoded anew")
        if video.misfits:
            count = len(video.misfits)
            yield Skipped(f"{video.name}, {count} masks", "a pixel or two off, resampled")
        if smooth:
            yield Skipped(f"{video.name}, {smooth} masks", "smooth edges, thresholded at half")
        stated = {label: i for i, label in video.labels.items()}
        expected = {*ids_counted(total), *video.first_seen, *stated}
        for i in sorted(expected - set(record.object_ids)):
            unseen = "of meta.json is in no mask" if video.first_seen else "is visible in no mask"
            reason = "vanished in the resize" if total[i] else unseen
            yield Skipped(f"{video.name}, object {stated.get(i, i)}", f"object {reason}")

    def _frames(self, video: Video) -> tuple[dict[str, bytes], Size, int]:
        """Return the frames' JPEG bytes, their size, and how many were turned upright.

        Without a resize, JPEGs keep their bytes, but no orientation by which readers turn them.
        """
        frames: dict[str, bytes] = {}
        original_size, turned = video.size(), 0
        size = _target_size(original_size, self.resize)
        for name, path in video.frames.items():
            image = video.read_frame(name)  # completely: a header can hide a damaged end
            if image.shape[:2] != original_size:
                raise DataError(
                    f"video {video.name!r}, frame {name!r}: expected {original_size[1]}x"
                    f"{original_size[0]} pixels like the first frame, found {image.shape[1]}x"
                    f"{image.shape[0]}; the frames of a video must have one size"
                )
            if size != original_size:
                frames[name] = _resize_frame(image, size)
            elif is_jpeg(path):
                data = read_file(path)
                if jpeg_orientation(data) > 1:
                    as_stored = np.array_equal(image, decode_frame(data, str(path)))
                    turned += not as_stored
                    data = without_exif(data) if as_stored else encode_frame(image, JPEG_QUALITY)
                frames[name] = data
            else:
                frames[name] = encode_frame(image, JPEG_QUALITY)
        return frames, size, turned


def is_jpeg(place: Path | FilmFrame) -> TypeGuard[Path]:
    """Return whether a frame is a JPEG, whose bytes can be kept."""
    return isinstance(place, Path) and place.suffix.lower() in (".jpg", ".jpeg")


def _load_mask(video: Video, name: str, size: Size) -> tuple[NDArray[np.uint8], bool]:
    """Read a mask, which must have the size of its frame; see :meth:`Video.load_mask`."""
    mask, smooth = video.load_mask(name)
    if mask.shape != size:
        raise DataError(
            f"{_place(video, name)}: expected a mask of {size[1]}x{size[0]} pixels like its "
            f"frame, found {mask.shape[1]}x{mask.shape[0]}; make the mask again at the frame's size"
        )
    return mask, smooth


def _place(video: Video, name: str | None = None) -> str:
    """Say where a mask of a video is stored, or all of them, for an error message."""
    mask = next(iter(video.masks.values())) if name is None else video.masks[name]
    if isinstance(mask, Path):
        return str(mask.parent if name is None else mask)
    return f"{video.where}: video {video.name!r}" + (f", frame {name!r}" if name else "")


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
