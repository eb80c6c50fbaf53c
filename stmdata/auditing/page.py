"""Findings as one self-contained HTML file, or as a bar chart of how many there are."""

from collections import Counter
from pathlib import Path

from stmdata.auditing.audit import Audit
from stmdata.auditing.finding import KINDS, Severity
from stmtrain.files import write_whole
from stmtrain.report.html import Markup, document, tag
from stmtrain.report.plot import write_figure

_COLOURS = {Severity.ERROR: "C3", Severity.WARNING: "C1", Severity.NOTE: "C7"}


def write_plot(path: Path, audit: Audit) -> None:
    """Write all findings to a ``.html`` file, or their numbers to a ``.png`` file.

    Raises:
        StmError: The file cannot be written.
    """
    if path.suffix.lower() == ".html":
        write_whole(path, audit_page(audit))
    else:
        _write_bars(path, audit)


def audit_page(audit: Audit) -> str:
    """Return the page: for each kind what it does and what helps, and where it was found."""
    return document(
        "Audit",
        tag("header", tag("h1", "Audit"), tag("p", audit.summary(), class_="lead")),
        tag("main", *(_section(audit, name) for name in audit.counts())),
        tag("footer", "Made by stm audit."),
    )


def _section(audit: Audit, name: str) -> Markup:
    kind = KINDS[name]
    rows = [
        tag(
            "tr", *(tag("td", text) for text in (f.where, f.severity.name.lower(), f.description()))
        )
        for f in audit.findings
        if f.kind == name
    ]
    heads = [tag("th", head, scope="col") for head in ("where", "severity", "what")]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="facts")
    return tag(
        "section",
        tag("h2", f"{kind.title} ({len(rows)})"),
        tag("p", f"What it does: {kind.consequence}. What helps: {kind.cure}.", class_="faint"),
        tag("div", table, class_="scroll"),
        id=name,
    )


def _row(*texts: str) -> Markup:
    return tag("tr", *(tag("td", text) for text in texts))


def _write_bars(path: Path, audit: Audit) -> None:
    from matplotlib.figure import Figure

    names = list(audit.counts())[::-1]
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(names)), layout="constrained")
    panel = figure.subplots()
    left = dict.fromkeys(names, 0)
    for severity in reversed(Severity):
        found = Counter(f.kind for f in audit.findings if f.severity is severity)
        counts = [found[name] for name in names]
        label, starts = severity.name.lower(), list(left.values())
        panel.barh(names, counts, left=starts, color=_COLOURS[severity], label=label)
        left = {name: left[name] + found[name] for name in names}
    panel.set(title=audit.summary(), xlabel="findings")
    panel.legend(loc="best")
    write_figure(path, figure)
