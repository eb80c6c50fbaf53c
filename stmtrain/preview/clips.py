"""Clips to look at: sequences whose clips are made when they are asked for, and their pace."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from stmtrain.images.draw import ClipView

T = TypeVar("T")

Clips = Sequence[Sequence[ClipView]]
"""Clips to be shown; each has one view, or several side by side."""

_SLOWEST, _FASTEST, _SECONDS = 3.0, 12.0, 2.0


class Lazy(Sequence[T]):
    """A sequence whose items are made when they are asked for."""

    def __init__(self, length: int, make: Callable[[int], T]) -> None:
        """Make item ``i`` by ``make(i)``, each time."""
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Lazy[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Lazy[T]":
        places = range(self._length)[index]
        if isinstance(places, range):
            return Lazy(len(places), lambda i: self._make(places[i]))
        return self._make(places)


def captions(clip: Sequence[ClipView]) -> tuple[str, list[str]]:
    """Return what the captions of views begin with, in whole words, and what is left of each.

    Example:
        >>> views = [ClipView(text, (), (), (), ()) for text in ("bear stored", "bear as trained")]
        >>> captions(views)
        ('bear', ['stored', 'as trained'])
    """
    words = [view.caption.split() for view in clip]
    same = len(words[0])
    if len(words) > 1:
        same = len(list(takewhile(lambda column: len(set(column)) == 1, zip(*words, strict=False))))
    return " ".join(words[0][:same]), [" ".join(line[same:]) for line in words]


def steps_of(clip: Sequence[ClipView]) -> int:
    """Return the number of frames of a clip's longest view; a shorter one is repeated."""
    return max(len(view.frames) for view in clip)


def pace(frames: int) -> float:
    """Return at how many frames per second a clip is played at first: for two seconds or longer."""
    return min(_FASTEST, max(_SLOWEST, frames / _SECONDS))


def frame_name(name: str, mask: NDArray[np.uint8] | None) -> str:
    """Return the name of a frame, and whether it has no mask."""
    return name if mask is not None else f"{name} no mask"
