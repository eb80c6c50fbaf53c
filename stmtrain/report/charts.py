"""Charts as SVG and characters: a measure over time, results on one scale, distributions.

Lines differ in colour and in dashes. Colours come from the style sheet of the page (classes ``r0``,
``r1``, ...), so that a chart works on light and dark pages. Every chart has a text description.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stmtrain.report.html import Markup, join, tag

DASHES = ("", "6 3", "2 2.5", "9 3 2 3", "4 4", "1 3.5", "12 3", "7 2 2 2 2 2")
"""Dash patterns of the results' lines, so that lines do not differ in colour alone."""

_WIDTH, _HEIGHT = 480, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 6, 8, 20
_BARS = "▁▂▃▄▅▆▇█"


def line_chart(
    series: Mapping[str, Sequence[float]],
    styles: Mapping[str, int],
    frames: Sequence[str],
    marks: Sequence[str],
    label: str,
) -> Markup:
    """Draw a measure in [0, 1] over the frames of one object, for all results.

    Args:
        series: Result name to values, one per frame.
        styles: Result name to the number of its colour and dashes.
        frames: Names of the frames, in time order, at least one.
        marks: Frames to mark by a vertical line: those with pictures.
        label: Text description.
    """
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = plot_width / max(1, len(frames) - 1)

    def x(position: int) -> float:
        return _LEFT + position * step

    def y(value: float) -> float:
        return _TOP + (1 - value) * plot_height

    position = {frame: i for i, frame in enumerate(frames)}
    marked = [
        tag("line", class_="mark", x1=x(i), x2=x(i), y1=_TOP, y2=_TOP + plot_height)
        for i in sorted(position[mark] for mark in marks if mark in position)
    ]
    lines = [
        _line([(x(i), y(value)) for i, value in enumerate(values)], name, styles[name])
        for name, values in series.items()
    ]
    return tag(
        "svg",
        *_levels(y),
        *marked,
        *_ends(frames),
        *lines,
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def _levels(y: Callable[[float], float]) -> list[Markup]:
    """Draw the horizontal lines at 0, 50 and 100 percent."""
    return [
        join(
            tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(level), y2=y(level)),
            tag("text", text, class_="tick end", x=_LEFT - 5, y=y(level) + 3.5),
        )
        for level, text in ((0, "0"), (0.5, "50"), (1, "100"))
    ]


def _ends(frames: Sequence[str]) -> list[Markup]:
    """Write the names of the first and the last frame below the chart."""
    ends = [tag("text", frames[0], class_="tick", x=_LEFT, y=_HEIGHT - 5)]
    if len(frames) > 1:
        ends.append(tag("text", frames[-1], class_="tick end", x=_WIDTH - _RIGHT, y=_HEIGHT - 5))
    return ends


def line_sample(style: int) -> Markup:
    """Draw a short piece of a result's line, for a legend."""
    line = _line([(0, 5), (26, 5)], "", style)
    return tag("svg", line, class_="sample", viewBox="0 0 26 10", aria_hidden="true")


def dot_strip(values: Mapping[int, float], label: str) -> Markup:
    """Draw results as dots on a scale from 0 to 1.

    Args:
        values: Number of a result's style to its value.
        label: Text description.
    """
    width, height, margin = 220, 16, 5
    scale = {s: margin + v * (width - 2 * margin) for s, v in values.items()}
    dots = [
        tag("circle", class_=f"dot r{s}", cx=at, cy=height / 2, r=4.2 if s == 0 else 3.4)
        for s, at in scale.items()
    ]
    return tag(
        "svg",
        tag("line", class_="grid", x1=margin, x2=width - margin, y1=height / 2, y2=height / 2),
        tag("line", class_="span", x1=min(scale.values()), x2=max(scale.values()),
            y1=height / 2, y2=height / 2),
        *dots,
        class_="strip",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=label,
    )  # fmt: skip


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values in [0, 1] over time as block characters, each the minimum of its frames."""
    parts = np.array_split(np.asarray(values, float), min(width, len(values)))
    return "".join(_BARS[min(int(part.min() * len(_BARS)), len(_BARS) - 1)] for part in parts)


def spark_histogram(shares: Sequence[float]) -> str:
    """Draw a histogram as block characters; only empty bins are blank."""
    top = max(shares, default=0.0) or 1.0
    levels = [-(-share * len(_BARS) // top) for share in shares]
    return "".join(_BARS[int(level) - 1] if level else " " for level in levels)


def histogram_chart(
    shares: Mapping[int, Sequence[float]],
    names: Mapping[int, str],
    ends: tuple[float, float],
    label: str,
) -> Markup:
    """Draw histograms over the same bins as outlines.

    Args:
        shares: Number of a style to the share of each bin.
        names: Number of a style to the name of its outline.
        ends: Lowest and highest value, written below the chart.
        label: Text description.
    """
    top = max(max(values) for values in shares.values()) or 1.0
    bins = max(map(len, shares.values()))
    base, width = _HEIGHT - _BOTTOM, (_WIDTH - 2 * _RIGHT) / bins
    outlines = []
    for style, values in shares.items():
        points: list[tuple[float, float]] = [(_RIGHT, base)]
        for place, value in enumerate(values):
            y = base - value / top * (base - _TOP)
            points += [(_RIGHT + place * width, y), (_RIGHT + (place + 1) * width, y)]
        outlines.append(_line([*points, (_WIDTH - _RIGHT, base)], names[style], style))
    return tag(
        "svg",
        tag("line", class_="grid", x1=_RIGHT, x2=_WIDTH - _RIGHT, y1=base, y2=base),
        *outlines,
        tag("text", f"{ends[0]:.3g}", class_="tick", x=_RIGHT, y=_HEIGHT - 5),
        tag("text", f"{ends[1]:.3g}", class_="tick end", x=_WIDTH - _RIGHT, y=_HEIGHT - 5),
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def _line(points: Sequence[tuple[float, float]], name: str, style: int) -> Markup:
    if len(points) == 1:  # a line needs two ends
        points = [(points[0][0] - 1, points[0][1]), (points[0][0] + 1, points[0][1])]
    return tag(
        "polyline",
        tag("title", name) if name else None,
        class_=f"line r{style}",
        stroke_dasharray=DASHES[style] or None,
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
    )
