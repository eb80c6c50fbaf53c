"""Options that several offline commands share."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Images = Annotated[Path | None, typer.Option(help="Folder of the images.")]
Annotations = Annotated[Path | None, typer.Option(help="COCO-format instances JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another set in --out.")]


def share_options(**builders: Callable[..., Any]) -> Callable[..., Callable[..., None]]:
    """Add the options of other functions to a command.

    Args:
        builders: By name of a parameter of the command, the function whose result it receives.
            The parameters of that function become options after the command's own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        shared = {name: inspect.signature(build).parameters for name, build in builders.items()}

        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            for name, build in builders.items():
                values[name] = build(**{option: values.pop(option) for option in shared[name]})
            function(**values)

        options = [parameter for name, parameter in own.items() if name not in builders]
        for parameters in shared.values():
            options += parameters.values()
        # Typer reads the options from here.
        vars(wrapper)["__signature__"] = inspect.Signature(options)
        wrapper.__annotations__ = {option.name: option.annotation for option in options}
        return wrapper

    return decorate
