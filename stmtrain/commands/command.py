"""What every ``stm`` command shares: guarded failures, the console, and common options."""

import functools
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmtrain.errors import StmError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "CacheFolder",
    "CacheSize",
    "Davis",
    "Device",
    "Location",
    "OnBad",
    "Out",
    "Seed",
    "Split",
    "Workers",
    "Year",
    "command",
    "end",
    "open_console",
    "show_tracebacks",
]

Out = Annotated[Path, typer.Option(help="Output folder.")]
Davis = Annotated[Path, typer.Option("--davis", help="DAVIS root (holds JPEGImages).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Year = Annotated[int, typer.Option(help="DAVIS year: 2016 or 2017.")]
Split = Annotated[str, typer.Option(help="Split: train, val, ...")]
Workers = Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for shards from URLs; else the user's cache."),
]
CacheSize = Annotated[
    float, typer.Option("--cache-size", min=0, help="The most that the cache holds, GB.")
]
Location = Annotated[
    str, typer.Argument(help="Shard folder or s3://, gs://, hf://, https:// URL of one.")
]
Seed = Annotated[int, typer.Option(help="Decides every random choice.")]

_debug = False


class OnBad(StrEnum):
    """What to do with input that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


def show_tracebacks(on: bool) -> None:
    """Let errors through with their tracebacks (``stm --debug``), or print them in one line."""
    global _debug
    _debug = on


def command(
    parent: typer.Typer, name: str, again: str = "run the same command again to go on"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose failures end in one line and the right exit code.

    Args:
        parent: The app that the command belongs to.
        name: What the user types.
        again: What to do after Ctrl-C.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                raise end(f"stopped; what was finished is kept, {again}", 130) from None
            except (StmError, OSError) as error:
                if _debug:
                    raise
                raise end(_one_line(error), getattr(error, "exit_code", 1)) from None

        parent.command(name)(guarded)
        return function

    return register


def end(message: str, code: int) -> typer.Exit:
    """Print why a command ends; raise what is returned."""
    typer.echo(f"stm: {message}", err=True)
    return typer.Exit(code)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(str(error).split())


def open_console(*, quiet: bool = False) -> "Console":
    """Return the console of standard output, or one that prints nothing."""
    from rich.console import Console

    return Console(quiet=quiet)
