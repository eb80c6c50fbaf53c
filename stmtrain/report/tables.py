"""The tables of the HTML report: summary, protocol, videos, objects."""

from collections.abc import Sequence

from stmtrain.datasets.video import VideoSource
from stmtrain.report.charts import dot_strip, line_sample
from stmtrain.report.comparison import Comparison, Difference, Result
from stmtrain.report.html import Markup, join, tag
from stmtrain.scoring.scores import Scores

_RECIPE = "checkpoint recipe "
_MEASURES = ("J&F", "J", "J recall", "J decay", "F", "F recall", "F decay")
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
"""Shown where a result has no value."""


def percent(value: float) -> str:
    """Format a value in [0, 1] in percent with one decimal."""
    return f"{100 * value:.1f}".replace("-", MINUS)


def gain(value: float) -> str:
    """Format a difference in percent with its sign; zero is ``±0.0``."""
    text = f"{100 * value:+.1f}".replace("-", MINUS)
    return "±0.0" if text[1:] == "0.0" else text


def summary_table(comparison: Comparison) -> Markup:
    """Return one row per result, over the videos that all have, with differences from the first."""
    several = len(comparison.results) > 1
    partial = any(result.missing for result in comparison.results)
    heads = ["result", *_MEASURES]
    if partial:
        heads += ["videos", "J&F of its videos"]
    if several:
        heads += [f"vs {comparison.results[0].name}", "better : worse"]
    rows = [
        _summary_row(comparison, number, result, several, partial)
        for number, result in enumerate(comparison.results)
    ]
    caption = []
    if partial:
        shared = len(comparison.common())
        if shared:
            caption.append(f"Means over the {shared} videos that every result has. ")
        else:
            caption.append("No video is in every result, so means cannot be compared. ")
    if several:
        caption.append(
            "Differences in J&F are over the videos of both results, with a 95 % bootstrap "
            "interval from ten videos on; better : worse are numbers of videos."
        )
    return join(
        tag("h2", "Summary"),
        _table(heads, rows, "".join(caption)),
    )


def _summary_row(
    comparison: Comparison, number: int, result: Result, several: bool, partial: bool
) -> Markup:
    shared = comparison.over_common(result)
    cells = [
        tag("td", percent(value) if value is not None else DASH, class_="big" if i == 0 else None)
        for i, value in enumerate(shared.columns().values() if shared else [None] * len(_MEASURES))
    ]
    if partial:
        own = len(result.scores.videos())
        cells += [
            tag("td", f"{own} of {own + len(result.missing)}"),
            tag("td", percent(result.scores.j_and_f)),
        ]
    if several:
        found = comparison.difference(result) if number else None
        tally = DASH if found is None else f"{found.better} : {found.worse}"
        cells += [tag("td", _interval(found)), tag("td", tally)]
    name = tag("th", line_sample(number) if several else None, result.name, scope="row")
    return tag("tr", name, *cells)


def facts_table(comparison: Comparison) -> Markup | None:
    """Return how each result was made, from ``results.json``; rows that differ are marked.

    Fields of the training recipe in which all results agree are collapsed.
    """
    facts_by_result = [result.facts or {} for result in comparison.results]
    keys = list(dict.fromkeys(key for facts in facts_by_result for key in facts))
    if not keys:
        return None
    rows: dict[bool, list[Markup]] = {False: [], True: []}
    for key in keys:
        values = [facts.get(key) for facts in facts_by_result]
        differs = len({value for value in values if value is not None}) > 1
        cells = [tag("td", DASH if value is None else value) for value in values]
        label = tag("th", key.replace(_RECIPE, "recipe "), scope="row")
        row = tag("tr", label, *cells, class_="differs" if differs else None)
        rows[key.startswith(_RECIPE) and not differs].append(row)
    heads = ["", *(result.name for result in comparison.results)]
    parts = [
        tag("h2", "How they were made"),
        _table(heads, rows[False], "From results.json; ≠ marks differences.", "facts"),
    ]
    if rows[True]:
        title = tag("summary", f"{len(rows[True])} more fields of the training recipe")
        parts.append(tag("details", title, _table(heads, rows[True], "", "facts")))
    return join(*parts)


def videos_table(comparison: Comparison, videos: Sequence[VideoSource]) -> Markup:
    """Return one row per video, in the given order."""
    by_video = [result.scores.videos() for result in comparison.results]
    rows = [
        _row(comparison, tag("a", video.name, href=f"#{video.name}"), video.name,
             [scores.get(video.name) for scores in by_video])
        for video in videos
    ]  # fmt: skip
    return join(tag("h2", "Videos"), _sortable("video", comparison, rows))


def objects_table(comparison: Comparison, videos: Sequence[VideoSource]) -> Markup | None:
    """Return one row per object, worst first, collapsed; None if every video has one object."""
    found: dict[tuple[str, int], list[Scores | None]] = {}
    for i, result in enumerate(comparison.results):
        for score in result.scores.objects:
            row = found.setdefault((score.video, score.object_id), [None] * len(comparison.results))
            row[i] = Scores((score,))
    if len(found) == len(videos):
        return None

    def mean(key: tuple[str, int]) -> float:
        known = [scores.j_and_f for scores in found[key] if scores is not None]
        return sum(known) / len(known)

    rows = []
    for key in sorted(found, key=mean):
        name = f"{key[0]}_{key[1]}"
        link = tag("a", name, href=f"#{key[0]}")
        rows.append(_row(comparison, link, name, found[key]))
    title = tag("summary", tag("h2", f"{len(rows)} objects"))
    return tag("details", title, _sortable("object", comparison, rows))


def _sortable(kind: str, comparison: Comparison, rows: Sequence[Markup]) -> Markup:
    names = [result.name for result in comparison.results]
    heads = [tag("th", kind, scope="col", data_sort="text")]
    if len(names) == 1:
        heads += [_number_head(name) for name in _MEASURES]
    else:
        heads += [_number_head(join(line_sample(i), name)) for i, name in enumerate(names)]
        heads += [_number_head(f"{name} vs {names[0]}") for name in names[1:]]
    heads.append(tag("th", "0 to 100", scope="col"))
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", rows), class_="sortable")
    what = "J&F of each result" if len(names) > 1 else "All measures"
    caption = tag("p", f"{what}, worst first; click the head of a column to sort.", class_="faint")
    return join(caption, tag("div", table, class_="scroll"))


def _number_head(name: str) -> Markup:
    return tag("th", name, scope="col", data_sort="number")


def _row(
    comparison: Comparison, link: Markup, name: str, scores: Sequence[Scores | None]
) -> Markup:
    first = scores[0]
    cells = [tag("td", link, data_value=name)]
    if len(scores) == 1:
        values = first.columns().values() if first else ()
        cells += [_number(value, percent(value)) for value in values]
    else:
        cells += [_number(s.j_and_f, percent(s.j_and_f)) if s else _unknown() for s in scores]
        for other in scores[1:]:
            known = other.j_and_f - first.j_and_f if other and first else None
            cells.append(_unknown() if known is None else _number(known, gain(known)))
    known_values = {i: s.j_and_f for i, s in enumerate(scores) if s}
    label = ", ".join(f"{comparison.results[i].name} {percent(v)}" for i, v in known_values.items())
    return tag("tr", *cells, tag("td", dot_strip(known_values, f"{name}: {label}")))


def _number(value: float, text: str) -> Markup:
    return tag("td", text, data_value=f"{value:.6f}")


def _unknown() -> Markup:
    return tag("td", DASH, data_value="", title="no result")


def _interval(found: Difference | None) -> str | Markup:
    if found is None:
        return DASH
    mean = tag("span", gain(found.mean), class_="gain")
    if found.interval is None:
        return mean
    return join(mean, tag("span", f" [{', '.join(map(gain, found.interval))}]", class_="faint"))


def _table(
    heads: Sequence[str], rows: Sequence[Markup], caption: str, kind: str | None = None
) -> Markup:
    table = tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", rows),
        class_=kind,
    )
    return join(
        tag("div", table, class_="scroll"),
        tag("p", caption, class_="faint") if caption else None,
    )
