"""The commands weights info and weights convert: options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, echo, open_console, print_next, write_json
from stmtrain.commands.options import BACKBONES, Json, offer

app = typer.Typer(help="Inspect and convert files of weights.", no_args_is_help=True)

_FEW = 5  # differences of each kind that are listed without --verbose

File = Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="List every difference.")]


@command(app, "info")
def info(file: File, verbose: Verbose = False, json: Json = None) -> None:
    """Show what a file of weights contains, and whether all names and shapes are those of STM."""
    from dataclasses import asdict

    from stmtrain.weights.convert import inspect

    found = inspect(file)
    if not write_json(json, asdict(found)):
        for line in found.lines(None if verbose else _FEW):
            echo(line)


@command(app, "convert")
def convert(
    source: Annotated[
        Path, typer.Argument(help="Published STM weights, or a checkpoint of stm train.")
    ],
    target: Annotated[Path, typer.Argument(help="New file: .pth, .pt or .safetensors.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Expected backbone; recognised if not given.",
            autocompletion=offer(lambda: BACKBONES),
        ),
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights of a checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write STM weights as a plain state dict; list what differs if a file is not STM."""
    from stmtrain.weights.convert import convert

    most = None if verbose else _FEW
    convert(source, target, echo, most, backbone=backbone, ema=ema, overwrite=overwrite)
    evaluate = ("stm", "eval", "--checkpoint", target, "--videos", "DIR", "--out", "RESULTS")
    print_next(open_console(), *evaluate)
