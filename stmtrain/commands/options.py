"""Options that several commands share, and what is opened or built from them."""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stmtrain.commands.command import print_plain
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.inference.options import Inference

BACKBONES = ("resnet50", "resnet18", "resnest101")
"""Repeated here, because ``stmtrain.model`` imports torch and a shell completes at once."""

PRECISIONS = ("float32", "bfloat16")


def offer(values: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Return what completes an option in the shell; ``values`` is called when it does."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values() if value.startswith(incomplete)]

    return complete


def train_recipes() -> Iterable[str]:
    """Return the names of the recipes of training, for the shell."""
    from stmtrain.training.recipe import RECIPES

    return RECIPES


def _layouts() -> Iterable[str]:
    from stmtrain.datasets.dataset import DATASETS

    return ("auto", *DATASETS)


def _splits() -> Iterable[str]:
    from stmtrain.datasets.dataset import DATASETS

    return dict.fromkeys(
        split for dataset in DATASETS.values() for split in (*dataset.splits, dataset.scored_split)
    )


offer_splits = offer(_splits)

Out = Annotated[Path, typer.Option(help="Output folder.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1, mps.",
        autocompletion=offer(lambda: ("auto", "cpu", "cuda", "mps")),
    ),
]
Workers = Annotated[
    str,
    typer.Option(
        help="Processes: a number, or auto for one per core.",
        autocompletion=offer(lambda: ("auto",)),
    ),
]

Checkpoint = Annotated[
    Path, typer.Option(help="Checkpoint of stm train, or published STM weights.")
]

Location = Annotated[
    str, typer.Argument(help="Shard folder or s3://, gs://, hf://, https:// URL of one.")
]
CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder for shards from URLs; else the user's cache."),
]
CacheSize = Annotated[
    float, typer.Option("--cache-size", min=0, help="The most that the cache holds, GB.")
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="[FILE]",
        help="Print every number as JSON and nothing else; with FILE.json, write it there.",
    ),
]

Year = Annotated[
    int,
    typer.Option(help="DAVIS year: 2016 or 2017.", autocompletion=offer(lambda: ("2016", "2017"))),
]
Split = Annotated[str, typer.Option(help="Split: train, val, ...", autocompletion=offer_splits)]
AnySplit = Annotated[
    str | None,
    typer.Option(help="One split; else everything that has masks.", autocompletion=offer_splits),
]
Layout = partial(typer.Option, autocompletion=offer(_layouts))
_Inference = partial(typer.Option, rich_help_panel="Inference")


class OnBad(StrEnum):
    """What to do with input that cannot be read."""

    RAISE = "raise"
    SKIP = "skip"


def share_options(**builders: Callable[..., Any]) -> Callable[..., Callable[..., None]]:
    """Add the options of other functions to a command.

    Args:
        builders: By name of a parameter of the command, the function whose result it receives.
            The parameters of that function become options after the command's own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        plain = [name for name in own if name not in builders]
        shared = {name: inspect.signature(build).parameters for name, build in builders.items()}

        @functools.wraps(function)
        def wrapper(**values: Any) -> None:
            built = {
                name: build(**{option: values[option] for option in shared[name]})
                for name, build in builders.items()
            }
            function(**{name: values[name] for name in plain}, **built)

        options = [own[name] for name in plain]
        for parameters in shared.values():
            options += [parameter for name, parameter in parameters.items() if name not in plain]
        # Typer reads the options from here.
        vars(wrapper)["__signature__"] = inspect.Signature(options)
        wrapper.__annotations__ = {option.name: option.annotation for option in options}
        return wrapper

    return decorate


def inference_options(
    memory_every: Annotated[int, _Inference(help="Every Nth frame stays in memory.")] = 5,
    memory_frames: Annotated[
        int | None, _Inference(help="Most frames in memory; 0 for no limit.")
    ] = None,
    top_k: Annotated[
        int | None,
        _Inference("--top-k", help="Read the K most similar memory positions; else all."),
    ] = None,
    size: Annotated[
        int | None,
        _Inference(help="Short side for the network, pixels; 0: the frames' own."),
    ] = None,
    flip: Annotated[bool, _Inference("--flip", help="Average with the mirrored video.")] = False,
    scales: Annotated[str, _Inference(help="Average over these sizes, such as 1,1.3.")] = "1",
    precision: Annotated[
        str, _Inference(help="float32 or bfloat16.", autocompletion=offer(lambda: PRECISIONS))
    ] = "float32",
) -> "Inference":
    """Build the options of inference.

    Raises:
        UsageError: An option has a wrong value; names the option.
    """
    from stmtrain.inference.options import Inference, OptionError

    try:
        factors = tuple(float(part) for part in scales.split(","))
    except ValueError:
        raise UsageError(f"--scales: expected numbers such as 1,1.3, found {scales!r}") from None
    try:
        return Inference(
            memory_every=memory_every,
            memory_frames=memory_frames or None,
            top_k=top_k,
            size=size or None,
            flip=flip,
            scales=factors,
            precision=cast(Any, precision),
        )
    except OptionError as error:
        raise UsageError(f"--{error.option.replace('_', '-')}: {error.problem}") from None


def print_notes(console: "Console", notes: Sequence[str], most: int = 8) -> None:
    """Print notes on result files, the first few."""
    for note in notes[:most]:
        print_plain(console, f"note: {note}")
    if len(notes) > most:
        print_plain(console, f"note: and {len(notes) - most} more like these")
