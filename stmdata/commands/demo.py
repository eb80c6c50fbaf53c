"""``stm demo``. Options and wiring only."""

from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.command import command, open_console, print_plain
from stmtrain.commands.options import Seed

app = typer.Typer()


def _kept(out: Path, **_options: object) -> str:
    return f"{out} is incomplete; remove it before you run the demo again"


@command(app, "demo", _kept)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Run the complete workflow on drawn data, in two to three minutes on two cores."""
    from stmdata.drawn.demo import demo

    console = open_console()
    demo(out, seed=seed, console=console)
    print_plain(console, f"next: open {out / 'report.html'} in a browser")
