"""The commands weights info and weights convert. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command

__all__ = ["app"]

app = typer.Typer(help="Look at files of weights, and convert them.", no_args_is_help=True)

_FEW = 5  # differences of each kind that are listed unless all are asked for

File = Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="List every difference.")]


@command(app, "info")
def info(file: File, verbose: Verbose = False) -> None:
    """Say what a file of weights holds, and whether it is STM in every name and shape."""
    from stmtrain.weights.convert import inspect

    found = inspect(file)
    for line in found.lines(None if verbose else _FEW):
        typer.echo(line)


@command(app, "convert")
def convert(
    source: Annotated[Path, typer.Argument(help="Published STM weights, or our checkpoint.")],
    target: Annotated[Path, typer.Argument(help="New file: .pth, .pt or .safetensors.")],
    backbone: Annotated[
        str | None, typer.Option(help="What it must be; recognised if not given.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace TARGET.")] = False,
    verbose: Verbose = False,
) -> None:
    """Write STM weights as a plain state dict; refuse, and say what differs, if they are not."""
    from stmtrain.weights.convert import convert

    most = None if verbose else _FEW
    convert(source, target, typer.echo, most, backbone=backbone, ema=ema, overwrite=overwrite)
