"""The commands eval and score. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.command import Davis, Device, Split, Workers, Year, command, open_console
from stmtrain.cores import resolve_workers

__all__ = ["app"]

app = typer.Typer()


@command(app, "eval")
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="Ours, or published STM weights.")],
    davis: Davis,
    out: Annotated[Path, typer.Option(help="Folder for PNGs and results.json.")],
    year: Year = 2017,
    split: Split = "val",
    memory_every: Annotated[int, typer.Option(help="Every Nth frame stays in memory.")] = 5,
    size: Annotated[
        int | None, typer.Option(help="Short side for the network, pixels; else the frames' own.")
    ] = None,
    device: Device = "auto",
    workers: Workers = "auto",
) -> None:
    """Segment a DAVIS split from its first masks, write palette PNGs, and score them."""
    from stmtrain.console import progress_bar
    from stmtrain.evaluate import evaluate_davis
    from stmtrain.train import pick_device

    console = open_console()
    with progress_bar(console, "eval", "frames") as report:
        evaluation = evaluate_davis(
            checkpoint,
            davis,
            year,
            split,
            out,
            device=pick_device(device),
            memory_every=memory_every,
            size=size,
            workers=resolve_workers(workers),
            report=report,
        )
    if evaluation.scores is not None:
        console.print(evaluation.scores.table())
    console.print(evaluation.summary(), highlight=False)


@command(app, "score")
def score(
    results: Annotated[Path, typer.Option(help="Folder with <video>/<frame>.png.")],
    davis: Davis,
    year: Year = 2017,
    split: Split = "val",
    json: Annotated[Path | None, typer.Option("--json", help="Write every number here.")] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Folder for CSV files as the official tool's.")
    ] = None,
    workers: Workers = "auto",
) -> None:
    """Score anyone's result PNGs with J and F as the official DAVIS code does."""
    from stmtrain.console import progress_bar
    from stmtrain.score import score_davis

    console = open_console()
    with progress_bar(console, "score", "videos") as report:
        scores = score_davis(
            results,
            davis,
            year,
            split,
            resolve_workers(workers),
            lambda done, n: report(done, n, ""),
        )
    console.print(scores.table())
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        json.write_bytes(scores.to_json())
    if csv is not None:
        scores.write_csv(csv, split)
