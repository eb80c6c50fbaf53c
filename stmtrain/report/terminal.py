"""A comparison in the terminal: J&F of every video and J over time, worst first."""

from collections.abc import Mapping

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from stmtrain.datasets.files import natural_key
from stmtrain.report.charts import sparkline
from stmtrain.report.comparison import Comparison
from stmtrain.scoring.scores import Scores

_LEAST_SPARKS, _MOST_SPARKS = 8, 32
_NUMBER_WIDTH = 8


def comparison_table(comparison: Comparison, width: int = 80, encoding: str = "utf-8") -> Table:
    """Return a table of J&F per video and result, with J over time as wide as there is room.

    Args:
        comparison: What to show.
        width: Characters in a line.
        encoding: Of the terminal; J over time needs UTF-8.
    """
    names = [video.name for video in comparison.worst_first()]
    several = len(comparison.results) > 1
    columns = len(comparison.results)
    left = width - max(map(len, [*names, "mean of 00 shared"])) - 4
    numbers = 2 if several else 1
    sparks = left // columns - numbers * _NUMBER_WIDTH
    drawable = sparks >= _LEAST_SPARKS and encoding.lower().startswith("utf")
    sparks = min(sparks, _MOST_SPARKS) if drawable else 0
    table = Table(
        title=f"{comparison.dataset or 'Scores'}, J&F in percent, worst first",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("video", no_wrap=True)
    for i, result in enumerate(comparison.results):
        table.add_column(result.name, justify="right", overflow="ellipsis", no_wrap=True)
        if i:
            table.add_column("+/-", justify="right", no_wrap=True)
        if sparks:
            table.add_column("J over time", no_wrap=True)
    scores = [result.scores.videos() for result in comparison.results]
    for name in names:
        table.add_row(name, *_cells([by_video.get(name) for by_video in scores], sparks))
    table.add_section()
    shared = comparison.common()
    means = [comparison.over_common(result) for result in comparison.results]
    partial = any(result.missing for result in comparison.results)
    title = f"mean of {len(shared)} shared" if partial else f"mean of {len(shared)}"
    table.add_row(title, *_cells(means, sparks, pictures=False), style="bold")
    return table


def mean_j_over_time(scores: Scores) -> Mapping[str, float]:
    """Return J per frame of one video: the mean over the objects that are scored in it."""
    values: dict[str, list[float]] = {}
    for score in scores.objects:
        for frame, j in zip(score.frames, score.j_values, strict=True):
            values.setdefault(frame, []).append(j)
    return {frame: float(np.mean(values[frame])) for frame in sorted(values, key=natural_key)}


def _cells(row: list[Scores | None], sparks: int, pictures: bool = True) -> list[str]:
    cells = []
    baseline = row[0]
    for i, scores in enumerate(row):
        cells.append("-" if scores is None else f"{100 * scores.j_and_f:.1f}")
        if i:
            gain = scores.j_and_f - baseline.j_and_f if scores and baseline else None
            cells.append("-" if gain is None else f"{100 * gain:+.1f}")
        if sparks:
            line = list(mean_j_over_time(scores).values()) if scores and pictures else []
            cells.append(sparkline(line, sparks) if line else "")
    return cells
