"""What evaluation asks of a video, wherever its frames lie: a tree, or a packed shard."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["VideoSource"]


class VideoSource(Protocol):
    """A video whose pixels are read on request; picklable, so that scoring can use processes.

    ``trees.Video`` and ``shard_videos.ShardVideo`` are of this kind.
    Pixels, ids and names are the same from either.
    """

    @property
    def name(self) -> str:
        """The data set's name of the sequence."""

    @property
    def frames(self) -> Mapping[str, object]:
        """Frame name to where it lies, in time order, never empty."""

    @property
    def masks(self) -> Mapping[str, object]:
        """Frame name to where its mask lies, in time order; not every frame has one."""

    @property
    def binary(self) -> bool:
        """Whether there is one object, any non-zero pixel of a mask (DAVIS 2016)."""

    @property
    def first_seen(self) -> Mapping[int, str]:
        """Object id to the frame that gives its mask; empty if the first frame gives them all."""

    @property
    def required(self) -> Mapping[int, tuple[str, ...]]:
        """Object id to the frames to export; empty for all frames."""

    @property
    def misfits(self) -> tuple[str, ...]:
        """Names of the masks that are sampled at their frame's size when read."""

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames as they are read, pixels."""

    def original_size(self) -> tuple[int, int]:
        """Return (height, width) of the data set's own frames, the size to export."""

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Read a frame, (H, W, 3) uint8 RGB; :class:`DataError` if it is missing or broken."""

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Read a mask, (H, W) uint8 ids; :class:`DataError` if it is missing or broken."""
