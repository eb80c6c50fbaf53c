"""``stm demo``. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, open_console
from stmtrain.commands.options import Seed

app = typer.Typer()


@command(app, "demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Run the complete workflow on drawn data, in under five minutes on two cores."""
    from stmdata.drawn.demo import demo

    demo(out, seed=seed, console=open_console())
