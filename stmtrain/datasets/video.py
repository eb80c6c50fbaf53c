"""A video of a data set: names of frames and masks, and pixels that are read on request.

:class:`VideoSource` is what evaluation and scoring ask of a video wherever it is stored;
:class:`Video` is one in the files of a data set, ``packed.ShardVideo`` one in a shard set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.files import some
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_frame, decode_mask, frame_size
from stmtrain.images.masks import resample_mask, sharpen
from stmtrain.images.png import png_header
from stmtrain.images.upright import fit_annotation, jpeg_orientation, size_distance, turned_size

MISFIT = 2
"""Most pixels by which a mask's sides may differ from its frame's: some tools round so."""


class VideoSource(Protocol):
    """A video whose pixels are read on request; picklable, so that scoring can use processes.

    Pixels, ids and names do not depend on where the video is stored.
    """

    @property
    def name(self) -> str:
        """The data set's name of the sequence."""

    @property
    def frames(self) -> Mapping[str, object]:
        """Frame name to where the frame is stored, in time order, never empty."""

    @property
    def masks(self) -> Mapping[str, object]:
        """Frame name to where its mask is stored, in time order; some frames may have none."""

    @property
    def binary(self) -> bool:
        """Whether there is one object, any non-zero pixel of a mask (DAVIS 2016)."""

    @property
    def first_seen(self) -> Mapping[int, str]:
        """Object id to the frame that gives its mask; empty if the first frame gives them all."""

    @property
    def required(self) -> Mapping[int, tuple[str, ...]]:
        """Object id to the frames that must be segmented; empty for all frames."""

    @property
    def misfits(self) -> tuple[str, ...]:
        """Frames whose masks are resampled to the size of the frame when they are read."""

    @property
    def resized(self) -> bool:
        """Whether :meth:`size` differs from :meth:`original_size`."""

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames as they are read, pixels."""

    def original_size(self) -> tuple[int, int]:
        """Return (height, width) of the data set's own frames, the size of exported masks."""

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Read a frame, (H, W, 3) uint8 RGB; :class:`DataError` if it is missing or damaged."""

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Read a mask, (H, W) uint8 ids; :class:`DataError` if it is missing or damaged."""

    def is_smooth(self, frame_name: str, /) -> bool:
        """Return whether a mask has smooth edges, so that it is thresholded when it is read."""


@dataclass(frozen=True)
class Video:
    """A video in the files of a data set; frames and masks are paired by name.

    Attributes:
        name: The data set's name of the sequence.
        frames: Frame name (``00000``) to JPEG file, in time order, never empty.
        masks: Frame name to mask PNG, in time order; its names are among those of ``frames``.
        binary: Whether any non-zero pixel of a mask belongs to the one object (DAVIS 2016).
        first_seen: Object id to the name of the frame that gives its mask; empty if the first
            frame gives all masks.
        required: Object id to the names of the frames that must be segmented, in time order;
            empty for all frames.
        origin: What else the data set states about the video, as JSON values, for the record of a
            packed sample.
        misfits: Names of the masks that :func:`fit_masks` found to differ from their frames' size
            by a pixel or two; they are resampled when they are read.
        notes: What a reader of the packed video must know.
    """

    name: str
    frames: Mapping[str, Path]
    masks: Mapping[str, Path]
    binary: bool = False
    first_seen: Mapping[int, str] = field(default_factory=dict)
    required: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def resized(self) -> bool:
        """Return False: these are the data set's own frames."""
        return False

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames in pixels, from the header of the first frame.

        A frame with an EXIF orientation is turned upright, unless the masks only fit it as stored.
        """
        path = next(iter(self.frames.values()))
        data = read_file(path)
        turned = jpeg_orientation(data)
        masks = self.masks.values() if turned >= 5 else ()
        annotated = next((mask_size(mask) for mask in masks), None)
        return turned_size(frame_size(data, str(path)), turned, annotated)

    def original_size(self) -> tuple[int, int]:
        """Return :meth:`size`: these are the data set's own frames."""
        return self.size()

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a frame to (H, W, 3) uint8 RGB; :class:`DataError` if missing or damaged."""
        path = self._path(self.frames, frame_name, "frame")
        data, like = read_file(path), next(iter(self.frames.values())).name
        pixels = decode_frame(data, str(path))
        return fit_annotation(pixels, jpeg_orientation(data), self.size(), like, str(path))

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a mask to (H, W) uint8 object ids; :class:`DataError` if missing or damaged.

        Ids are as stored, 255 is void; in a binary video every non-zero pixel becomes 1. A mask of
        one object with smooth edges is thresholded; one of several is refused.
        """
        return self.load_mask(frame_name)[0]

    def is_smooth(self, frame_name: str) -> bool:
        """Return whether a mask has smooth edges, so that it is thresholded when it is read."""
        return self.load_mask(frame_name)[1]

    def load_mask(self, frame_name: str) -> tuple[NDArray[np.uint8], bool]:
        """Return what :meth:`read_mask` and :meth:`is_smooth` return."""
        path = self._path(self.masks, frame_name, "mask")
        mask, smooth = sharpen(decode_mask(read_file(path), str(path)), str(path))
        if frame_name in self.misfits:
            mask = resample_mask(mask, self.size())
        return (mask > 0).astype(np.uint8) if self.binary else mask, smooth

    def _path(self, files: Mapping[str, Path], frame_name: str, kind: str) -> Path:
        if frame_name not in files:
            raise DataError(
                f"video {self.name!r}: expected a {kind} for frame {frame_name!r}, found none; "
                f"there are {len(files)}: {some(files)}"
            )
        return files[frame_name]


def fit_masks(video: Video) -> Video:
    """Compare the size in the masks' headers with the frames' size.

    Returns:
        The video, with the masks of another size in ``misfits``.

    Raises:
        DataError: A mask's side differs by more than :data:`MISFIT` pixels.
    """
    size = video.size()
    misfits = [n for n, path in video.masks.items() if is_misfit(path, mask_size(path), size)]
    return replace(video, misfits=tuple(misfits))


def mask_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of a mask in pixels, from its header if it is a PNG."""
    header = png_header(read_file(path, most=26))
    if header:
        return header.height, header.width
    height, width = decode_mask(read_file(path), str(path)).shape
    return height, width


def is_misfit(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether a mask must be resampled to the size of its frame.

    Args:
        path: File of the mask.
        found: Its (height, width), pixels.
        size: (height, width) of the frame.

    Raises:
        DataError: A side differs by more than :data:`MISFIT` pixels.
    """
    if size_distance(found, size) > MISFIT:
        raise DataError(
            f"{path}: expected a mask of {size[1]}x{size[0]} pixels like its frame, found "
            f"{found[1]}x{found[0]}; create the mask at the frame's size, upright if the frame has "
            "an EXIF orientation"
        )
    return found != size
