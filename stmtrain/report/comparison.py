"""A comparison of several results on one data set: what ``stm report`` shows, as plain values.

From named folders of masks and the videos of a data set, :func:`compare` builds a
:class:`Comparison`: scores, the videos that a result lacks, how it was made (``results.json`` of
``stm eval``, if present), differences, and the worst frames. Free of torch; nothing is drawn here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.files import some
from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.processes import Progress
from stmtrain.report.run_record import claimed_score, counted_otherwise, facts_of, read_run
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import RESULTS_NAME, ObjectScore, Scores

MOST_RESULTS = 8
"""More lines than this cannot be distinguished in one chart."""

_DRAWS = 10_000
"""Bootstrap samples; the ends of the interval are then exact to a few hundredths of a point."""

_LEAST_VIDEOS = 10
"""With fewer videos an interval would be meaningless."""


@dataclass(frozen=True)
class Result:
    """The masks of one method, scored.

    Attributes:
        name: Display name; unique in the comparison.
        folder: Contains ``<video>/<frame>.png``.
        scores: Of the videos that the result has.
        missing: Videos of the data set for which the folder has no masks.
        facts: How it was made, from ``results.json``; None without that file.
        notes: What is inconsistent, one line each.
    """

    name: str
    folder: Path
    scores: Scores
    missing: tuple[str, ...] = ()
    facts: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """J&F of one result minus that of another, over the objects that both have, in [-1, 1].

    Attributes:
        mean: Mean over the objects.
        interval: 95 % bootstrap interval of the mean; complete videos are drawn, because the
            objects of a video succeed and fail together. None for fewer than ten videos.
        better: Number of videos in which the result is better.
        worse: Number of videos in which it is worse.
    """

    mean: float
    interval: tuple[float, float] | None
    better: int
    worse: int


@dataclass(frozen=True)
class Comparison:
    """Results on one data set; the others are compared with the first.

    Attributes:
        dataset: Display name, such as ``DAVIS 2017 val``.
        videos: Those that at least one result has, in the order of the data set.
        results: At least one.
    """

    dataset: str
    videos: tuple[VideoSource, ...]
    results: tuple[Result, ...]

    def with_frames(self, videos: VideoSet) -> "Comparison":
        """Return the same comparison with frames to draw.

        Raises:
            DataError: A video has none, such as one object of SA-V in a folder of its own.
        """
        by_name = {video.name: video for video in videos.videos}
        absent = [video.name for video in self.videos if video.name not in by_name]
        if absent:
            raise DataError(
                f"{videos.dataset}: expected frames of {some(absent)} to draw, found none; leave "
                "out --out, or restore the frames"
            )
        return replace(self, videos=tuple(by_name[video.name] for video in self.videos))

    def common(self) -> tuple[str, ...]:
        """Return the names of the videos that every result has; means are over these only."""
        lacking = {name for result in self.results for name in result.missing}
        return tuple(video.name for video in self.videos if video.name not in lacking)

    def over_common(self, result: Result) -> Scores | None:
        """Return the scores of a result over :meth:`common`; None if that is empty."""
        common = set(self.common())
        objects = tuple(s for s in result.scores.objects if s.video in common)
        return replace(result.scores, objects=objects) if objects else None

    def worst_first(self) -> list[VideoSource]:
        """Return the videos by mean J&F over the results that have them, lowest first."""
        by_video = [result.scores.videos() for result in self.results]

        def mean(video: VideoSource) -> float:
            return float(np.mean([s[video.name].j_and_f for s in by_video if video.name in s]))

        return sorted(self.videos, key=mean)

    def difference(self, result: Result) -> Difference | None:
        """Compare a result with the first one; return None if they share no video."""
        ours, theirs = (_by_video(r.scores) for r in (result, self.results[0]))
        shared = [name for name in ours if name in theirs]
        if not shared:
            return None
        gains = [np.subtract(ours[name], theirs[name]) for name in shared]
        totals = np.array([gain.sum() for gain in gains])
        counts = np.array([gain.size for gain in gains])
        return Difference(
            mean=float(totals.sum() / counts.sum()),
            interval=_interval(totals, counts) if len(shared) >= _LEAST_VIDEOS else None,
            better=int((totals > 0).sum()),
            worse=int((totals < 0).sum()),
        )

    def worst_frames(self, video: VideoSource, most: int) -> list[str]:
        """Return at most ``most`` frames of a video, lowest mean J first.

        The mean is over objects and results. Neighbouring frames look alike, so the chosen frames
        are at least a tenth of the video apart.
        """
        values: dict[str, list[float]] = {}
        for score in self.objects_of(video.name):
            for frame, j in zip(score.frames, score.j_values, strict=True):
                values.setdefault(frame, []).append(j)
        position = {frame: i for i, frame in enumerate(video.frames)}
        apart = max(1, len(video.frames) // 10)
        chosen: list[str] = []
        for frame in sorted(values, key=lambda name: (np.mean(values[name]), position[name])):
            if len(chosen) == most:
                break
            if all(abs(position[frame] - position[other]) >= apart for other in chosen):
                chosen.append(frame)
        return chosen

    def objects_of(self, video: str) -> list[ObjectScore]:
        """Return the scores of a video's objects in all results that have it."""
        return [s for result in self.results for s in result.scores.objects if s.video == video]

    def notes(self) -> list[str]:
        """Return the notes of all results, each line with the name of its result."""
        return [f"{result.name}: {note}" for result in self.results for note in result.notes]


def name_results(arguments: Sequence[str]) -> dict[str, Path]:
    """Parse ``FOLDER`` and ``NAME=FOLDER`` arguments; by default a folder's own name is used.

    Raises:
        UsageError: There are no results, too many, or two with the same name.
    """
    if not 1 <= len(arguments) <= MOST_RESULTS:
        raise UsageError(f"results: expected 1 to {MOST_RESULTS} folders, found {len(arguments)}")
    named: dict[str, Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not (equals and name and folder) or Path(argument).is_dir():
            folder = argument
            name = Path(argument).resolve().name
        if name in named:
            raise UsageError(
                f"results: {named[name]} and {folder} are both called {name!r}; write NAME=FOLDER"
            )
        named[name] = Path(folder)
    return named


def compare(
    folders: Mapping[str, Path],
    truth: VideoSet,
    workers: int = 1,
    progress: Progress | None = None,
    *,
    common: bool = False,
) -> Comparison:
    """Score named folders of results; videos for which a result has no folder are skipped.

    Every scored frame of a video must be present, as for ``score_results``.

    Args:
        folders: Name of a result to its folder.
        truth: The ground truth, and the protocol.
        workers: Processes.
        progress: Called after each video.
        common: Compare results that do not count the same videos, objects and frames, over the
            videos that all have.

    Raises:
        DataError: A result has none of the videos, a video cannot be scored, or results count
            different ones without ``common``.
    """
    present_of = {
        name: tuple(video for video in truth.videos if (folder / video.name).is_dir())
        for name, folder in folders.items()
    }
    if not common:
        _check_counted(present_of, truth)
    total = sum(map(len, present_of.values()))
    results: list[Result] = []
    for name, present in present_of.items():
        folder = folders[name]
        if not present:
            score_results(folder, truth)  # its error states what was expected, and where
        before = sum(len(result.scores.videos()) for result in results)
        shifted = None if progress is None else _shifted(progress, before, total, name)
        scores = score_results(folder, replace(truth, videos=present), workers, shifted)
        missing = tuple(video.name for video in truth.videos if video not in present)
        results.append(_result(name, folder, scores, missing))
    has = {score.video for result in results for score in result.scores.objects}
    return Comparison(
        truth.dataset, tuple(v for v in truth.videos if v.name in has), tuple(results)
    )


def _check_counted(present_of: Mapping[str, Sequence[VideoSource]], truth: VideoSet) -> None:
    """Refuse results that would not count the same, before minutes of scoring.

    The protocol and the ground truth are the same for all, and every scored frame of a video must
    be there, so that their digests can differ by the videos only.
    """
    lacking = {}
    for name, present in present_of.items():
        absent = [video.name for video in truth.videos if video not in present]
        if present and absent:
            lacking[name] = absent
    if len({tuple(lacking.get(name, ())) for name in present_of}) > 1:
        listed = (f"{n} has no results for {len(v)}: {some(v)}" for n, v in lacking.items())
        raise DataError(
            f"expected results over the same videos, but {'; '.join(listed)}; add what is missing, "
            "or pass --common to compare over the videos that all have"
        )


def _shifted(progress: Progress, before: int, total: int, name: str) -> Progress:
    """Continue the count of the results before this one."""
    return lambda done, _total, _note: progress(before + done, total, name)


def _result(name: str, folder: Path, scores: Scores, missing: tuple[str, ...]) -> Result:
    run = read_run(folder)
    notes = list(scores.notes)
    if missing:
        total = len(missing) + len(scores.videos()) + len(scores.unscored)
        notes.insert(0, f"no results for {len(missing)} of {total} videos: {some(missing)}")
    if run is None:
        return Result(name, folder, scores, missing, None, tuple(notes))
    claimed = claimed_score(run)
    other = counted_otherwise(run, scores.protocol())
    if other is not None:
        notes.append(f"{RESULTS_NAME} states numbers {other}: they cannot be compared with these")
    elif claimed is not None and not missing and abs(claimed - scores.j_and_f) > 1e-6:
        notes.append(
            f"{RESULTS_NAME} states J&F {100 * claimed:.2f}, its PNGs score "
            f"{100 * scores.j_and_f:.2f}: they are not from the same run or data set"
        )
    return Result(name, folder, scores, missing, facts_of(run), tuple(notes))


def _interval(totals: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of ``totals.sum() / counts.sum()``; deterministic."""
    size = len(totals)
    picks = np.random.default_rng(0).integers(0, size, (_DRAWS, size))
    means = totals[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _by_video(scores: Scores) -> dict[str, list[float]]:
    """Return each video's J&F per object, in the order of the objects."""
    return {
        name: [(score.j.mean + score.f.mean) / 2 for score in video.objects]
        for name, video in scores.videos().items()
    }
