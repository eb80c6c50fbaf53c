"""A video of a data set: names of frames and masks, and pixels that are read on request.

:class:`VideoSource` is what evaluation and scoring ask of a video wherever it is stored;
:class:`Video` is one in the files of a data set, ``packed.ShardVideo`` one in a shard set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.files import some
from stmtrain.datasets.ids import ObjectId, rank_values, read_wide
from stmtrain.datasets.misfit import is_misfit, mask_size
from stmtrain.datasets.shapes import Overlap, Shape, paint
from stmtrain.errors import DataError
from stmtrain.files import read_file
from stmtrain.images.decode import decode_frame, decode_mask, decode_still, frame_size
from stmtrain.images.masks import MAX_OBJECT_ID, resample_mask, sharpen
from stmtrain.images.png import png_header
from stmtrain.images.upright import fit_annotation, jpeg_orientation, turned_size
from stmtrain.images.video_file import VideoFile


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
    def labels(self) -> Mapping[ObjectId, int]:
        """The data set's own object ids to those in masks; empty if they are equal."""

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
class FilmFrame:
    """A frame of a video file, by its number in presentation order from 0."""

    path: Path
    number: int


@dataclass(frozen=True)
class Video:
    """A video in the files of a data set; frames and masks are paired by name.

    Attributes:
        name: The data set's name of the sequence.
        frames: Frame name (``00000``) to image file, or frame of a video file, in time order, never
            empty.
        masks: Frame name to mask, in time order: a PNG of ids, or the objects of the frame, none if
            the frame was annotated and shows none. Its names are among those of ``frames``; a frame
            that is absent was not annotated.
        split: The split that it belongs to; empty if the data set has none.
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
        id_map: The data set's object ids to the ids in label maps, 1..254; empty if they are equal.
            Objects that it lacks are background.
        wide: Whether masks are PNGs of more than 8 bits; without ``id_map`` their values get ids
            from 1 in ascending order.
        void: The value of wide masks that is void.
        overlap: What is on top where objects overlap.
        sources: Files that hold annotations of this video alone.
        where: The file that holds its annotations; opens error messages.
    """

    name: str
    frames: Mapping[str, Path | FilmFrame]
    masks: Mapping[str, Path | Mapping[ObjectId, Shape]]
    split: str = ""
    binary: bool = False
    first_seen: Mapping[int, str] = field(default_factory=dict)
    required: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    misfits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    id_map: Mapping[ObjectId, int] = field(default_factory=dict)
    wide: bool = False
    void: int | None = None
    overlap: Overlap = "smaller"
    sources: tuple[Path, ...] = ()
    where: str = ""

    @property
    def resized(self) -> bool:
        """Return False: these are the data set's own frames."""
        return False

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames in pixels, from the first frame.

        A frame with an EXIF orientation is turned upright, unless the masks only fit it as stored.
        """
        return self._size

    @cached_property
    def _size(self) -> tuple[int, int]:
        first = next(iter(self.frames.values()))
        if isinstance(first, FilmFrame):
            height, width, _ = self._film.read(first.number).shape
            return height, width
        data = read_file(first)
        header = png_header(data)
        if header is not None:
            return header.height, header.width
        turned = jpeg_orientation(data)
        masks = (mask for mask in self.masks.values() if isinstance(mask, Path) and turned >= 5)
        annotated = next((mask_size(mask) for mask in masks), None)
        return turned_size(frame_size(data, str(first)), turned, annotated)

    def original_size(self) -> tuple[int, int]:
        """Return :meth:`size`: these are the data set's own frames."""
        return self.size()

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a frame to (H, W, 3) uint8 RGB; :class:`DataError` if missing or damaged."""
        frame = self._at(self.frames, frame_name, "frame")
        first = next(iter(self.frames.values()))
        if isinstance(frame, FilmFrame) or isinstance(first, FilmFrame):
            return self._film.read(frame.number)
        data = read_file(frame)
        if frame.suffix.lower() == ".png":
            pixels, turned = decode_still(data, str(frame), scale=False), 1
        else:
            pixels, turned = decode_frame(data, str(frame)), jpeg_orientation(data)
        return fit_annotation(pixels, turned, self.size(), first.name, str(frame))

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a mask to (H, W) uint8 object ids; :class:`DataError` if missing or damaged.

        Ids are those of ``labels``, or as stored; 255 is void. In a binary video every non-zero
        pixel becomes 1. A mask of one object with smooth edges is thresholded; one of several is
        refused.
        """
        return self.load_mask(frame_name)[0]

    def is_smooth(self, frame_name: str) -> bool:
        """Return whether a mask has smooth edges, so that it is thresholded when it is read."""
        return self.load_mask(frame_name)[1]

    def load_mask(self, frame_name: str) -> tuple[NDArray[np.uint8], bool]:
        """Return what :meth:`read_mask` and :meth:`is_smooth` return."""
        source = self._at(self.masks, frame_name, "mask")
        if not isinstance(source, Path):
            return self._paint(source, frame_name), False
        if self.wide:
            known = {i: self._label(i) for i in self.labels}
            return read_wide(source, known, self.void), False
        mask, smooth = sharpen(decode_mask(read_file(source), str(source)), str(source))
        if frame_name in self.misfits:
            mask = resample_mask(mask, self.size())
        return (mask > 0).astype(np.uint8) if self.binary else mask, smooth

    @cached_property
    def labels(self) -> Mapping[ObjectId, int]:
        """The data set's object ids to the ids in label maps; empty if they are equal.

        In masks of more than 8 bits, all of them are read to find the ids.
        """
        if self.id_map or not self.wide:
            return self.id_map
        paths = [path for path in self.masks.values() if isinstance(path, Path)]
        return rank_values(paths, self.void)

    @cached_property
    def _film(self) -> VideoFile:
        first = next(iter(self.frames.values()))
        assert isinstance(first, FilmFrame)
        return VideoFile(first.path)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_film"}

    def _paint(self, shapes: Mapping[ObjectId, Shape], frame_name: str) -> NDArray[np.uint8]:
        objects = {}
        for object_id, draw in shapes.items():
            if object_id not in self.labels:
                continue
            label = self._label(object_id)
            try:
                objects[label] = draw(self.size())
            except DataError as error:  # of a mask file, with advice of its own
                raise DataError(
                    f"{self._where()}, frame {frame_name!r}, object {object_id!r}: {error}"
                ) from None
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise DataError(
                    f"{self._where()}, frame {frame_name!r}, object {object_id!r}: {error}; "
                    "restore the original file"
                ) from None
        return paint(objects, self.size(), self.overlap)

    def _label(self, object_id: ObjectId) -> int:
        label = self.labels[object_id]
        if label > MAX_OBJECT_ID:
            raise DataError(
                f"{self._where()}: expected up to {MAX_OBJECT_ID} objects, found "
                f"{len(self.labels)}; split it in packing, with --many-objects split"
            )
        return label

    def _where(self) -> str:
        return f"{self.where}: video {self.name!r}" if self.where else f"video {self.name!r}"

    def _at(self, places: Mapping[str, Any], frame_name: str, kind: str) -> Any:
        if frame_name not in places:
            raise DataError(
                f"video {self.name!r}: expected a {kind} for frame {frame_name!r}, found none; "
                f"there are {len(places)}: {some(places)}"
            )
        return places[frame_name]


def fit_masks(video: Video) -> Video:
    """Compare the size in the masks' headers with the frames' size.

    Returns:
        The video, with the masks of another size in ``misfits``.

    Raises:
        DataError: A mask's side differs by more than :data:`MISFIT` pixels.
    """
    size = video.size()
    paths = {n: path for n, path in video.masks.items() if isinstance(path, Path)}
    misfits = [n for n, path in paths.items() if is_misfit(path, mask_size(path), size)]
    return replace(video, misfits=tuple(misfits))
