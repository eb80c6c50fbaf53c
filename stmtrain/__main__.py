"""``torchrun ... -m stmtrain OPTIONS`` runs ``stm train OPTIONS`` as one of several ranks."""

import typer

from stmtrain.commands.command import command
from stmtrain.commands.train import train
from stmtrain.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    rank = typer.Typer(pretty_exceptions_enable=False)
    command(rank, "train")(train)
    rank()
