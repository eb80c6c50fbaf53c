"""The command doctor. Options and wiring only."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, end, open_console, print_plain, write_json
from stmtrain.commands.options import CacheFolder, Json, Layout

app = typer.Typer()


@command(app, "doctor")
def doctor(
    tree: Annotated[Path | None, typer.Option(help="Root of a data set to look through.")] = None,
    layout: Annotated[
        str | None, Layout(help="Name of that data set; else all that are known are tried.")
    ] = None,
    disk: Annotated[Path, typer.Option(help="Folder whose disk is measured.")] = Path(),
    cache: CacheFolder = None,
    json: Json = None,
) -> None:
    """Check versions, extras, GPU, codecs, cores, disk, cache and a data set, each with a cure."""
    from stmtrain.commands.progress import progress_bar
    from stmtrain.doctor import machine, storage

    console = open_console(json=json)
    findings = []
    for finding in chain(machine.machine(), storage.disk(disk), [storage.cache(cache)]):
        findings.append(finding)
        print_plain(console, finding.text())
    if tree is not None:
        with progress_bar(console, str(tree), "videos") as progress:
            found = list(storage.tree(tree, layout, progress))
        findings += found
        print_plain(console, "\n".join(finding.text() for finding in found))
    bad = sum(finding.state == "bad" for finding in findings)
    write_json(json, {"good": not bad, "findings": [one.to_mapping() for one in findings]})
    if bad:
        raise end(f"doctor: {bad} of {len(findings)} checks are bad; see their cures", 1)
    print_plain(console, f"{len(findings)} checks, none is bad")
