"""The videos of a shard set, with the same names, ids and pixels as in the data set's files.

Frames that were packed without a resize are the data set's own JPEG bytes, so that results are
equal to the byte. Free of torch.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.dataset import DATASETS
from stmtrain.datasets.definition import Dataset
from stmtrain.datasets.files import folder_name
from stmtrain.datasets.ids import ObjectId
from stmtrain.datasets.protocol import LATE_OBJECTS, OWN_VIDEOS, Protocol
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import ShardError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from stmtrain.shards.urls import shown


@dataclass(frozen=True)
class ShardVideo:
    """One sample of a shard set; see :class:`stmtrain.datasets.video.VideoSource`.

    Attributes:
        location: Folder or URL of the set.
        index: Position of the sample in the set.
        record: The sample's record.
        shards: The open set, not part of a pickle.
        by_key: Whether the sample key is its name, because two videos of the set have one name.
    """

    location: Path | str
    index: int
    record: SampleRecord
    shards: ShardSet = field(compare=False, repr=False)
    by_key: bool = False
    misfits: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The data set's name of the sequence."""
        name = self.record.origin.get("video", self.record.sample_key)
        if self.by_key or not isinstance(name, str):
            return self.record.sample_key
        return self._harmless(folder_name(name))

    @property
    def dataset(self) -> Dataset | None:
        """The data set that the video was packed from, if it is a known one."""
        return DATASETS.get(str(self.record.origin.get("dataset")))

    @property
    def protocol(self) -> Protocol:
        """How results are exported and scored."""
        if self.dataset is not None and self.dataset.protocol is not None:
            return self.dataset.protocol
        return LATE_OBJECTS if self.first_seen else OWN_VIDEOS

    @property
    def frames(self) -> Mapping[str, str]:
        """The data set's frame names to the names in the shard."""
        return self._names

    @property
    def masks(self) -> Mapping[str, str]:
        """The data set's names of the frames that have a mask to the names in the shard."""
        masked = set(self.record.mask_frames)
        return {name: packed for name, packed in self._names.items() if packed in masked}

    @property
    def binary(self) -> bool:
        """Whether any non-zero pixel of a mask belonged to the one object."""
        known = self.dataset is not None and self.dataset.binary
        return known or self.record.origin.get("binary") is True

    @property
    def first_seen(self) -> Mapping[int, str]:
        """Object id to the frame that gives it, as the data set states.

        If it does not, the first frame gives all objects in a data set without late objects; in
        other sets the first mask that shows an object gives it.
        """
        record = self.record
        if "first_seen" in record.origin:
            return self._origin_table("first_seen", str)
        rules = self.dataset.protocol if self.dataset is not None else None
        if rules is not None and not rules.late_objects:
            return {}
        masked = list(self.masks)
        seen = {
            object_id: masked[next(t for t, area in enumerate(areas) if area)]
            for object_id, areas in zip(record.object_ids, record.areas, strict=True)
            if any(areas)
        }
        return seen if set(seen.values()) != {next(iter(self.frames))} else {}

    @property
    def labels(self) -> Mapping[ObjectId, int]:
        """The data set's own object ids, as text, to those in the masks; empty if equal."""
        try:
            return {str(i): int(x) for i, x in self.record.origin.get("id_map", {}).items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise ShardError(
                f"{self.shards.where(self.index)}: id_map is malformed ({error!r}); pack it again"
            ) from None

    @property
    def required(self) -> Mapping[int, tuple[str, ...]]:
        """Object id to the frames that must be segmented, as the data set states."""
        return self._origin_table("required", tuple)

    @property
    def resized(self) -> bool:
        """Whether the frames were resized for packing."""
        return self.size() != self.original_size()

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the packed frames."""
        return self.record.height, self.record.width

    def original_size(self) -> tuple[int, int]:
        """Return (height, width) before the frames were resized for packing."""
        return self.record.original_size

    def read_frame(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a frame to (H, W, 3) uint8 RGB."""
        packed = self._names[frame_name]
        sample = self.shards.read(self.index, [packed], self.record)
        return decode_frame(sample.frames[packed], self._where(packed, "jpg"))

    def read_mask(self, frame_name: str) -> NDArray[np.uint8]:
        """Decode a mask to (H, W) uint8 ids."""
        packed = self._names[frame_name]
        sample = self.shards.read(self.index, [packed], self.record)
        where = self._where(packed, "png")
        if packed not in sample.masks:
            raise ShardError(f"{where}: there is no mask for this frame; pack the set again")
        return decode_mask(sample.masks[packed], where)

    def is_smooth(self, _frame_name: str) -> bool:
        """Return False: packed masks are label maps."""
        return False

    @cached_property
    def _names(self) -> Mapping[str, str]:
        """The data set's frame names, which the record states if they are not the packed ones."""
        packed = self.record.frames
        own = self.record.origin.get("frames", packed)
        if not isinstance(own, list | tuple) or len(set(map(str, own))) != len(packed):
            raise ShardError(
                f"{self.shards.where(self.index)}: frames are malformed; pack it again"
            )
        return {self._harmless(str(name)): x for name, x in zip(own, packed, strict=True)}

    def _harmless(self, name: str) -> str:
        """Return a name that files are called by; refuse one that leads out of a folder."""
        if name in ("", ".", "..") or not name.isprintable() or {"/", "\\"} & set(name):
            raise ShardError(
                f"{self.shards.where(self.index)}: names a video or frame {name!r}, which is no "
                "name of a file; pack it again"
            )
        return name

    def _where(self, frame_name: str, suffix: str) -> str:
        return f"{self.shards.where(self.index)}, member {frame_name}.{suffix}"

    def _origin_table(self, key: str, kind: Callable[[Any], Any]) -> dict[int, Any]:
        """Read a table of the record's origin, whose contents have not been checked yet."""
        try:
            table = {int(i): kind(value) for i, value in self.record.origin.get(key, {}).items()}
            names = [name for value in table.values() for name in _names(value)]
        except (AttributeError, TypeError, ValueError) as error:
            raise ShardError(
                f"{self.shards.where(self.index)}: {key} is malformed ({error!r}); pack it again"
            ) from None
        absent = sorted(set(names) - set(self._names))
        if absent:
            raise ShardError(
                f"{self.shards.where(self.index)}: {key} lists frame {absent[0]!r}, which the "
                "sample does not have; pack it again"
            )
        return dict(sorted(table.items()))

    def __reduce__(self) -> tuple[Callable[..., "ShardVideo"], tuple[Path | str, int, bool]]:
        return _reopen, (self.location, self.index, self.by_key)


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
    videos = [ShardVideo(location, i, shards.record(i), shards) for i in range(len(shards))]
    counts = Counter(video.name for video in videos)
    return [replace(video, by_key=counts[video.name] > 1) for video in videos]


def packed_set(location: Path | str) -> VideoSet:
    """Open a shard set; pixels and ids are those of the files that it was packed from.

    Args:
        location: Folder or URL.

    Raises:
        ShardError: Not a shard set, or one that is incomplete or empty.
    """
    videos = shard_videos(location)
    first = videos[0]
    if first.dataset is not None and first.dataset.title:
        splits = {str(video.record.origin.get("split", "")) for video in videos}
        title = first.dataset.title_of(splits.pop() if len(splits) == 1 else "")
    else:
        title = shown(location) if isinstance(location, str) else location.name
    resized = sum(video.resized for video in videos)
    notes: tuple[str, ...] = ()
    if resized:
        notes = (f"{resized} videos were resized when packed; results have the original size",)
    # In a set without a benchmark, one video with late objects decides for all.
    protocol = next((video for video in videos if video.first_seen), first).protocol
    return VideoSet(title, tuple(videos), protocol, notes)


def _reopen(location: Path | str, index: int, by_key: bool) -> ShardVideo:
    shards = ShardSet.open(location)
    return ShardVideo(location, index, shards.record(index), shards, by_key)


def _names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
