"""How the results of a data set are exported and scored; what differs between benchmarks."""

from dataclasses import dataclass
from itertools import chain

from stmtrain.datasets.video import VideoSource
from stmtrain.images.masks import ids_present

NOTHING_COUNTS = "no object has a frame that counts after the one that gives it"


@dataclass(frozen=True)
class Protocol:
    """The evaluation protocol of a benchmark.

    Attributes:
        name: Part of an evaluation's identity, so that it must not change between releases.
        late_objects: Whether an object may appear after the first frame. If so, each object is
            scored in the frames that are required of it, except the one that gives its mask. If
            not, objects are given in the first frame, and the first and the last frame are not
            scored.
        sparse: Whether masks of some frames suffice. If so, the frames without one are not scored,
            and a video that cannot be scored is left out of the mean. If not, one missing mask
            makes the set impossible to score.
        required_only: Whether only the frames that are required of an object are exported,
            instead of all frames.
        zip_prefix: Folder of the videos in the zip that the benchmark's server takes.
    """

    name: str
    late_objects: bool = False
    sparse: bool = False
    required_only: bool = False
    zip_prefix: str = ""

    @property
    def frames_excluded(self) -> tuple[str, ...]:
        """The frames of a video that are not scored, in words."""
        return ("each object's first",) if self.late_objects else ("first", "last")

    def exported(self, video: VideoSource) -> tuple[str, ...]:
        """Return the names of the frames whose masks are results, in time order."""
        if not self.required_only or not video.required:
            return tuple(video.frames)
        wanted = {name for names in video.required.values() for name in names}
        return tuple(name for name in video.frames if name in wanted)

    def scored_frames(self, video: VideoSource) -> dict[int, tuple[str, ...]]:
        """Return object id to the names of the frames in which it is scored, in time order.

        Objects that are scored in no frame are absent.
        """
        scored = self._counted(video)
        if self.sparse:
            scored = {i: tuple(n for n in names if n in video.masks) for i, names in scored.items()}
        return {object_id: names for object_id, names in scored.items() if names}

    def why_not_scored(self, video: VideoSource) -> str | None:
        """Return why a video cannot be scored, and what helps; None if it can be."""
        if video.resized:
            return "its frames were resized when packed; score against the data set's own files"
        if not self.late_objects and len(video.frames) < 3:
            return (
                f"expected 3 frames or more, found {len(video.frames)}; first and last do not count"
            )
        counted = self._counted(video)
        if not counted:
            return f"expected objects in the first mask, {next(iter(video.frames))!r}, found none"
        names = list(dict.fromkeys(chain(*counted.values())))
        if not names:
            return NOTHING_COUNTS
        bare = [name for name in names if name not in video.masks]
        if not bare or (self.sparse and len(bare) < len(names)):
            return None
        given = {next(iter(video.frames)), *video.first_seen.values()}
        advice = "add the missing masks"
        if not self.sparse and given.issuperset(video.masks):
            advice = "this split cannot be scored locally, submit the results to its server"
        return (
            f"no ground truth for {len(bare)} of {len(names)} frames that count, the first is "
            f"{bare[0]!r}; {advice}"
        )

    def _counted(self, video: VideoSource) -> dict[int, tuple[str, ...]]:
        """Return object id to the frames that count by the protocol, with a mask or without."""
        names = tuple(video.frames)
        if not self.late_objects:
            return dict.fromkeys(given_ids(video), names[1:-1])
        if video.required:
            return {object_id: frames[1:] for object_id, frames in video.required.items()}
        first_seen = video.first_seen or dict.fromkeys(given_ids(video), names[0])
        return {i: names[names.index(first) + 1 :] for i, first in first_seen.items()}


DAVIS = Protocol("davis")
YOUTUBE_VOS = Protocol(
    "youtube-vos", late_objects=True, required_only=True, zip_prefix="Annotations/"
)
OWN_VIDEOS = Protocol("davis", sparse=True)
"""Of videos without a benchmark."""
LATE_OBJECTS = Protocol("davis", late_objects=True, sparse=True)
"""Of videos without a benchmark in which objects appear late: all frames are exported."""


def given_ids(video: VideoSource) -> list[int]:
    """Return the object ids that a method is given.

    They are those of ``first_seen``, or those of the first mask where that is empty.
    """
    if video.binary or video.first_seen:
        return [1] if video.binary else list(video.first_seen)
    return ids_present(video.read_mask(next(iter(video.frames))))
