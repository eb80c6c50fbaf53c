"""``torchrun ... -m stmtrain OPTIONS`` runs ``stm train OPTIONS`` as one of several ranks."""

import os

import typer

from stmtrain.commands.command import command
from stmtrain.commands.train import kept_run, train
from stmtrain.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    rank = typer.Typer(pretty_exceptions_enable=False)
    first = os.environ.get("RANK", "0") == "0"  # it speaks for all of them
    command(rank, "train", kept_run if first else None)(train)
    rank()
