"""The options that name a set of videos and its protocol, and what is opened from them."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from stmtrain.commands.options import Layout, Year, offer, offer_splits
from stmtrain.errors import DataError, UsageError

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
    if rules is not None and layout is None:
        name = rules.base or rules.name.removesuffix("-as-meant")
        layout = name if name in DATASETS else None
    named = _Named(davis, youtube_vos, videos, shards, layout, year)
    opened = named.open(split)
    return opened if rules is None else opened.scored_by(rules)


def truth_set(**options: Any) -> "VideoSet":
    """Open the one set that was named; with a protocol, its layout's masks without the frames.

    Raises:
        UsageError: As for :func:`video_set`.
        DataError: The set is incomplete.
    """
    from stmtrain.datasets.dataset import find_dataset
    from stmtrain.datasets.truth import open_truth

    rules = _rules(options["protocol"], options["as_meant"])
    root, layout = _Named(**{field: options[field] for field in _Named._fields}).root_and_layout()
    if rules is None or root is None:
        return video_set(**options)
    if layout is not None and layout != "auto":
        own = find_dataset(layout)
        benchmark = own.server or own.protocol
        if benchmark is None or benchmark.tree != rules.tree:
            return video_set(**options)  # the rules are another data set's
    return open_truth(root, rules, options["split"])


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


class _Named(NamedTuple):
    """The options that name a set of videos, one of which is given."""

    davis: Path | None
    youtube_vos: Path | None
    videos: Path | None
    shards: str | None
    layout: str | None
    year: int

    def root_and_layout(self) -> tuple[Path | None, str | None]:
        """Return the root of the data set, if it is files, and the name of its layout.

        Raises:
            UsageError: None or several sets were named.
        """
        named = {f"--{name.replace('_', '-')}": getattr(self, name) for name in self._fields[:4]}
        given = [name for name, value in named.items() if value is not None]
        if len(given) != 1:
            raise UsageError(
                f"expected one of {', '.join(named)}, found {' and '.join(given) or 'none of them'}"
            )
        layout = f"davis{self.year}" if self.davis else self.layout
        return (
            self.davis or self.youtube_vos or self.videos,
            "youtube-vos" if self.youtube_vos else layout,
        )

    def open(self, split: str | None) -> "VideoSet":
        """Open the set that was named."""
        from stmtrain.datasets.packed import packed_set
        from stmtrain.datasets.tree import AUTO, open_dataset
        from stmtrain.shards.urls import parse_location

        root, layout = self.root_and_layout()
        if root is not None:
            return open_dataset(root, layout or AUTO).open(split)
        if split is not None:
            raise UsageError("--split: --shards has no splits; omit it")
        return packed_set(parse_location(str(self.shards)))


def set_with_frames(given: Mapping[str, Any]) -> "VideoSet":
    """Open :func:`video_set` from all options of a command."""
    return video_set(**{name: given[name] for name in inspect.signature(video_set).parameters})


def truth_or_why(given: Mapping[str, Any]) -> "VideoSet | DataError":
    """Open :func:`truth_set` from all options of a command; return the error if it cannot be."""
    try:
        return truth_set(**{name: given[name] for name in inspect.signature(video_set).parameters})
    except DataError as error:
        return error


def named_videos(given: Mapping[str, Any]) -> list[str]:
    """Return the options of :func:`video_set` as the user wrote them, from all of a command's."""
    words = []
    for name in inspect.signature(video_set).parameters:
        value = given.get(name)
        if value not in (None, False) and (name != "year" or given.get("davis") is not None):
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    return words
