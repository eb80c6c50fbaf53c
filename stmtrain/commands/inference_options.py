"""The options of inference, the same for every command that segments."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from stmtrain.inference.segment import Inference

__all__ = [
    "Flip",
    "MemoryEvery",
    "MemoryFrames",
    "Precision",
    "Scales",
    "ShortSide",
    "TopK",
    "inference_of",
]

_PANEL = "Inference"

MemoryEvery = Annotated[
    int, typer.Option(help="Every Nth frame stays in memory.", rich_help_panel=_PANEL)
]
MemoryFrames = Annotated[
    int | None,
    typer.Option(help="Most frames in memory; 0 for no limit.", rich_help_panel=_PANEL),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        help="Read the K most similar memory positions; else all.",
        rich_help_panel=_PANEL,
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        help="Short side for the network, pixels; 0: the frames' own.", rich_help_panel=_PANEL
    ),
]
Flip = Annotated[
    bool, typer.Option("--flip", help="Average with the mirrored video.", rich_help_panel=_PANEL)
]
Scales = Annotated[
    str, typer.Option(help="Average over these sizes, such as 1,1.3.", rich_help_panel=_PANEL)
]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16.", rich_help_panel=_PANEL)]


def inference_of(
    *, scales: str, memory_frames: int | None, size: int | None, **options: Any
) -> "Inference":
    """Build the options from what the user typed; :class:`UsageError` names the wrong one."""
    from stmtrain.inference.segment import Inference

    try:
        factors = tuple(float(part) for part in scales.split(","))
    except ValueError:
        raise UsageError(f"--scales: expected numbers such as 1,1.3, found {scales!r}") from None
    try:
        return Inference(
            scales=factors, memory_frames=memory_frames or None, size=size or None, **options
        )
    except ValueError as error:
        name, _, rest = str(error).partition(":")
        raise UsageError(f"--{name.replace('_', '-')}:{rest}") from None
