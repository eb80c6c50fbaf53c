"""``stm audit``. Options and wiring only."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stmtrain.commands.command import command, end, open_console, print_plain, write_json
from stmtrain.commands.options import CacheFolder, CacheSize, Json, Layout, Workers, offer_splits
from stmtrain.processes import resolve_workers

if TYPE_CHECKING:
    from rich.console import Console

    from stmdata.auditing.audit import Audit

app = typer.Typer()

_SHOWN = 10
"""Most findings of one kind and severity that are printed."""


class FailOn(StrEnum):
    """From which severity on findings make the command fail."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


@command(app, "audit")
def audit(
    sets: Annotated[list[str], typer.Argument(help="Trees of videos, shard folders or URLs.")],
    layout: Annotated[
        str, Layout(help="How the trees lie on disk: a name such as mose-v2, or auto.")
    ] = "auto",
    split: Annotated[
        str | None,
        typer.Option(
            help="Split of the trees: train, val, ...; else all.", autocompletion=offer_splits
        ),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with code 1 if something so bad was found.")
    ] = FailOn.ERROR,
    plot: Annotated[Path | None, typer.Option(help="Write FILE.png or FILE.html.")] = None,
    json: Json = None,
    workers: Workers = "auto",
    cache: CacheFolder = None,
    cache_size: CacheSize = 50.0,
) -> None:
    """Find what spoils training: wrong ids, specks, damaged files, duplicates, ..."""
    from stmdata.auditing.audit import audit as audit_sets
    from stmdata.auditing.finding import Severity
    from stmdata.auditing.inputs import open_input
    from stmdata.auditing.page import write_plot
    from stmtrain.commands.progress import progress_bar
    from stmtrain.report.plot import check_plot
    from stmtrain.shards.cache import user_cache

    if plot is not None:
        check_plot(plot)
    shared = user_cache(cache, cache_size) if any("://" in text for text in sets) else None
    console = open_console(json=json)
    inputs = [open_input(text, layout, split, shared) for text in sets]
    for one in inputs:
        if one.note:
            print_plain(console, f"{one.info.name}: {one.note}")
    with progress_bar(console, "audit", "videos") as progress:
        found = audit_sets(
            inputs, workers=resolve_workers(workers), cache=shared, progress=progress
        )
    if not write_json(json, found.to_mapping()):
        _show(console, found)
    if plot is not None:
        write_plot(plot, found)
        print_plain(console, f"{plot}: written")
    bad = 0 if fail_on is FailOn.NEVER else found.at_least(Severity[fail_on.name])
    if bad:
        raise end(f"{bad} findings of severity {fail_on} or worse; see --fail-on", 1)


def _show(console: "Console", found: "Audit") -> None:
    shown: Counter[tuple[str, str]] = Counter()
    for finding in found.findings:
        group = (finding.severity.name.lower(), finding.kind)
        shown[group] += 1
        if shown[group] <= _SHOWN:
            print_plain(console, str(finding))
    for (severity, kind), count in shown.items():
        if count > _SHOWN:
            print_plain(console, f"{severity}: {kind}: and {count - _SHOWN} more (--json, --plot)")
    print_plain(console, found.summary())
