"""Where ``--plot`` writes: a picture of matplotlib, or a page."""

from pathlib import Path
from typing import Any

from stmtrain.errors import UsageError
from stmtrain.extras import require
from stmtrain.files import whole_file


def check_plot(path: Path) -> None:
    """Check early that a plot can be written to a file.

    Raises:
        UsageError: Its name ends in neither .png nor .html, or matplotlib is not installed.
    """
    if path.suffix.lower() not in (".png", ".html"):
        raise UsageError(f"{path}: expected a name that ends in .png or .html; rename the plot")
    if path.suffix.lower() == ".png":
        require("matplotlib", "--plot FILE.png")


def write_figure(path: Path, figure: Any) -> None:
    """Write a figure of matplotlib as a PNG, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with whole_file(path) as file:
        FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
