"""Recognising a data set by files and folders that only it has."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from itertools import islice
from pathlib import Path

_MOST = 20_000
"""Most entries of a folder that are looked at."""


@dataclass(frozen=True)
class Signs:
    """What a tree must have, and must not have.

    Attributes:
        have: Patterns below the root, each of which something must match: ``*`` for any part of a
            name, ``|`` between alternatives; upper and lower case are equal.
        lack: Patterns of other data sets, none of which may match where nobody named a layout.
        counts: Split folder to the number of videos in the release; tells two releases of one
            tree apart.
    """

    have: tuple[str, ...]
    lack: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()

    def missing(self, root: Path) -> list[str]:
        """Return the patterns of ``have`` that nothing matches."""
        return [pattern for pattern in self.have if find(root, pattern) is None]

    def found(self, root: Path) -> list[str]:
        """Return an example of each pattern of ``have`` that something matches."""
        return [path for path in (find(root, pattern) for pattern in self.have) if path]

    def fit(self, root: Path) -> bool:
        """Return whether a tree has all of ``have`` and none of ``lack``."""
        return not self.missing(root) and all(find(root, pattern) is None for pattern in self.lack)

    def counted(self, root: Path) -> bool:
        """Return whether a split has as many videos as the release."""
        return any(
            sum(1 for _ in islice(_entries(root / folder), _MOST)) == count
            for folder, count in self.counts
        )


def signs(
    *have: str, lack: tuple[str, ...] = (), counts: tuple[tuple[str, int], ...] = ()
) -> Signs:
    """Return :class:`Signs` of these patterns."""
    return Signs(have, lack, counts)


def find(root: Path, pattern: str) -> str | None:
    """Return the first path below ``root``, relative to it, that a pattern of signs matches."""
    found = (path for one in pattern.split("|") for path in _match(root, tuple(one.split("/"))))
    path = next(found, None)
    return None if path is None else path.relative_to(root).as_posix()


def _match(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    if not any(mark in parts[0] for mark in "*?["):
        paths: Iterator[Path] = iter([folder / parts[0]])
    else:
        expression = _compiled(parts[0])
        paths = (p for p in _entries(folder) if expression.fullmatch(p.name))
    for path in paths:
        if len(parts) > 1:
            yield from _match(path, parts[1:])
        elif path.exists():
            yield path


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from islice((p for p in folder.iterdir() if not p.name.startswith(".")), _MOST)
    except OSError:
        return


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern), re.IGNORECASE)
