"""What every ``stm`` command shares: failures that end in one line, and the console."""

import functools
import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument, TyperCommand

from stmtrain.errors import StmError
from stmtrain.extras import missing
from stmtrain.files import write_whole

if TYPE_CHECKING:
    from rich.console import Console

_STANDARD_OUTPUT = "-"

_LESS_MEMORY = {
    "train": "--set precision=bfloat16, --set accumulate=2, --set checkpoint_activations=true, or "
    "a smaller --batch-size or --size"
}
"""What a command needs less memory with; the others, which only segment, have other options."""

_debug = False


def show_tracebacks(on: bool) -> None:
    """Show tracebacks of errors (``stm --debug``), or print errors in one line."""
    global _debug
    _debug = on


def nothing_kept(**_options: object) -> str:
    """Say what Ctrl-C has left of a command whose files are written at its end, or of none."""
    return "nothing was written; run the same command again to start anew"


def command(
    parent: typer.Typer, name: str, kept: Callable[..., str] | None = nothing_kept
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command; its errors are printed in one line and set the exit code.

    Args:
        parent: The app that the command belongs to.
        name: Name of the command.
        kept: Called after Ctrl-C with the values of the options by name: what the command has
            written by then, and how it is resumed. ``None`` if another process says so.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                raise _stopped(kept, kwargs) from None
            except (StmError, OSError) as error:
                if _debug:
                    raise
                raise end(_one_line(error), getattr(error, "exit_code", 1)) from None
            except ImportError as error:
                absent = missing(error, name)
                if _debug or absent is None:
                    raise
                raise end(str(absent), absent.exit_code) from None
            except RuntimeError as error:
                if _debug or type(error).__name__ != "OutOfMemoryError":  # torch's
                    raise
                raise end(_out_of_memory(name, error), 1) from None

        parent.command(name, cls=_Command)(guarded)
        return function

    return register


class _Command(TyperCommand):
    """A command whose option ``--json`` may be followed by a file, but need not.

    The next word is the file if it ends in .json, or if the command takes no arguments and the word
    can be nothing else.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare ``--json`` the value that stands for standard output."""
        if "--json" in args:
            place = args.index("--json") + 1
            word = args[place] if place < len(args) else "--"
            takes_arguments = any(isinstance(option, TyperArgument) for option in self.params)
            named = word == _STANDARD_OUTPUT or word.endswith(".json")
            if not named and (takes_arguments or word.startswith("-")):
                args = [*args[:place], _STANDARD_OUTPUT, *args[place:]]
        return super().parse_args(ctx, args)


def _stopped(kept: Callable[..., str] | None, options: Mapping[str, Any]) -> typer.Exit:
    return typer.Exit(130) if kept is None else end(f"stopped; {kept(**options)}", 130)


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


def print_next(console: "Console", *words: object) -> None:
    """Print the command that people usually run after this one; UPPER CASE is theirs to fill in."""
    print_plain(console, f"next: {' '.join(shlex.quote(str(word)) for word in words)}")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(str(error).split())


def _out_of_memory(name: str, error: RuntimeError) -> str:
    found = re.search(r"Tried to allocate [^.]*\.?[^.]*B", str(error))
    advice = _LESS_MEMORY.get(name, "a smaller --memory-frames or --size, or --precision bfloat16")
    return f"the GPU is out of memory ({found[0] if found else 'no details'}); use {advice}"


def open_console(*, quiet: bool = False, json: str | None = None) -> "Console":
    """Return the console for what a command says.

    Args:
        quiet: Print nothing.
        json: Value of ``--json``. If it stands for standard output, the console is that of standard
            error, so that a program reads nothing but JSON.
    """
    from stmtrain.commands.console import SafeConsole

    return SafeConsole(quiet=quiet, stderr=json == _STANDARD_OUTPUT)


def write_json(target: str | None, value: Mapping[str, Any]) -> bool:
    """Write a result where ``--json`` asks for it, if it was given.

    Returns:
        Whether it went to standard output, where nothing else may follow.
    """
    if target is None:
        return False
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    if target == _STANDARD_OUTPUT:
        typer.echo(text, nl=False)
        return True
    write_whole(Path(target), text)
    return False
