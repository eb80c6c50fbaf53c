"""Statistics of shard sets in the terminal, as a PNG and as one self-contained HTML file."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.filesize import decimal
from rich.table import Table

from stmtrain.files import write_whole
from stmtrain.report.charts import histogram_chart, line_sample, spark_histogram
from stmtrain.report.html import Markup, document, join, tag
from stmtrain.report.plot import write_figure
from stmtrain.statistics.compare import Difference, SetComparison, Summary
from stmtrain.statistics.measure import STATISTICS, SetStatistics, Statistic

_SPARKS = 14
_COLUMNS = 3
_CONTENTS = ("clips", "frames", "masks", "objects", "size", "size of a clip", "measured", "from")
_HEADS = ("values", "mean", "10 %", "median", "90 %")

_DISTANCE = (
    "distance: how far a distribution is from that of the first set, 0 for equal ones, 1 for two "
    "different constants; ~ marks what chance alone would explain"
)


def sets_table(comparison: SetComparison) -> Table:
    """Return a table of what the sets contain and how much of it was measured."""
    table = Table("", *comparison.names, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    columns = [_contents(measured) for measured in comparison.sets]
    for number, head in enumerate(_CONTENTS):
        table.add_row(head, *(column[number] for column in columns))
    return table


def statistics_table(comparison: SetComparison, encoding: str = "utf-8") -> Table:
    """Return a table of every statistic, with a row for each set.

    Args:
        comparison: What to show.
        encoding: Of the terminal; distributions need UTF-8.
    """
    drawable, several = encoding.lower().startswith("utf"), len(comparison.sets) > 1
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("statistic", min_width=17)
    for head in _HEADS[1:]:
        table.add_column(head, justify="right", min_width=7, no_wrap=True)
    if drawable:
        table.add_column("distribution", min_width=_SPARKS, no_wrap=True)
    if several:
        table.add_column("distance", justify="right", min_width=8, no_wrap=True)
    for statistic in known_statistics(comparison):
        drawn = comparison.histogram(statistic, _SPARKS)
        low, high = map(_short, drawn.ends)
        gap = " " * max(1, _SPARKS - len(low) - len(high))
        scale = [f"{low}{gap}{high}"] if drawable else []
        table.add_row(statistic.title, *[""] * len(_HEADS[1:]), *scale, style="bold")
        for number, name in enumerate(comparison.names):
            row = [f"  {name}", *_numbers(comparison.summaries[statistic.name][number])[1:]]
            if drawable:
                row.append(spark_histogram(drawn.shares.get(number, ())))
            row += [_distance(comparison.differences[statistic.name][number])] if several else []
            table.add_row(*row)
        table.add_section()
    return table


def explanation(comparison: SetComparison) -> str:
    """Return what the words in the table mean."""
    units = [f"{known.title}: {known.unit}" for known in known_statistics(comparison)]
    return "; ".join([*units, _DISTANCE] if len(comparison.sets) > 1 else units)


def known_statistics(comparison: SetComparison) -> list[Statistic]:
    """Return the statistics that at least one set has values of."""
    return [known for known in STATISTICS if any(comparison.summaries[known.name])]


def write_plot(path: Path, comparison: SetComparison) -> None:
    """Write distributions and numbers to a ``.png`` or ``.html`` file.

    Raises:
        StmError: The file cannot be written.
    """
    if path.suffix.lower() == ".html":
        write_whole(path, statistics_page(comparison))
    else:
        _write_png(path, comparison)


def _write_png(path: Path, comparison: SetComparison) -> None:
    from matplotlib.figure import Figure

    shown = known_statistics(comparison)
    rows = -(-len(shown) // _COLUMNS)
    figure = Figure(figsize=(4 * _COLUMNS, 2.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for panel, statistic in zip(panels, shown, strict=False):
        drawn = comparison.histogram(statistic)
        for number, shares in drawn.shares.items():
            panel.stairs(shares, drawn.edges, color=f"C{number}", label=comparison.names[number])
        panel.set(title=statistic.title, xlabel=statistic.unit, yticks=[])
        if drawn.log:
            panel.set_xscale("log")
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    handles = [figure.axes[0].plot([], [], color=f"C{i}", label=name)[0]
               for i, name in enumerate(comparison.names)]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper left", ncols=len(comparison.names))
    write_figure(path, figure)


def statistics_page(comparison: SetComparison) -> str:
    """Return the page: contents of the sets, then a chart and the numbers of each statistic."""
    legend = [
        tag("span", line_sample(number), name) for number, name in enumerate(comparison.names)
    ]
    contents = [
        [name, *_contents(measured)]
        for name, measured in zip(comparison.names, comparison.sets, strict=True)
    ]
    return document(
        f"Statistics of {', '.join(comparison.names)}",
        tag("header", tag("h1", "Statistics of shard sets"), tag("div", *legend, class_="legend")),
        tag(
            "main",
            _html_table(["set", *_CONTENTS], contents),
            tag("p", _DISTANCE, class_="faint") if len(comparison.sets) > 1 else None,
            *(_section(comparison, statistic) for statistic in known_statistics(comparison)),
        ),
        tag("footer", "Made by stm stats."),
    )


def _section(comparison: SetComparison, statistic: Statistic) -> Markup:
    drawn, several = comparison.histogram(statistic), len(comparison.sets) > 1
    label = f"Distribution of {statistic.title}, {statistic.unit}"
    rows = []
    for number, name in enumerate(comparison.names):
        difference = comparison.differences[statistic.name][number]
        cells = [name, *_numbers(comparison.summaries[statistic.name][number])]
        rows.append([*cells, _distance(difference)] if several else cells)
    heads = ["set", *_HEADS, "distance"] if several else ["set", *_HEADS]
    names = dict(enumerate(comparison.names))
    return join(
        tag("h2", f"{statistic.title} ", tag("span", statistic.unit, class_="faint")),
        histogram_chart(drawn.shares, names, drawn.ends, label),
        _html_table(heads, rows),
    )


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", [tag("tr", [tag("td", cell) for cell in row]) for row in rows]),
    )
    return tag("div", table, class_="scroll")


def _contents(measured: SetStatistics) -> list[str]:
    totals = measured.totals
    counts = [str(totals[name]) for name in ("samples", "frames", "masks", "objects")]
    sources = ", ".join(
        name if len(measured.sources) == 1 else f"{name} ({count})"
        for name, count in list(measured.sources.items())[:4]
    )
    skip = f", skip {measured.skip}" if measured.skip else ""
    size = totals["bytes"]
    return [
        *counts,
        decimal(size),
        decimal(size // totals["samples"]),
        ("all" if measured.measured == totals["samples"] else str(measured.measured)) + skip,
        sources,
    ]


def _numbers(summary: Summary | None) -> list[str]:
    if summary is None:
        return ["0", *["-"] * (len(_HEADS) - 1)]
    return [str(summary.n), *map(_short, (summary.mean, summary.p10, summary.p50, summary.p90))]


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _distance(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{'' if difference.shown else '~'}{difference.distance:.2f}"
