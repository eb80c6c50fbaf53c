"""The ``stm`` command, assembled from the commands of ``stmdata`` and ``stmtrain``.

These modules import what they need when a command runs, so that ``stm --help`` is quick.
"""

import os
from typing import Annotated

import typer

from stmdata.commands import audit, demo, pack, prepare, preview, shards
from stmtrain.commands import doctor, evaluate, stats, track, train, weights
from stmtrain.commands.command import echo, show_tracebacks
from stmtrain.extras import version

_HELP = "Prepare video object segmentation data as tar shards and train STM from them."
app = typer.Typer(help=_HELP, no_args_is_help=True, pretty_exceptions_enable=False)
for room in (prepare, pack, audit, demo, preview, stats, train, evaluate, track, doctor):
    app.add_typer(room.app)
app.add_typer(shards.app, name="shards")
app.add_typer(weights.app, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        echo(f"stm {version()}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and stop."
        ),
    ] = False,
) -> None:
    show_tracebacks(debug)


def main() -> None:
    """Run ``stm``."""
    # Workers, ranks and the commands of the demo must not import what happens to be in the folder
    # in which they are started, such as a cli.py or random.py of the user.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    # Before torch loads: threads that wait for one another spin shortly, then sleep. By default
    # they spin long, and on a machine that is busy with other work a training step then takes 100
    # times as long; without any spinning, small steps take a quarter longer on an idle one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    app()


if __name__ == "__main__":
    main()
