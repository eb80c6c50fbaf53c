"""How the results of a data set are exported and scored; what differs between benchmarks."""

from dataclasses import dataclass

from stmtrain.datasets.video import VideoSource
from stmtrain.errors import DataError
from stmtrain.images.masks import ids_present


@dataclass(frozen=True)
class Protocol:
    """The evaluation protocol of a benchmark.

    Attributes:
        name: Part of an evaluation's identity, so that it must not change between releases.
        late_objects: Whether an object may appear after the first frame. If so, each object is
            scored in the frames that are required of it, except the one that gives its mask. If
            not, objects are given in the first frame, and the first and the last frame are not
            scored.
        required_only: Whether only the frames that are required of an object are exported,
            instead of all frames.
        zip_prefix: Folder of the videos in the zip that the benchmark's server takes.
    """

    name: str
    late_objects: bool = False
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

    def has_truth(self, video: VideoSource) -> bool:
        """Return whether there are frames to score and all of them have a mask."""
        if not self.late_objects:
            return len(video.masks) == len(video.frames) >= 3
        return any(len(names) > 1 for names in video.required.values()) and not self._bare(video)

    def scored_frames(self, video: VideoSource) -> dict[int, tuple[str, ...]]:
        """Return object id to the names of the frames in which it is scored, in time order.

        Raises:
            DataError: A frame has no ground truth, or the video is too short.
        """
        bare, needed = self._bare(video), self._needed(video)
        if bare:
            raise DataError(
                f"video {video.name!r}: expected ground truth for every frame, found none for "
                f"{len(bare)} of {len(needed)}, the first is {bare[0]!r}; this split cannot be "
                "scored locally, submit the results to its evaluation server"
            )
        if self.late_objects:
            scored = {object_id: names[1:] for object_id, names in video.required.items()}
            return {object_id: names for object_id, names in scored.items() if names}
        if len(needed) < 3:
            raise DataError(
                f"video {video.name!r}: expected 3 frames or more, found {len(needed)}; the "
                "first and the last are not scored"
            )
        return dict.fromkeys(given_ids(video), needed[1:-1])

    def _needed(self, video: VideoSource) -> tuple[str, ...]:
        """Return the frames that must have ground truth."""
        if not self.late_objects:
            return tuple(video.frames)
        return tuple(dict.fromkeys(name for names in video.required.values() for name in names[1:]))

    def _bare(self, video: VideoSource) -> list[str]:
        return [name for name in self._needed(video) if name not in video.masks]


DAVIS = Protocol("davis")
YOUTUBE_VOS = Protocol(
    "youtube-vos", late_objects=True, required_only=True, zip_prefix="Annotations/"
)
LATE_OBJECTS = Protocol("davis", late_objects=True)
"""Of videos without a benchmark in which objects appear late: all frames are exported."""


def given_ids(video: VideoSource) -> list[int]:
    """Return the object ids that a method is given.

    They are those of ``first_seen``, or those of the first mask where that is empty.

    Raises:
        DataError: The first mask shows no object.
    """
    if video.binary or video.first_seen:
        return [1] if video.binary else list(video.first_seen)
    first = next(iter(video.frames))
    ids = ids_present(video.read_mask(first))
    if not ids:
        raise DataError(
            f"video {video.name!r}: expected objects in the first mask, {first!r}, "
            "found none; the ground truth is damaged"
        )
    return ids
