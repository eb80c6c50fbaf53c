"""The ``stm`` command, put together from the commands of ``stmdata`` and ``stmtrain``.

Those modules import what they need when a command runs, so that ``stm --help`` answers at once.
"""

from typing import Annotated

import typer

from stmdata.commands import prepare as offline
from stmdata.commands import shards as shard_commands
from stmtrain.commands import evaluate as evaluation
from stmtrain.commands import report
from stmtrain.commands import track as tracking
from stmtrain.commands import train as lean
from stmtrain.commands import weights as weight_commands
from stmtrain.commands.command import show_tracebacks

__all__ = ["app", "main"]

_HELP = "Prepare video object segmentation data as tar shards and train STM from them."
app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(offline.app)
app.add_typer(lean.app)
app.add_typer(evaluation.app)
app.add_typer(tracking.app)
app.add_typer(report.app)
app.add_typer(shard_commands.app, name="shards")
app.add_typer(weight_commands.app, name="weights")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    show_tracebacks(debug)


def main() -> None:
    """Run ``stm``."""
    app()


if __name__ == "__main__":
    main()
