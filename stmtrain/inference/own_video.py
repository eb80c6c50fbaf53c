"""The frames of the user's own video: a folder of images, or a video file.

Frames are turned as EXIF data or the display matrix of the video state, unless the masks only fit
them as stored. One frame is held at a time, whatever the length. Free of torch.
"""

import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from stmtrain.datasets.files import list_images
from stmtrain.errors import DataError, UsageError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_stored
from stmtrain.images.upright import fit_annotation, turned_size
from stmtrain.images.video_file import Frame, decode_video, read_header

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_UNEVEN = 2.5
"""A video has a variable frame rate if a frame lasts so many times as long as half of them."""

_Stored = tuple[str, str, Frame, int]
"""Name, place for error messages, pixels as stored, and EXIF orientation of a frame."""


@dataclass(frozen=True)
class OwnFrames:
    """The frames of a video, read one after another.

    Attributes:
        path: Folder or file.
        names: Frame names in time order; ``None`` for a video file, whose frames are numbered.
        length: Number of frames; ``None`` if it is not known beforehand.
        rate: Frames per second; ``None`` for a folder.
        open: Starts to read: yields name and (H, W, 3) uint8 RGB, all of one size. Its argument,
            if given, is the (height, width) of the masks, px.
        notes: What a user must know of the video; complete when all frames are read.
    """

    path: Path
    names: tuple[str, ...] | None
    length: int | None
    rate: Fraction | None
    open: Callable[..., Iterator[tuple[str, Frame]]]
    notes: list[str] = field(default_factory=list)

    def index(self, text: str) -> int:
        """Return the index of the frame that the user calls ``text``.

        Raises:
            UsageError: There is no such frame.
        """
        number = int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
        if self.names is None:
            if number is not None and (self.length is None or number < self.length):
                return number
            found = f"0 to {self.length - 1}" if self.length else "numbered from 0"
        else:
            if text in self.names:
                return self.names.index(text)
            for i, name in enumerate(self.names):
                if name.isdecimal() and int(name) == number:
                    return i
            found = f"{self.names[0]} to {self.names[-1]}"
        raise UsageError(f"--mask {text}=...: expected a frame of {self.path}, {found}; found none")


def open_frames(path: Path) -> OwnFrames:
    """Open a folder of images or a video file.

    Raises:
        DataError: There is no image or video stream, or FFmpeg cannot read it.
        UsageError: It is a video file, and PyAV is not installed.
    """
    if path.is_dir():
        images = list_images(path, IMAGE_SUFFIXES)
        names = tuple(images)
        stored = partial(_read_images, images)
        return OwnFrames(path, names, len(names), None, partial(_turned, stored))
    if not path.is_file():
        raise DataError(
            f"{path}: expected a folder of frames or a video file, found neither; check the path"
        )
    header = read_header(path)
    notes: list[str] = []
    stored = partial(_number_frames, path, notes)
    return OwnFrames(path, None, header.length, header.rate, partial(_turned, stored), notes)


def _turned(
    read: Callable[[], Iterator[_Stored]], masks: tuple[int, int] | None = None
) -> Iterator[tuple[str, Frame]]:
    """Turn the frames of one video alike: as the first one fits the size of the masks."""
    size: tuple[int, int] | None = None
    first = ""
    for name, where, pixels, orientation in read():
        if size is None:
            first = name
            size = turned_size((pixels.shape[0], pixels.shape[1]), orientation, masks)
        yield name, fit_annotation(pixels, orientation, size, f"frame {first}", where)


def _read_images(images: dict[str, Path]) -> Iterator[_Stored]:
    for name, path in images.items():
        yield name, str(path), *decode_stored(read_file(path), str(path), scale=False)


def _number_frames(path: Path, notes: list[str]) -> Iterator[_Stored]:
    times = array("d")
    for number, (pixels, turned, time) in enumerate(decode_video(path)):
        times.append(time)
        yield f"{number:05d}", f"{path}, frame {number}", pixels, turned
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > _UNEVEN * np.median(gaps):
        notes.append(
            f"{path} has a variable frame rate: frames last up to {gaps.max():.2g} s, in the "
            "overlay all equally long"
        )
