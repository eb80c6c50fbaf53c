"""Videos that show the same frames, within a set and between sets, found among all of them.

Frames are hashed by the sides of random hyperplanes that their thumbnails are on. Thumbnails that
are alike agree in most of them, so that they share at least one of many short keys. Pairs of videos
that share a key are then compared frame by frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from stmdata.auditing.fingerprint import ALIKE, SIDE, Thumbs, Vectors, vectors

MAX_FRAMES = 64
"""Frames of a video that are compared, spread evenly over it."""

_KEYS, _BITS = 32, 24
_CROWD = 16
"""Videos under one key, above which only neighbours in the list are compared."""


@dataclass(frozen=True)
class Pair:
    """Two videos that show the same frames.

    Attributes:
        first: Place of the one in the list.
        second: Place of the other, after it.
        frames: Compared frames of each that the other shows too.
    """

    first: int
    second: int
    frames: tuple[int, int]


def evenly(count: int) -> NDArray[np.int64]:
    """Return which frames of a video of ``count`` are compared."""
    return np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(np.int64)


def find_pairs(videos: Sequence[Thumbs], sources: Sequence[str]) -> list[Pair]:
    """Find the videos that show the same frames.

    Args:
        videos: Of each, the thumbnails of the frames to compare.
        sources: Of each, what it was made from; videos of one source are not compared, unless it
            is empty.
    """
    found = []
    for first, second in sorted(_candidates(videos)):
        if sources[first] and sources[first] == sources[second]:
            continue
        alike = vectors(videos[first]) @ vectors(videos[second]).T >= ALIKE
        counts = int(alike.any(axis=1).sum()), int(alike.any(axis=0).sum())
        if counts[0]:
            found.append(Pair(first, second, counts))
    return found


def _candidates(videos: Sequence[Thumbs]) -> set[tuple[int, int]]:
    """Return the pairs of videos that share a key of some frame."""
    planes = np.random.default_rng(0).standard_normal((SIDE * SIDE, _KEYS * _BITS))
    hashed = [_keys(vectors(thumbs), planes.astype(np.float32)) for thumbs in videos]
    owners = np.repeat(np.arange(len(videos)), [len(keys) for keys in hashed])
    found: set[tuple[int, int]] = set()
    for keys in np.concatenate(hashed).T if hashed else ():
        for group in _groups(keys, owners):
            found.update(combinations(group, 2) if len(group) <= _CROWD else pairwise(group))
    return found


def _keys(known: Vectors, planes: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the keys of thumbnails that are not flat, (N, _KEYS)."""
    sides = (known[known.any(axis=1)] @ planes > 0).reshape(-1, _KEYS, _BITS)
    weights: NDArray[np.uint32] = (1 << np.arange(_BITS)).astype(np.uint32)
    keys: NDArray[np.uint32] = np.matmul(sides, weights, dtype=np.uint32)
    return keys


def _groups(keys: NDArray[np.uint32], owners: NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield the videos under each key that several share, ascending."""
    rows = np.unique(np.stack([keys, owners], axis=1), axis=0)
    ends = np.append(np.flatnonzero(np.diff(rows[:, 0])), len(rows) - 1) + 1
    sizes = np.diff(ends, prepend=0)
    for end, size in zip(ends[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield rows[end - size : end, 1].tolist()
