"""The frames of a video file, decoded by PyAV (the extra ``video``). Free of torch.

Frames come in presentation order. They are decoded in one pass, and one is held at a time, whatever
the length.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import DataError, UsageError
from stmtrain.extras import has_extra, pip_install
from stmtrain.files import open_regular
from stmtrain.images.decode import MAX_PIXELS
from stmtrain.images.upright import turn

if TYPE_CHECKING:
    import av

Frame = NDArray[np.uint8]

_NO_NETWORK = {"protocol_whitelist": "file"}
"""FFmpeg opens whatever a playlist names: allow only files of this machine."""
_TURNS = (1, 8, 3, 6)
"""EXIF orientations that turn a picture left by 0, 90, 180 and 270 degrees."""
_KEPT = 8
"""Frames that stay decoded, for readers that do not ask strictly in order."""


@dataclass(frozen=True)
class VideoHeader:
    """What a video file states: number of frames, ``None`` if unknown, and frames per second."""

    length: int | None
    rate: Fraction


def read_header(path: Path) -> VideoHeader:
    """Read what a video file states about itself.

    Raises:
        DataError: There is no video stream, or FFmpeg cannot read it.
        UsageError: PyAV is not installed.
    """
    if not has_extra("video"):
        raise UsageError(
            f"{path}: a video file needs PyAV, which is not installed; "
            f"{pip_install('video')}, or give a folder of frames"
        )
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        return VideoHeader(stream.frames or None, Fraction(rate or 25))


def decode_video(path: Path) -> Iterator[tuple[Frame, int, float]]:
    """Yield the frames of a video file as stored, (H, W, 3) uint8 RGB, how to turn them, and times.

    Times are seconds; 0 where the file has none. Phones film sideways, and the display matrix says
    how to rotate. That is given as the EXIF orientation, 1..8, that turns a picture so.

    Raises:
        DataError: It is damaged, or has no frames.
    """
    frames = _decode(path, threads=0)
    return ((*_pixels(frame), frame.time or 0.0) for frame in frames)


class VideoFile:
    """Frames of a video file by number, in one pass where numbers ascend; safe in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = -1
        self._kept: OrderedDict[int, Frame] = OrderedDict()

    def read(self, number: int) -> Frame:
        """Return a frame upright, (H, W, 3) uint8 RGB; those before it are not converted.

        Raises:
            DataError: The file is damaged, or has fewer frames.
        """
        with self._lock:
            if number not in self._kept:
                self._kept[number] = np.ascontiguousarray(turn(*_pixels(self._advance(number))))
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            return self._kept[number]

    def _advance(self, number: int) -> "av.VideoFrame":
        if self._next < 0 or number < self._next:
            # One thread: packing runs in processes, whose memory would grow with threads' heaps.
            self._frames, self._next = _decode(self._path, threads=1), 0
        for frame in self._frames:
            self._next += 1
            if self._next > number:
                return frame
        count, self._next = self._next, -1
        raise DataError(
            f"{self._path}: expected frame {number}, which its annotation names, found {count} "
            "frames; the file is incomplete, download it again"
        )


def _decode(path: Path, threads: int) -> "Iterator[av.VideoFrame]":
    """Decode with so many threads, 0 for as many as FFmpeg likes."""
    import av

    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        count = 0
        try:
            for frame in container.decode(stream):
                yield frame
                count += 1
        except av.FFmpegError as error:
            raise DataError(
                f"{path}: cannot be decoded after {count} frames ({error}); download or convert it "
                "again"
            ) from None
    if not count:
        raise DataError(f"{path}: expected frames, found none; the file is empty or damaged")


def _pixels(frame: "av.VideoFrame") -> tuple[Frame, int]:
    turned = _TURNS[round(frame.rotation / 90) % 4]
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), turned


def _opened(path: Path) -> Any:
    """Open a container that has a video stream of a size that can be decoded."""
    import av

    try:
        open_regular(path).close()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    try:
        container = av.open(str(path.resolve()), options=_NO_NETWORK)
    except (OSError, av.FFmpegError) as error:
        raise DataError(
            f"{path}: expected a video that FFmpeg can read ({error}); convert it to MP4"
        ) from None
    if not container.streams.video:
        container.close()
        raise DataError(f"{path}: expected a video stream, found none; convert it to MP4")
    context = container.streams.video[0].codec_context
    if context is None or context.width * context.height > MAX_PIXELS:
        container.close()
        raise DataError(
            f"{path}: cannot be decoded, or exceeds {MAX_PIXELS} pixels per frame; convert it to a "
            "smaller MP4"
        )
    return container
