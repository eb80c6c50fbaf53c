"""Results beside each other: what is shared, what differs, where to look; and in the terminal."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stmdata.drawn.trees import draw_davis
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.protocol import DAVIS
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.report.charts import sparkline
from stmtrain.report.comparison import Comparison, Difference, Result, compare, name_results
from stmtrain.report.terminal import comparison_table, mean_j_over_time
from stmtrain.scoring.score import score_results
from stmtrain.scoring.scores import ObjectScore, Scores
from tests.profiles import examples


def video_set(videos, dataset=""):
    return VideoSet(dataset, tuple(videos), DAVIS)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of 1, 2 and 3 objects, 12 frames of 80x112."""
    root = tmp_path_factory.mktemp("davis")
    draw_davis(root, videos=3, val=3, frames=12, size=(80, 112), ids=(1, 3, 4))
    return find_dataset("davis2017").videos(root, "val")


@pytest.fixture
def folders(videos, tmp_path):
    """A perfect result, and one that loses every object in frame 5 and lacks the last video."""
    for name in ("good", "bad"):
        for video in videos:
            shutil.copytree(video.masks["00000"].parent, tmp_path / name / video.name)
    shutil.rmtree(tmp_path / "bad" / videos[2].name)
    for video in videos[:2]:
        (tmp_path / "bad" / video.name / "00005.png").write_bytes(
            encode_mask(np.zeros((80, 112), np.uint8))
        )
    return {"good": tmp_path / "good", "bad": tmp_path / "bad"}


def test_means_are_compared_over_what_all_have(videos, folders):
    both = compare(folders, video_set(videos, "drawn"))
    good, bad = both.results
    assert both.common() == tuple(video.name for video in videos[:2])
    assert bad.missing == (videos[2].name,)
    assert both.notes() == [f"bad: no results for 1 of 3 videos: {videos[2].name}"]
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
    both = compare(folders, video_set(videos))
    assert both.common() == ()
    assert both.over_common(both.results[0]) is None
    assert both.difference(both.results[1]) is None
    assert [video.name for video in both.videos] == [video.name for video in videos]


def test_progress_counts_the_videos_of_all_results(videos, folders):
    seen = []
    compare(folders, video_set(videos), progress=lambda *now: seen.append(now))
    assert [now[:2] for now in seen] == [(i, 5) for i in range(1, 6)]
    assert [now[2] for now in seen] == ["good"] * 3 + ["bad"] * 2


def test_the_worst_frame_comes_first_and_the_next_is_elsewhere(videos, folders):
    both = compare(folders, video_set(videos))
    chosen = both.worst_frames(videos[0], 4)
    assert chosen[0] == "00005"
    assert len(set(chosen)) == 4
    long = replace(videos[0], frames={f"{i:05d}": None for i in range(1, 101)})
    values = tuple(abs(i - 50) / 50 for i in range(2, 100))
    score = ObjectScore(long.name, 1, tuple(long.frames)[1:-1], values, values)
    one = Comparison("", (long,), (Result("r", folders["good"], Scores((score,), False)),))
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
        binary=False,
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
    assert good.notes == ()
    record["scores"]["global"]["J&F-Mean"] = 0.818
    path.write_text(json.dumps(record))
    (note,) = compare({"good": folders["good"]}, video_set(videos)).results[0].notes
    assert note.startswith("results.json states J&F 81.80, its PNGs score 100.00")


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\ufffe"])
def test_a_damaged_results_json_is_named(videos, folders, text):
    (folders["good"] / "results.json").write_text(text)
    with pytest.raises(DataError, match=r"results\.json: expected the output of stm eval"):
        compare(folders, video_set(videos))


def test_strange_facts_are_shortened(videos, folders):
    record = {"protocol": {"a": {"b": {"c": {"d": {"e": 1}}}}}, "x": "y" * 999, "scores": 5}
    record |= {str(i): i for i in range(200)}
    (folders["good"] / "results.json").write_text(json.dumps(record))
    facts = compare({"good": folders["good"]}, video_set(videos)).results[0].facts
    assert len(facts) == 120
    assert facts["a b c d"] == "{'e': 1}"
    assert len(facts["x"]) == 200


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
        compare(folders | {"none": tmp_path / "none"}, video_set(videos))
    with pytest.raises(DataError, match="nothing: expected the folder of results"):
        compare({"nothing": tmp_path / "nothing"}, video_set(videos))


def printed(comparison, width, encoding="utf-8"):
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(comparison, width, encoding))
    return console.file.getvalue()


def test_the_terminal_shows_every_video_and_fits(videos, folders):
    both = compare({"<b>[red]": folders["good"], "bad": folders["bad"]}, video_set(videos))
    for width in (50, 80, 200):
        text = printed(both, width)
        assert max(map(len, text.splitlines())) <= width
        assert all(video.name in text for video in videos)
        assert "[red]" in text
        assert "mean of 2 shared" in text
        assert f"{100 * both.results[1].scores.j_and_f:.1f}" in text
    assert "█" in text
    assert "█" not in printed(both, 200, "ascii")
    row = next(line for line in printed(both, 200).splitlines() if videos[2].name in line)
    assert row.split()[1] == "100.0"
    assert row.split().count("-") == 2


def test_the_sparkline_shows_the_lowest():
    values = [1.0] * 100
    values[37] = 0.0
    assert sparkline(values, 10) == "███▁██████"
    assert sparkline([0.0, 0.5, 0.99], 20) == "▁▅█"


def test_mean_j_over_time_keeps_the_order_of_frames():
    objects = (
        ObjectScore("v", 1, ("9", "10", "11"), (0.0, 0.5, 1.0), (1, 1, 1)),
        ObjectScore("v", 2, ("10", "11"), (1.0, 0.0), (1, 1)),
    )
    found = mean_j_over_time(Scores(objects, binary=False))
    assert list(found.items()) == [("9", 0.0), ("10", 0.75), ("11", 0.5)]
