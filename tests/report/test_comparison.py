"""Results next to each other: what is shared, what differs, and where to look."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.datasets.protocol import DAVIS
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.report.comparison import Comparison, Difference, Result, compare, name_results
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import ObjectScore, Scores
from tests.profiles import examples


def video_set(videos, dataset=""):
    return VideoSet(dataset, tuple(videos), DAVIS)


def test_means_are_compared_over_what_all_have(videos, folders):
    both = compare(folders, video_set(videos, "drawn"), common=True)
    good, bad = both.results
    assert both.common() == tuple(video.name for video in videos[:2])
    assert bad.missing == (videos[2].name,)
    assert f"bad: no results for 1 of 3 videos: {videos[2].name}" in both.notes()
    assert both.over_common(good).j_and_f == good.scores.j_and_f == 1
    assert len(both.over_common(good).objects) == 3 < len(good.scores.objects)
    assert both.over_common(bad) == bad.scores == score_results(
        folders["bad"], video_set(videos[:2], "drawn")
    )  # fmt: skip
    assert both.worst_first()[-1] == videos[2]
    assert both.difference(bad) == Difference(
        mean=pytest.approx(bad.scores.j_and_f - 1), interval=None, better=0, worse=2
    )


def test_results_without_a_shared_video(videos, folders):
    shutil.rmtree(folders["good"] / videos[0].name)
    shutil.rmtree(folders["good"] / videos[1].name)
    both = compare(folders, video_set(videos), common=True)
    assert both.common() == ()
    assert both.over_common(both.results[0]) is None
    assert both.difference(both.results[1]) is None
    assert [video.name for video in both.videos] == [video.name for video in videos]


def test_progress_counts_the_videos_of_all_results(videos, folders):
    seen = []
    compare(folders, video_set(videos), progress=lambda *now: seen.append(now), common=True)
    assert [now[:2] for now in seen] == [(i, 5) for i in range(1, 6)]
    assert [now[2] for now in seen] == ["good"] * 3 + ["bad"] * 2


def test_the_worst_frame_comes_first_and_the_next_is_elsewhere(videos, folders):
    both = compare(folders, video_set(videos), common=True)
    chosen = both.worst_frames(videos[0], 4)
    assert chosen[0] == "00005"
    assert len(set(chosen)) == 4
    long = replace(videos[0], frames={f"{i:05d}": None for i in range(1, 101)})
    values = tuple(abs(i - 50) / 50 for i in range(2, 100))
    score = ObjectScore(long.name, 1, tuple(long.frames)[1:-1], values, values)
    one = Comparison("", (long,), (Result("r", folders["good"], Scores((score,))),))
    chosen = [int(name) for name in one.worst_frames(long, 5)]
    assert chosen == [50, 40, 60, 30, 70]


def scores_of(per_video):
    """Scores whose J and F are constant in time; per video the value of each object."""
    return Scores(
        tuple(
            ObjectScore(f"v{i}", number, ("1", "2"), (value,) * 2, (value,) * 2)
            for i, values in enumerate(per_video)
            for number, value in enumerate(values, 1)
        ),
    )


PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3)


@given(pairs=st.lists(PAIRS, min_size=1, max_size=14))
@examples(50)
def test_differences(pairs):
    first, second = (scores_of([[pair[k] for pair in video] for video in pairs]) for k in (0, 1))
    folder = Path("unused")
    results = (Result("a", folder, first), Result("b", folder, second))
    videos = tuple(Video(f"v{i}", {"1": folder}, {}) for i in range(len(pairs)))
    found = Comparison("", videos, results).difference(results[1])
    assert found.mean == pytest.approx(second.j_and_f - first.j_and_f, abs=1e-12)
    assert found.better + found.worse <= len(pairs)
    assert (found.interval is None) == (len(pairs) < 10)
    if found.interval is not None:
        low, high = found.interval
        gains = [np.mean([b - a for a, b in video]) for video in pairs]
        assert min(gains) - 1e-9 <= low <= high <= max(gains) + 1e-9
    back = Comparison("", videos, results[::-1]).difference(results[0])
    assert (back.better, back.worse) == (found.worse, found.better)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(40):
        gains = rng.normal(0.1, 0.05, 30)
        first, second = scores_of([[0.5]] * 30), scores_of([[0.5 + gain] for gain in gains])
        results = (Result("a", None, first), Result("b", None, second))
        low, high = Comparison("", (), results).difference(results[1]).interval
        hits += low <= 0.1 <= high
    assert 34 <= hits <= 40


def test_facts_come_from_results_json_and_are_checked_against_the_masks(videos, folders):
    record = {
        "protocol": {
            "memory_every": 5,
            "short_side": None,
            "flip": False,
            "scales": [1, 1.25],
            "checkpoint": {"backbone": "r50"},
        },
        "frames_per_second": 12.3456,
        "scores": {"global": {"J&F-Mean": 1.0}},
    }
    path = folders["good"] / "results.json"
    path.write_text(json.dumps(record))
    good = compare({"good": folders["good"]}, video_set(videos)).results[0]
    assert good.facts == {
        "memory every": "5",
        "short side": "not set",
        "flip": "no",
        "scales": "1, 1.25",
        "checkpoint backbone": "r50",
        "frames per second": "12.35",
    }
    assert [note[:17] for note in good.notes] == ["every scored mask"]
    record["scores"]["global"]["J&F-Mean"] = 0.818
    path.write_text(json.dumps(record))
    _, note = compare({"good": folders["good"]}, video_set(videos)).results[0].notes
    assert note.startswith("results.json states J&F 81.80, its PNGs score 100.00")


def test_numbers_over_other_videos_are_compared_only_if_told_to(videos, folders):
    with pytest.raises(DataError, match=r"bad has no results for 1: drawn-02; .* pass --common"):
        compare(folders, video_set(videos))
    shutil.rmtree(folders["good"] / videos[2].name)
    assert {r.missing for r in compare(folders, video_set(videos)).results} == {("drawn-02",)}


def test_stated_numbers_over_other_frames_are_not_compared(videos, folders):
    scores = score_results(folders["good"], video_set(videos))
    path = folders["good"] / "results.json"
    stated = scores.to_mapping()
    path.write_text(json.dumps({"scores": stated}))
    assert len(compare({"good": folders["good"]}, video_set(videos)).results[0].notes) == 1
    for changes in ({"counted_sha256": "0" * 64}, {"version": "0"}, {"name": "own"}):
        path.write_text(json.dumps({"scores": {"protocol": {**stated["protocol"], **changes}}}))
        _, note = compare({"good": folders["good"]}, video_set(videos)).results[0].notes
        assert "they cannot be compared with these" in note


def test_results_are_named(tmp_path):
    (tmp_path / "x=y").mkdir()
    assert name_results(["runs/a", "n=b"]) == {"a": name_results(["runs/a"])["a"]} | {
        "n": name_results(["q=b"])["q"]
    }
    assert name_results([str(tmp_path / "x=y")]) == {"x=y": tmp_path / "x=y"}
    with pytest.raises(UsageError, match="are both called 'a'; write NAME=FOLDER"):
        name_results(["a", "b/a"])
    with pytest.raises(UsageError, match="expected 1 to 8 folders, found 9"):
        name_results([str(i) for i in range(9)])


def test_a_result_without_any_video_is_refused(videos, folders, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="none/drawn-00: expected the results of video"):
        compare(folders | {"none": tmp_path / "none"}, video_set(videos), common=True)
    with pytest.raises(DataError, match="nothing: expected the folder of results"):
        compare({"nothing": tmp_path / "nothing"}, video_set(videos))
