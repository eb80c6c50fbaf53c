"""What a data set has: videos that are opened when they are needed, and those left out.

A listing holds names, not files, so that a data set of 50,000 videos takes little memory. Each
entry can be opened in another process.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from stmtrain.datasets.video import Video

SPLITS = ("train", "val", "valid", "valid_short", "valid_long", "test")
"""Usual names of splits, in the order in which they are packed."""


@dataclass(frozen=True)
class Entry:
    """A video of a data set.

    Attributes:
        name: The data set's name of it; distinct within a split.
        split: The split that it belongs to; empty if the data set has none.
        open: Lists its frames and masks; picklable. Raises :class:`DataError` if it is incomplete.
    """

    name: str
    split: str
    open: Callable[[], Video]


@dataclass(frozen=True)
class Listing:
    """The videos of a split.

    Attributes:
        entries: Those that can be opened.
        left_out: Those that have no masks, by name, with the reason.
        sources: Files that hold annotations of all of them.
        folder: Where the videos of all splits are, if lists say which belong to a split.
    """

    entries: tuple[Entry, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[Path, ...] = ()
    folder: Path | None = None


class Form(Protocol):
    """How frames and masks lie on disk; a frozen dataclass."""

    @property
    def overlaps(self) -> bool:
        """Whether objects may overlap, so that a rule must say which is on top."""

    def splits(self, root: Path, /) -> tuple[str, ...]:
        """Return the splits that a tree has, without those made of others; ``("",)`` if none."""

    def listing(self, root: Path, split: str, /) -> Listing:
        """List the videos of a split.

        Raises:
            DataError: A folder or file that all of them need is missing or malformed.
        """


def in_order(splits: Mapping[str, object] | set[str]) -> tuple[str, ...]:
    """Sort names of splits: the usual ones first, in their order."""
    known = {name: i for i, name in enumerate(SPLITS)}
    return tuple(sorted(splits, key=lambda name: (known.get(name, len(SPLITS)), name)))
