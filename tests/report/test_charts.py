"""Charts: lines differ without colour, and the lowest value shows."""

import re

from stmtrain.report.charts import DASHES, dot_strip, line_chart, sparkline
from stmtrain.report.comparison import MOST_RESULTS


def test_lines_differ_without_colour():
    assert len(set(DASHES)) == len(DASHES) == MOST_RESULTS
    frames = [f"{i:05d}" for i in range(1, 6)]
    chart = line_chart(
        {"a": [1, 0.5, 0, 0.5, 1], "b": [0] * 5}, {"a": 0, "b": 1}, frames, ["00003"], "J"
    )
    first, second = re.findall(r"<polyline[^>]*>", chart)
    assert "stroke-dasharray" not in first
    assert f'stroke-dasharray="{DASHES[1]}"' in second
    heights = [float(y) for y in re.findall(r",([0-9.]+)", first)]
    assert heights[0] == heights[4] < heights[1] == heights[3] < heights[2]
    assert chart.count('class="mark"') == 1
    one = line_chart({"a": [0.5]}, {"a": 0}, ["1"], [], "J")
    assert one.count("<polyline") == 1
    assert dot_strip({0: 0.0, 3: 1.0}, "x").count("<circle") == 2


def test_the_sparkline_shows_the_lowest():
    values = [1.0] * 100
    values[37] = 0.0
    assert sparkline(values, 10) == "███▁██████"
    assert sparkline([0.0, 0.5, 0.99], 20) == "▁▅█"
