"""The options that name a set of videos and its protocol, and what is opened from them."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stmtrain.commands.options import Layout, Year, offer, offer_splits
from stmtrain.errors import UsageError

if TYPE_CHECKING:
    from stmtrain.datasets.protocol import Protocol
    from stmtrain.datasets.video_set import VideoSet


def _protocols() -> Iterable[str]:
    from stmtrain.datasets.protocol import PROTOCOLS

    return PROTOCOLS


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
            autocompletion=offer_splits,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score by davis2016, davis2017, youtube-vos, mose2, lvos, vost, sav or FILE.toml.",
            autocompletion=offer(_protocols),
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


def score_set(check_submission: Path | None = None, **options: Any) -> "VideoSet":
    """Open :func:`truth_set`, or with its frames the set that a submission is compared with."""
    return truth_set(**options) if check_submission is None else video_set(**options)


_set_options = inspect.signature(video_set)
vars(truth_set)["__signature__"] = _set_options
vars(score_set)["__signature__"] = _set_options.replace(
    parameters=[
        inspect.signature(score_set).parameters["check_submission"],
        *_set_options.parameters.values(),
    ]
)


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


def set_with_frames(given: Mapping[str, Any]) -> "VideoSet":
    """Open :func:`video_set` from all options of a command."""
    return video_set(**{name: given[name] for name in inspect.signature(video_set).parameters})


def named_videos(given: Mapping[str, Any]) -> list[str]:
    """Return the options of :func:`video_set` as the user wrote them, from all of a command's."""
    words = []
    for name in inspect.signature(video_set).parameters:
        value = given.get(name)
        if value not in (None, False) and (name != "year" or given.get("davis") is not None):
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return words
