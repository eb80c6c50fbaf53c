"""Several results of one data set beside each other: what ``stm report`` shows, as plain values.

In come named folders of masks and the videos of a data set; out comes a :class:`Comparison`:
scores, which sequences a result lacks, how it was made (``results.json`` of ``stm eval``, where
there is one), differences, and the frames worth looking at. Torch-free; nothing is drawn here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.datasets.video import VideoSource
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import UsageError
from stmtrain.processes import Progress
from stmtrain.report.run_record import RECORD_NAME, claimed_score, facts_of, read_record
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import ObjectScore, Scores

__all__ = ["Comparison", "Difference", "Result", "compare", "name_results"]

MOST_RESULTS = 8
"""More lines than this in one chart cannot be told apart."""

_DRAWS = 10_000
"""Bootstrap samples; the interval's ends then move by a few hundredths of a point."""

_LEAST_SEQUENCES = 10
"""Fewer say too little about others for an interval."""


@dataclass(frozen=True)
class Result:
    """One method's masks, scored.

    Attributes:
        name: For people; unique among the compared.
        folder: Holds ``<video>/<frame>.png``.
        scores: Of the sequences that it has.
        missing: Sequences of the data set that it has no folder for.
        facts: How it was made, key to value, out of ``results.json``; empty without one.
        notes: What does not fit, one line each.
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
        interval: 95 % bootstrap interval of the mean; whole sequences are drawn, since objects of
            one succeed and fail together. None for fewer than ten sequences.
        better: Sequences in which the result is the better one.
        worse: Sequences in which it is the worse one.
    """

    mean: float
    interval: tuple[float, float] | None
    better: int
    worse: int


@dataclass(frozen=True)
class Comparison:
    """Results of one data set; the first is the one that the others are compared with.

    Attributes:
        dataset: For people: ``DAVIS 2017 val``.
        videos: Those that at least one result has, in the data set's order.
        results: At least one.
    """

    dataset: str
    videos: tuple[VideoSource, ...]
    results: tuple[Result, ...]

    def common(self) -> tuple[str, ...]:
        """Return the sequences that every result has; means are compared over these only."""
        lacking = {name for result in self.results for name in result.missing}
        return tuple(video.name for video in self.videos if video.name not in lacking)

    def over_common(self, result: Result) -> Scores | None:
        """Return a result's scores over :meth:`common`; None where that is empty."""
        common = set(self.common())
        objects = tuple(s for s in result.scores.objects if s.video in common)
        return replace(result.scores, objects=objects) if objects else None

    def worst_first(self) -> list[VideoSource]:
        """Return the videos by mean J&F over the results that have them, the lowest first."""
        by_video = [result.scores.videos() for result in self.results]

        def mean(video: VideoSource) -> float:
            return float(np.mean([s[video.name].j_and_f for s in by_video if video.name in s]))

        return sorted(self.videos, key=mean)

    def difference(self, result: Result) -> Difference | None:
        """Compare a result with the first one; None where they share no sequence."""
        ours, theirs = (_by_video(r.scores) for r in (result, self.results[0]))
        shared = [name for name in ours if name in theirs]
        if not shared:
            return None
        gains = [np.subtract(ours[name], theirs[name]) for name in shared]
        totals = np.array([gain.sum() for gain in gains])
        counts = np.array([gain.size for gain in gains])
        return Difference(
            mean=float(totals.sum() / counts.sum()),
            interval=_interval(totals, counts) if len(shared) >= _LEAST_SEQUENCES else None,
            better=int((totals > 0).sum()),
            worse=int((totals < 0).sum()),
        )

    def worst_frames(self, video: VideoSource, most: int) -> list[str]:
        """Return a few frames of a video, the one with the lowest mean J first.

        The mean is over objects and results. Frames near a chosen one look like it and are passed
        over: chosen ones are at least a tenth of the video apart.
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
        """Return what a reader should know of all results, each line with the result's name."""
        return [f"{result.name}: {note}" for result in self.results for note in result.notes]


def name_results(arguments: Sequence[str]) -> dict[str, Path]:
    """Read ``FOLDER`` or ``NAME=FOLDER`` arguments; a folder alone is named by its last part.

    Raises:
        UsageError: No results, too many, or two of one name.
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
) -> Comparison:
    """Score named folders of results; a sequence that a result has no folder for is left out.

    Within a sequence every scored frame must be there, as for ``score.score_results``.

    Raises:
        DataError: A result has none of the videos, or one that cannot be scored.
    """
    present_of = {
        name: tuple(video for video in truth.videos if (folder / video.name).is_dir())
        for name, folder in folders.items()
    }
    total = sum(map(len, present_of.values()))
    results: list[Result] = []
    for name, present in present_of.items():
        folder = folders[name]
        if not present:
            # Not one is there: the scoring's own error says what was expected, and where.
            score_results(folder, truth)
        before = sum(len(result.scores.videos()) for result in results)

        report = None if progress is None else _shifted(progress, before, total, name)
        scores = score_results(folder, replace(truth, videos=present), workers, report)
        missing = tuple(video.name for video in truth.videos if video not in present)
        results.append(_result(name, folder, scores, missing))
    has = {score.video for result in results for score in result.scores.objects}
    return Comparison(
        truth.dataset, tuple(v for v in truth.videos if v.name in has), tuple(results)
    )


def _shifted(progress: Progress, before: int, total: int, name: str) -> Progress:
    """Count one result's videos on from those of the results before it."""
    return lambda done, _total, _note: progress(before + done, total, name)


def _result(name: str, folder: Path, scores: Scores, missing: tuple[str, ...]) -> Result:
    recorded = read_record(folder)
    notes = list(scores.notes)
    if missing:
        total = len(missing) + len(scores.videos())
        listed = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
        notes.insert(0, f"no results for {len(missing)} of {total} sequences: {listed}")
    if recorded is None:
        return Result(name, folder, scores, missing, None, tuple(notes))
    claimed = claimed_score(recorded)
    if claimed is not None and not missing and abs(claimed - scores.j_and_f) > 1e-6:
        notes.append(
            f"{RECORD_NAME} says J&F {100 * claimed:.2f}, its PNGs score "
            f"{100 * scores.j_and_f:.2f}: they are not of the same run or data set"
        )
    return Result(name, folder, scores, missing, facts_of(recorded), tuple(notes))


def _interval(totals: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of ``totals.sum() / counts.sum()``; always the same."""
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
