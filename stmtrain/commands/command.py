"""What every ``stm`` command shares: failures that end in one line, and the console."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from stmtrain.errors import StmError
from stmtrain.extras import missing

if TYPE_CHECKING:
    from rich.console import Console

_debug = False


def show_tracebacks(on: bool) -> None:
    """Show tracebacks of errors (``stm --debug``), or print errors in one line."""
    global _debug
    _debug = on


def command(
    parent: typer.Typer, name: str, again: str = "run the same command again to resume"
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; its errors are printed in one line and set the exit code.

    Args:
        parent: The app that the command belongs to.
        name: Name of the command.
        again: Advice to print after Ctrl-C.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                raise end(f"stopped; finished work is kept, {again}", 130) from None
            except (StmError, OSError) as error:
                if _debug:
                    raise
                raise end(_one_line(error), getattr(error, "exit_code", 1)) from None
            except ImportError as error:
                absent = missing(error, name)
                if _debug or absent is None:
                    raise
                raise end(str(absent), absent.exit_code) from None

        parent.command(name)(guarded)
        return function

    return register


def end(message: str, code: int) -> typer.Exit:
    """Print why a command ends, and return the exception that the caller raises."""
    echo(f"stm: {message}", err=True)
    return typer.Exit(code)


def safe_text(text: str) -> str:
    r"""Write characters that could control a terminal, such as escape codes, as ``\x1b``.

    These are control and format characters (which can also reverse the direction of text) and parts
    of characters that no encoding can represent. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def echo(line: object, err: bool = False) -> None:
    """Print a line, made safe, to standard output or error without a console."""
    typer.echo(safe_text(str(line)), err=err)


def print_plain(console: "Console", text: str) -> None:
    """Print text without line breaks, which would spoil paths."""
    console.print(text, soft_wrap=True)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(str(error).split())


def open_console(*, quiet: bool = False) -> "Console":
    """Return the console of standard output, or one that prints nothing."""
    from stmtrain.commands.console import SafeConsole

    return SafeConsole(quiet=quiet)
