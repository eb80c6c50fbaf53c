"""Score a folder of result masks against the ground truth of a data set.

The results are ``<results>/<video>/<frame>.png``, written by any method. The protocol states what
is scored and how (:mod:`stmtrain.datasets.protocol`). A scored frame without a result is an error,
never an empty mask; a video without results counts as the protocol says, and is listed. An id that
the ground truth does not have counts as background, and a note reports it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.protocol import Protocol, find_protocol
from stmtrain.datasets.truth import open_truth
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.images.masks import VOID, areas
from stmtrain.processes import Progress, map_unordered
from stmtrain.scoring.metrics import NOTHING, Measures, Rule, measure
from stmtrain.scoring.notes import object_notes, set_notes, smooth_truth, unknown_in_words
from stmtrain.scoring.results import (
    extra_files,
    extra_folders,
    folder_of,
    in_order,
    missing_videos,
    read_result,
)
from stmtrain.scoring.scores import ObjectScore, Scores

_MISSING = {
    "zero": "no folder of results: its objects count 0 in J and F",
    "leave out": "no folder of results: left out of every mean",
}


@dataclass(frozen=True)
class VideoScore:
    """The scores of a video's objects, and notes on its result files for the reader.

    ``void_frames`` of its scored frames have void pixels in the ground truth.
    """

    objects: tuple[ObjectScore, ...]
    notes: tuple[str, ...] = ()
    void_frames: int = 0


def score(
    results: Path | str,
    root: Path | str,
    dataset: str = "davis2017",
    split: str | None = None,
    *,
    protocol: str | None = None,
    as_meant: bool = False,
    workers: int = 1,
) -> Scores:
    """Score a folder of result masks against a data set, as ``stm score`` does.

    Args:
        results: Folder with ``<video>/<frame>.png``, written by any method.
        root: Folder of the data set.
        dataset: ``davis2016``, ``davis2017``, ``youtube-vos``, ...: a name in
            :data:`stmtrain.datasets.dataset.DATASETS`.
        split: Part of the data set; by default the one that is usually evaluated.
        protocol: ``mose2``, ``lvos``, ...: a name in
            :data:`stmtrain.datasets.protocol.PROTOCOLS`, or a TOML file. Its layout is used instead
            of that of ``dataset``, and frames need not be there.
        as_meant: Leave out the faults of the protocol's official code.
        workers: Processes; the scores do not depend on it.

    Returns:
        The scores, each in [0, 1]: ``j_and_f``, ``j.mean``, ``f.mean``, and those of every object.

    Raises:
        UsageError: The data set, split or protocol is unknown.
        DataError: A scored frame has no result or no ground truth, or a file is damaged.

    Example:
        >>> score("results", "DAVIS", "davis2017", "val").j_and_f  # doctest: +SKIP
        0.818
    """
    if protocol is None:
        videos = find_dataset(dataset).open(Path(root), split)
    else:
        videos = open_truth(Path(root), find_protocol(protocol, meant=as_meant), split)
    return score_results(Path(results), videos, workers)


def score_results(
    results: Path, videos: VideoSet, workers: int = 1, progress: Progress | None = None
) -> Scores:
    """Score ``<results>/<video>/<frame>.png`` against the ground truth of every video.

    Palette, grey and 0/255 PNGs are all read by stored value. Ids that the ground truth does not
    have count as background. Frames that are not scored may be missing.

    Args:
        results: The folder of results.
        videos: Ground truth and the protocol to score by.
        workers: Processes, 1 for this one; the scores do not depend on it.
        progress: Called after each video.

    Raises:
        UsageError: No videos, videos of several kinds, or ``workers`` below 1.
        DataError: A result or ground truth is missing, unreadable or of the wrong size.
    """
    if not videos.videos:
        raise UsageError("videos: expected one or more, found none")
    if workers < 1:
        raise UsageError(f"workers: expected 1 or more, found {workers}")
    if not results.is_dir():
        raise DataError(f"{results}: expected the folder of results, found none; check the path")
    why_not = videos.why_not_scored()
    if why_not is not None:
        raise DataError(f"{videos.dataset}: {why_not}")
    unscored, protocol = videos.unscored(), videos.protocol
    listed = [video for video in videos.videos if video.name not in unscored]
    missing = missing_videos(results, listed, protocol)
    if protocol.missing_video == "leave out":
        listed = [video for video in listed if folder_of(video) not in missing]
    score_one = partial(_score_at, results, listed, protocol, frozenset(missing))
    counted = _score_all(score_one, [len(video.frames) for video in listed], workers, progress)
    found = Scores(
        tuple(one for video_score in counted for one in video_score.objects),
        dataset=videos.dataset,
        rules=protocol,
        unscored=unscored,
        missing=dict.fromkeys(missing, _MISSING.get(protocol.missing_video, "")),
        unseen=videos.unseen,
    )
    return replace(
        found,
        notes=(
            *set_notes(results, found, sum(video_score.void_frames for video_score in counted)),
            *(note for video_score in counted for note in video_score.notes),
            *extra_folders(results, listed),
            *videos.notes,
            *smooth_truth(videos),
        ),
    )


def _score_all(
    score_one: Callable[[int], tuple[int, VideoScore]],
    lengths: Sequence[int],
    workers: int,
    progress: Progress | None,
) -> list[VideoScore]:
    """Score the videos at all positions; their lengths are in frames."""
    scored: dict[int, VideoScore] = {}
    # The longest videos first, so that no worker has to finish one alone at the end.
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    for position, video_score in map_unordered(score_one, order, workers):
        scored[position] = video_score
        if progress is not None:
            progress(len(scored), len(lengths), "")
    return [scored[position] for position in range(len(lengths))]


def score_video(results: Path, video: VideoSource, protocol: Protocol) -> VideoScore:
    """Score one video; arguments and errors as in :func:`score_results`."""
    scored = {i: frozenset(names) for i, names in protocol.scored_frames(video).items()}
    object_ids = protocol.object_ids(video)
    measured: dict[int, list[Measures]] = {i: [] for i in scored if i}
    names = in_order(video, scored)
    rule = rule_of(protocol)
    unknown_ids: Counter[int] = Counter()
    void_frames = 0
    for t, name in enumerate(names):
        truth = video.read_mask(name)
        predicted = read_result(results, video, name, truth.shape, object_ids, protocol.objects)
        void = bool(truth.max() == VOID)
        void_frames += void
        if void and protocol.void == "ignored":
            predicted[truth == VOID] = 0
        if protocol.objects == "seen":
            for object_id in _ids(truth, predicted, protocol):
                measured.setdefault(object_id, [NOTHING] * t)
            wanted = list(measured)
        else:
            wanted = [object_id for object_id, frames in scored.items() if name in frames]
        covered = 0
        for object_id in wanted:
            found = measure(predicted == object_id, truth == object_id, rule)
            measured[object_id].append(found)
            covered += found.area
        if np.count_nonzero(predicted) != covered and protocol.objects != "seen":
            present = np.flatnonzero(areas(predicted)).tolist()
            unknown_ids.update(set(present) - {0, *object_ids})
    notes = list(object_notes(video, object_ids, scored, measured, protocol))
    if unknown_ids:
        notes.append(f"{video.name}: {unknown_in_words(unknown_ids, object_ids)}")
    notes.extend(extra_files(results, video))
    seen = protocol.objects == "seen"
    objects = tuple(
        _object_score(video, i, [n for n in names if seen or n in scored[i]], values, protocol)
        for i, values in sorted(measured.items())
        if not seen or any(value.true_area for value in values)
    )
    return VideoScore(objects, tuple(notes), void_frames)


def rule_of(protocol: Protocol) -> Rule:
    """Return how masks are compared by a protocol."""
    return Rule(protocol.tolerance, protocol.object_tolerance, protocol.rounded, protocol.smoothing)


def _object_score(
    video: VideoSource,
    object_id: int,
    frames: Sequence[str],
    values: Sequence[Measures],
    protocol: Protocol,
) -> ObjectScore:
    start = 0
    if not protocol.before_seen:
        start = next((t for t, v in enumerate(values) if v.true_area or v.area), len(values))
        if not any(value.true_area for value in values):
            raise DataError(
                f"{video.name}: expected the object in a scored true mask, found it in none of "
                f"{len(frames)}; leave it out of the ground truth, or score with --as-meant"
            )
    kept = values[start:]
    parts = any(name.endswith(("_d", "_r")) for name in protocol.measures)
    return ObjectScore(
        video.name,
        object_id,
        tuple(frames[start:]),
        tuple(value.j for value in kept),
        tuple(value.f for value in kept),
        video.binary,
        f_dot_values=tuple(value.f_dot for value in kept) if protocol.object_tolerance else (),
        visible=tuple(value.true_area > 0 for value in kept),
        shown_first=parts and bool((video.read_mask(next(iter(video.frames))) == object_id).any()),
        before_seen=tuple(frames[:start]),
    )


def _score_at(
    results: Path,
    videos: Sequence[VideoSource],
    protocol: Protocol,
    missing: frozenset[str],
    position: int,
) -> tuple[int, VideoScore]:
    """Score the video at a position; what the workers run."""
    video = videos[position]
    if folder_of(video) not in missing:
        return position, score_video(results, video, protocol)
    objects = []
    for object_id, names in protocol.scored_frames(video).items():
        zeros = (0.0,) * len(names)
        second = zeros if protocol.object_tolerance else ()
        objects.append(
            ObjectScore(
                video.name, object_id, names, zeros, zeros, video.binary, f_dot_values=second
            )
        )
    return position, VideoScore(tuple(objects))


def _ids(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], protocol: Protocol) -> list[int]:
    """Return the ids of both masks."""
    counts = areas(truth) + areas(predicted)
    ids: list[int] = (np.flatnonzero(counts[1:]) + 1).tolist()
    return [i for i in ids if i != VOID or protocol.void == "object"]
