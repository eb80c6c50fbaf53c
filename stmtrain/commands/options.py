"""Options that several commands share, and what is opened or built from them."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stmtrain.commands.command import print_plain
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from stmtrain.datasets.protocol import Protocol
    from stmtrain.datasets.video_set import VideoSet
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
Split = Annotated[str, typer.Option(help="Split: train, val, ...", autocompletion=offer(_splits))]
AnySplit = Annotated[
    str | None,
    typer.Option(help="One split; else everything that has masks.", autocompletion=offer(_splits)),
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


def video_set(
    davis: Annotated[Path | None, typer.Option(help="DAVIS root (holds JPEGImages).")] = None,
    youtube_vos: Annotated[
        Path | None, typer.Option(help="Or a YouTube-VOS root (holds the splits).")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Or the root of any data set that pack-videos reads.")
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Or packed videos: folder or URL.")] = None,
    layout: Annotated[
        str | None,
        Layout(help="With --videos: its layout, such as davis2017; else it is recognised."),
    ] = None,
    year: Year = 2017,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split: val, test-dev, ...; of YouTube-VOS: valid, train (public masks).",
            autocompletion=offer(_splits),
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score by davis2016, davis2017, youtube-vos, mose2, lvos, vost, sav or FILE.toml."
        ),
    ] = None,
    as_meant: Annotated[
        bool,
        typer.Option("--as-meant", help="With --protocol: without the official code's faults."),
    ] = False,
) -> "VideoSet":
    """Open the one set of videos that was named, with its frames.

    Raises:
        UsageError: None or several were named, or there is no such data set, year, split or
            protocol.
        DataError: The set is incomplete.
    """
    from stmtrain.datasets.dataset import DATASETS

    rules = _rules(protocol, as_meant)
    if rules is not None and layout is None and videos is not None:
        named = rules.base or rules.name.removesuffix("-as-meant")
        layout = named if named in DATASETS else None
    opened = _open(davis, youtube_vos, videos, shards, layout, year, split)
    return opened if rules is None else opened.scored_by(rules)


def truth_set(**options: Any) -> "VideoSet":
    """Open the one set that was named; with a protocol, its layout's masks without the frames.

    Raises:
        UsageError: As for :func:`video_set`.
        DataError: The set is incomplete.
    """
    from stmtrain.datasets.truth import open_truth

    rules = _rules(options["protocol"], options["as_meant"])
    others = (options["davis"], options["youtube_vos"], options["shards"], options["layout"])
    if rules is None or options["videos"] is None or any(other is not None for other in others):
        return video_set(**options)
    return open_truth(options["videos"], rules, options["split"])


vars(truth_set)["__signature__"] = inspect.signature(video_set)


def _rules(protocol: str | None, as_meant: bool) -> "Protocol | None":
    from stmtrain.datasets.protocol import find_protocol

    if protocol is None and as_meant:
        raise UsageError("--as-meant: repairs the faults of a --protocol; name one")
    return None if protocol is None else find_protocol(protocol, meant=as_meant)


def _open(
    davis: Path | None,
    youtube_vos: Path | None,
    videos: Path | None,
    shards: str | None,
    layout: str | None,
    year: int,
    split: str | None,
) -> "VideoSet":
    from stmtrain.datasets.packed import packed_set
    from stmtrain.datasets.tree import AUTO, open_dataset
    from stmtrain.shards.urls import parse_location

    named = {"--davis": davis, "--youtube-vos": youtube_vos, "--videos": videos, "--shards": shards}
    given = [name for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise UsageError(
            f"expected one of {', '.join(named)}, found {' and '.join(given) or 'none of them'}"
        )
    if davis is not None:
        layout = f"davis{year}"
    elif youtube_vos is not None:
        layout = "youtube-vos"
    root = davis or youtube_vos or videos
    if root is not None:
        return open_dataset(root, layout or AUTO).open(split)
    if split is not None:
        raise UsageError("--split: --shards has no splits; omit it")
    return packed_set(parse_location(str(shards)))


def named_videos(given: Mapping[str, Any]) -> list[str]:
    """Return the options of :func:`video_set` as the user wrote them, from all of a command's."""
    words = []
    for name in inspect.signature(video_set).parameters:
        value = given.get(name)
        if value is not None and (name != "year" or given.get("davis") is not None):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def print_notes(console: "Console", notes: Sequence[str], most: int = 8) -> None:
    """Print notes on result files, the first few."""
    for note in notes[:most]:
        print_plain(console, f"note: {note}")
    if len(notes) > most:
        print_plain(console, f"note: and {len(notes) - most} more like these")
