"""Shard sets of videos in the training code of SAM 2, as one of its raw data sets.

Its ``VOSDataset`` asks a raw data set for a video and a loader of segments, samples frames and
objects, and reads the frames with ``iopath``. Here frames are paths that ``iopath`` reads from the
shards, as the JPEG bytes of the data set; segments are decoded when they are asked for, once for
each frame. With the same seeds the samples equal those of ``PNGRawDataset`` on the files, but void
is no object. Only frames with a mask are listed.

Example:
    In the configuration of a training run, in place of ``PNGRawDataset``::

        video_dataset:
          _target_: stmtrain.adapters.sam2.ShardRawDataset
          location: shards/mose
"""

from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stmtrain.adapters.open_sets import OpenSets
from stmtrain.datasets.packed import ShardVideo
from stmtrain.errors import UsageError

_SCHEME = "stm-shards://"


@dataclass
class ShardFrame:
    """A frame as SAM 2 knows it: its number, and where ``iopath`` reads it."""

    frame_idx: int
    image_path: str
    data: None = None
    is_conditioning_only: bool = False


@dataclass
class ShardClip:
    """A video as SAM 2 knows it: its name, its number in the set, and its frames."""

    video_name: str
    video_id: int
    frames: list[ShardFrame]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass
class ShardSegments:
    """The masks of a video's objects.

    Attributes:
        video: The video.
        names: The data set's names of its frames with a mask, by frame number.
    """

    video: ShardVideo
    names: dict[int, str]
    _decoded: dict[int, dict[int, torch.Tensor]] = field(default_factory=dict, repr=False)

    def load(self, frame_id: int) -> dict[int, torch.Tensor]:
        """Return the masks of the objects in a frame, (H, W) bool by object id.

        They are in the order of their first pixels, as in SAM 2's own loaders, whose random choice
        of objects depends on it.

        Raises:
            DataError: The mask is damaged.
        """
        if frame_id not in self._decoded:
            self._decoded[frame_id] = self._decode(self.names[frame_id])
        return self._decoded[frame_id]

    def _decode(self, name: str) -> dict[int, torch.Tensor]:
        record, packed = self.video.record, self.video.masks[name]
        place = record.mask_frames.index(packed)
        there = [i for i, a in zip(record.object_ids, record.areas, strict=True) if a[place]]
        mask = self.video.read_mask(name)
        segments = {object_id: mask == object_id for object_id in there}
        first = {object_id: int(np.argmax(segments[object_id])) for object_id in there}
        return {i: torch.from_numpy(segments[i]) for i in sorted(there, key=first.__getitem__)}


class ShardRawDataset:
    """The videos of a shard set: SAM 2's ``VOSRawDataset``, without its code."""

    def __init__(self, location: str | Path, sample_rate: int = 1) -> None:
        """Open the set and let ``iopath`` read its frames.

        Args:
            location: Folder or URL of a set of videos.
            sample_rate: Keep every so many-th frame of those with a mask.

        Raises:
            StmError: The location is no complete shard set, or ``sample_rate`` is less than 1.
        """
        if sample_rate < 1:
            raise UsageError(f"sample_rate {sample_rate}: expected at least 1")
        self._sets, self._rate = OpenSets(location), sample_rate
        (shards,) = self._sets.get()
        self._length, self._prefix = len(shards), f"{_SCHEME}{shards.manifest_sha256[:16]}/"
        _serve(self._prefix, self._sets)

    def __len__(self) -> int:
        return self._length

    def get_video(self, idx: int) -> tuple[ShardClip, ShardSegments]:
        """Return a video by its index in the set, and the loader of its segments."""
        (shards,) = self._sets.get()
        video = ShardVideo(self._sets.locations[0], idx, shards.record(idx), shards)
        names = list(video.masks)
        digits = all(name.isdecimal() for name in names)
        numbers = [int(name) if digits else place for place, name in enumerate(names)]
        frames = [
            ShardFrame(number, f"{self._prefix}{idx}/{video.masks[name]}.jpg")
            for number, name in list(zip(numbers, names, strict=True))[:: self._rate]
        ]
        segments = ShardSegments(video, dict(zip(numbers, names, strict=True)))
        return ShardClip(video.name, idx, frames), segments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _serve(self._prefix, self._sets)  # a process that was spawned knows no handler


def _serve(prefix: str, sets: OpenSets) -> None:
    """Let ``iopath`` read the frames of a set under a prefix of paths."""
    from iopath.common.file_io import PathHandler, g_pathmgr

    class ShardHandler(PathHandler):  # type: ignore[misc]
        def _get_supported_prefixes(self) -> list[str]:
            return [prefix]

        def _open(self, path: str, *_args: Any, **_options: Any) -> BytesIO:
            index, name = path.removeprefix(prefix).removesuffix(".jpg").split("/")
            (shards,) = sets.get()
            return BytesIO(shards.read_frames(int(index), [name])[0])

    with suppress(KeyError):  # the same set, which is read already
        g_pathmgr.register_handler(ShardHandler(), allow_override=False)
