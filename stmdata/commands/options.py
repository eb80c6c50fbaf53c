"""Options that several offline commands share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from stmtrain.commands.options import OnBad

Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Annotations = Annotated[Path | None, typer.Option(help="COCO-format instances JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another set in --out.")]
IndexCache = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for the annotations' index; else the user's cache."),
]
OnBadVideo = Annotated[
    OnBad, typer.Option(help="Report all unusable videos and stop, or skip and count them.")
]
Resize = Annotated[
    int | None, typer.Option(help="Short side in pixels; without it JPEG bytes pass untouched.")
]


def clip_recipes() -> Iterable[str]:
    """Return the names of the recipes of pseudo-videos, for the shell."""
    from stmdata.synthesis.recipe import RECIPES

    return RECIPES
