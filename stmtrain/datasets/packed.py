"""The videos of a shard set as evaluation wants them: the same names, ids and pixels as the tree's.

Frames that were packed without a resize are the data set's own JPEG bytes, so results are the same
to the byte. Torch-free.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import ShardError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord

__all__ = ["ShardVideo", "shard_videos"]


@dataclass(frozen=True)
class ShardVideo:
    """One sample of a shard set; see :class:`stmtrain.datasets.video.VideoSource`.

    Attributes:
        location: Folder or URL of the set.
        index: Which sample.
        record: Its record.
        shards: The open set, not part of a pickle.
    """

    location: Path | str
    index: int
    record: SampleRecord
    shards: ShardSet = field(compare=False, repr=False)
    misfits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The sample key, which is the data set's name of the sequence."""
        return self.record.sample_key

    @property
    def frames(self) -> Mapping[str, str]:
        """Frame name to tar member."""
        return {name: f"{self.name}.{name}.jpg" for name in self.record.frames}

    @property
    def masks(self) -> Mapping[str, str]:
        """Frame name to tar member of its mask."""
        return {name: f"{self.name}.{name}.png" for name in self.record.mask_frames}

    @property
    def binary(self) -> bool:
        """Whether it is of DAVIS 2016."""
        return self.record.origin.get("dataset") == "davis2016"

    @property
    def first_seen(self) -> Mapping[int, str]:
        """Object id to the frame that gives it, as ``meta.json`` of YouTube-VOS said.

        Other sets say nothing: their objects are given where a mask first shows them, except in
        DAVIS, where all are given in the first frame.
        """
        record = self.record
        if "first_seen" in record.origin:
            return self._said("first_seen", str)
        if str(record.origin.get("dataset", "")).startswith("davis"):
            return {}
        seen = {
            object_id: record.mask_frames[next(t for t, area in enumerate(areas) if area)]
            for object_id, areas in zip(record.object_ids, record.areas, strict=True)
            if any(areas)
        }
        return seen if set(seen.values()) != {record.frames[0]} else {}

    @property
    def required(self) -> Mapping[int, tuple[str, ...]]:
        """Object id to the frames that ``meta.json`` of YouTube-VOS lists for it."""
        return self._said("required", tuple)

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the packed frames."""
        return self.record.height, self.record.width

    def original_size(self) -> tuple[int, int]:
        """Return (height, width) before the frames were resized for packing."""
        return self.record.original_size

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a frame to (H, W, 3) uint8 RGB."""
        sample = self.shards.read(self.index, [frame_name], self.record)
        return decode_frame(sample.frames[frame_name], self._where(frame_name, "jpg"))

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a mask to (H, W) uint8 ids."""
        sample = self.shards.read(self.index, [frame_name], self.record)
        where = self._where(frame_name, "png")
        if frame_name not in sample.masks:
            raise ShardError(f"{where}: there is no mask for this frame; pack the set again")
        return decode_mask(sample.masks[frame_name], where)

    def _where(self, frame_name: str, suffix: str) -> str:
        return f"{self.shards.where(self.index)}, member {frame_name}.{suffix}"

    def _said(self, key: str, kind: Callable[[Any], Any]) -> dict[int, Any]:
        """Read a table of the record, whose contents nobody has checked yet."""
        try:
            table = {int(i): kind(value) for i, value in self.record.origin.get(key, {}).items()}
            names = [name for value in table.values() for name in _listed(value)]
        except (AttributeError, TypeError, ValueError) as error:
            raise ShardError(
                f"{self.shards.where(self.index)}: {key} is malformed ({error!r}); pack it again"
            ) from None
        strange = sorted(set(names) - set(self.record.frames))
        if strange:
            raise ShardError(
                f"{self.shards.where(self.index)}: {key} lists frame {strange[0]!r}, which the "
                "sample does not have; pack it again"
            )
        return dict(sorted(table.items()))

    def __reduce__(self) -> tuple[Callable[..., "ShardVideo"], tuple[Path | str, int]]:
        return _reopen, (self.location, self.index)


def shard_videos(location: Path | str) -> list[ShardVideo]:
    """List the samples of a shard set as videos, in the order of the set.

    Args:
        location: Folder or URL.

    Raises:
        ShardError: Not a shard set, or one that is incomplete or empty.
    """
    shards = ShardSet.open(location)
    if not len(shards):
        raise ShardError(f"{shards.name}: expected videos, found an empty set; pack it again")
    return [ShardVideo(location, i, shards.record(i), shards) for i in range(len(shards))]


def _reopen(location: Path | str, index: int) -> ShardVideo:
    shards = ShardSet.open(location)
    return ShardVideo(location, index, shards.record(index), shards)


def _listed(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
