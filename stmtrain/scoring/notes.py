"""What a reader of scores must know besides the numbers, one line each."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stmtrain.datasets.files import some
from stmtrain.datasets.protocol import Protocol
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet
from stmtrain.scoring.metrics import Measures
from stmtrain.scoring.scores import VOID_RULES, Scores


def set_notes(results: Path, found: Scores, void_frames: int) -> Iterator[str]:
    """Note what a reader must know to believe the numbers, before details of single videos."""
    for name, what in found.missing.items():
        yield f"MISSING {name}: {what}"
    if all(value == 1 for one in found.objects for value in (*one.j_values, *one.f_values)):
        yield (
            f"every scored mask equals the ground truth; check that {results} holds the masks of "
            "a method, not the annotations"
        )
    if void_frames:
        yield f"void in {void_frames} scored frames: {VOID_RULES[found.rules.void]}"
    for name, why in found.unscored.items():
        yield f"{name}: not scored, {why}"
    if found.rules.short_decay and any(len(one.frames) > 256 for one in found.objects):
        yield "decay of more than 256 frames is wrong, as in the official code; see --as-meant"


def smooth_truth(videos: VideoSet) -> Iterator[str]:
    """Name the videos whose masks are thresholded; the first mask stands for all."""
    smooth = [v.name for v in videos.videos if v.masks and v.is_smooth(next(iter(v.masks)))]
    if smooth:
        yield f"ground truth with smooth edges, thresholded at half: {some(smooth)}"


def object_notes(
    video: VideoSource,
    object_ids: Sequence[int],
    scored: Mapping[int, object],
    measured: Mapping[int, Sequence[Measures]],
    protocol: Protocol,
) -> Iterator[str]:
    """Note the objects that are not scored, and those that no true mask shows."""
    for object_id in sorted(set(object_ids) - set(scored)):
        yield f"{video.name}: object {object_id} is not scored, no frame that counts has its mask"
    never = [i for i, values in measured.items() if not any(v.true_area for v in values)]
    if never and protocol.objects == "seen":
        yield f"{video.name}: {_listed(never)} are not scored, no scored true mask shows them"
    elif never and protocol.objects in ("numbered", "listed"):
        yield (
            f"{video.name}: no scored true mask shows {_listed(never)}; they count 1 where the "
            "result does not show them either"
        )


def unknown_in_words(frames_of: Counter[int], object_ids: Sequence[int]) -> str:
    """Describe ids that are not object ids, given the number of frames that have each."""
    return (
        f"{_listed(sorted(frames_of))} in up to {max(frames_of.values())} frames are none of its "
        f"object ids ({', '.join(map(str, object_ids))}) and count as background"
    )


def _listed(ids: Sequence[int], most: int = 8) -> str:
    more = ", ..." if len(ids) > most else ""
    return ", ".join(map(str, ids[:most])) + more
