"""Shard sets in the worker processes of other loaders. Free of torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stmtrain.shards.reader import ShardSet


class OpenSets:
    """Shard sets that each process opens for itself, because clients do not survive a fork."""

    def __init__(self, locations: str | Path | Sequence[str | Path]) -> None:
        """Open the sets; the locations are folders or URLs."""
        self.locations = [locations] if isinstance(locations, str | Path) else list(locations)
        self._opened: tuple[int, list[ShardSet]] = (-1, [])
        self.get()

    def get(self) -> list[ShardSet]:
        """Return the sets, opened in this process."""
        process, sets = self._opened
        if process != os.getpid():
            sets = [ShardSet.open(location) for location in self.locations]
            self._opened = (os.getpid(), sets)
        return sets

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": (-1, [])}
