"""The table in the terminal: every video, in the width that there is."""

import io

from stmtrain.commands.console import SafeConsole
from stmtrain.datasets.protocol import DAVIS
from stmtrain.datasets.video_set import VideoSet
from stmtrain.report.comparison import compare
from stmtrain.report.terminal import comparison_table, mean_j_over_time
from stmtrain.scoring.scores import ObjectScore, Scores


def video_set(videos, dataset=""):
    return VideoSet(dataset, tuple(videos), DAVIS)


def printed(comparison, width, encoding="utf-8"):
    console = SafeConsole(width=width, file=io.StringIO())
    console.print(comparison_table(comparison, width, encoding))
    return console.file.getvalue()


def test_the_terminal_shows_every_video_and_fits(videos, folders):
    both = compare(
        {"<b>[red]": folders["good"], "bad": folders["bad"]}, video_set(videos), common=True
    )
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


def test_mean_j_over_time_keeps_the_order_of_frames():
    objects = (
        ObjectScore("v", 1, ("9", "10", "11"), (0.0, 0.5, 1.0), (1, 1, 1)),
        ObjectScore("v", 2, ("10", "11"), (1.0, 0.0), (1, 1)),
    )
    found = mean_j_over_time(Scores(objects))
    assert list(found.items()) == [("9", 0.0), ("10", 0.75), ("11", 0.5)]
