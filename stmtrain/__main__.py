"""One rank of several: ``torchrun ... -m stmtrain OPTIONS`` is a rank of ``stm train OPTIONS``."""

import typer

from stmtrain.commands.command import command
from stmtrain.commands.train import train

if __name__ == "__main__":
    rank = typer.Typer(pretty_exceptions_enable=False)
    command(rank, "train")(train)
    rank()
