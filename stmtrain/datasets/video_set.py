"""A set of videos to segment or to score, wherever it comes from.

``dataset.Dataset.open`` opens a known data set, ``folder.folder_set`` a plain tree of frames and
masks, and ``packed.packed_set`` a shard set. Whatever can be checked without the network is checked
here, before hours of work. Free of torch.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from stmtrain.datasets.protocol import PROTOCOLS, Protocol
from stmtrain.datasets.video import VideoSource
from stmtrain.images.masks import ids_present
from stmtrain.shards.sample import canonical_json

NOTHING_COUNTS = "no object has a frame that counts after the one that gives it"


@dataclass(frozen=True)
class VideoSet:
    """Videos to segment.

    Attributes:
        dataset: Name for reports: ``DAVIS 2017 val``.
        videos: In the data set's order.
        protocol: How results are exported and scored.
        notes: What a reader of the results must know about the input.
        split: The split, as the official tool names it in its files.
        left_out: Videos that cannot be used at all, by name, with the reason.
        unseen: The objects, as (video, object id), whose categories or videos were not trained on;
            None if that is unknown.
    """

    dataset: str
    videos: tuple[VideoSource, ...]
    protocol: Protocol
    notes: tuple[str, ...] = ()
    split: str = "val"
    left_out: Mapping[str, str] = field(default_factory=dict)
    unseen: frozenset[tuple[str, int]] | None = None

    def scored_by(self, rules: Protocol) -> "VideoSet":
        """Return the set with other rules; one's own rules leave what is exported as it is."""
        own = rules.base not in PROTOCOLS and rules.tree == "folders"
        return replace(self, protocol=rules.exporting_as(self.protocol) if own else rules)

    @property
    def frames(self) -> int:
        """Frames of all videos."""
        return sum(len(video.frames) for video in self.videos)

    @property
    def misfits(self) -> tuple[str, ...]:
        """The masks that are resampled to their frames' size, as ``video/frame``."""
        return tuple(f"{video.name}/{name}" for video in self.videos for name in video.misfits)

    def identity(self) -> str:
        """Return a digest of names, masks and objects: equal from a tree and from its shards."""
        digest = hashlib.sha256(canonical_json([self.protocol.exports, self.dataset]))
        for v in self.videos:
            names = [v.name, v.binary, list(v.frames), list(v.masks), dict(v.first_seen)]
            digest.update(canonical_json(names))
        return digest.hexdigest()

    def unscored(self) -> dict[str, str]:
        """Return the videos that cannot be scored here, by name, with the reason."""
        reasons = {video.name: why_not_scored(self.protocol, video) for video in self.videos}
        return {**self.left_out, **{name: why for name, why in reasons.items() if why is not None}}

    def why_not_scored(self) -> str | None:
        """Return why no video of the set can be scored here; None if some can be.

        By a strict protocol none can be if the ground truth of one is incomplete.
        """
        unscored = self.unscored()
        every = all(video.name in unscored for video in self.videos)
        blocking = [
            f"{name}: {why}"
            for name, why in unscored.items()
            if every or not (self.protocol.sparse or why == NOTHING_COUNTS)
        ]
        if not blocking:
            return None
        count = len(self.videos) + len(self.left_out)
        return f"{len(blocking)} of {count} videos cannot be scored; {'; '.join(blocking[:3])}"


def why_not_scored(protocol: Protocol, video: VideoSource) -> str | None:
    """Return why a video cannot be scored, and what helps; None if it can be."""
    if video.resized:
        return "its frames were resized when packed; score against the data set's own files"
    if not protocol.late_objects and len(video.frames) < 3:
        return f"expected 3 frames or more, found {len(video.frames)}; first and last do not count"
    counted = protocol.counted(video)
    if not counted:
        return f"expected objects in the first mask, {next(iter(video.frames))!r}, found none"
    names = list(dict.fromkeys(chain(*counted.values())))
    if not names:
        return NOTHING_COUNTS
    bare = [name for name in names if name not in video.masks]
    if not bare or (protocol.sparse and len(bare) < len(names)):
        return None
    given = {next(iter(video.frames)), *video.first_seen.values()}
    advice = "add the missing masks"
    if not protocol.sparse and given.issuperset(video.masks):
        advice = "this split cannot be scored locally, submit the results to its server"
    return (
        f"no ground truth for {len(bare)} of {len(names)} frames that count, the first is "
        f"{bare[0]!r}; {advice}"
    )


def given_objects(video: VideoSource) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """Find out which mask gives which object; reads masks until each object was seen.

    An object is given by the first mask that shows it, but not before the frame that ``first_seen``
    names. If that is empty, the first frame gives all of them.

    Returns:
        Frame index to the ids that are given there, and the ids that no mask shows.
    """
    names = list(video.frames)
    if not video.first_seen:
        ids = tuple(ids_present(video.read_mask(names[0])))
        return {0: ids}, [] if ids else [0]
    left = {i: names.index(name) for i, name in video.first_seen.items()}
    given: dict[int, tuple[int, ...]] = {}
    for name in video.masks:
        t = names.index(name)
        due = [i for i, first in left.items() if first <= t]
        if not due:
            continue
        present = ids_present(video.read_mask(name))
        ids = tuple(i for i in due if i in present)
        if ids:
            given[t] = ids
        for i in ids:
            del left[i]
        if not left:
            break
    return given, sorted(left)
