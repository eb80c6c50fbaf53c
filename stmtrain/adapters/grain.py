"""Shard sets as a data source of Grain, the loader of JAX.

:class:`ClipDataSource` satisfies ``grain.sources.RandomAccessDataSource``: threads can read it, it
can be pickled for worker processes, and its ``repr`` names the sets, which Grain compares when it
resumes from a checkpoint. Nothing of Grain or JAX is imported.

Example:
    Batches of eight, in the order of the plan::

        source = ClipDataSource("shards/coco", size=384)
        data = grain.MapDataset.source(source).batch(8)
        for batch in data.to_iter_dataset():
            ...  # batch["frames"] (8, 3, 384, 384, 3) float32, batch["masks"] (8, 3, 384, 384)
"""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import torch

from stmtrain.adapters.clips import ClipSource
from stmtrain.errors import UsageError


class ClipDataSource(ClipSource):
    """Clips by index, as NumPy arrays with the channels last.

    The keys are those of :meth:`stmtrain.adapters.clips.ClipSource.item`. The index is a position
    of the plan, which is shuffled and mixed by weight already; another pass over the sets has other
    clips, so ``length`` may exceed the number of samples.
    """

    def __init__(
        self,
        locations: str | Path | Sequence[str | Path],
        *,
        length: int | None = None,
        **options: Any,
    ) -> None:
        """Open the sets; errors are those of :class:`stmtrain.adapters.clips.ClipSource`.

        Args:
            locations: Folders or URLs of shard sets.
            length: Number of clips; by default the number of samples.
            **options: Those of :class:`stmtrain.adapters.clips.ClipSource`, except ``transform``.
        """
        super().__init__(locations, **options, transform=_to_numpy)
        if length is not None and length < 1:
            raise UsageError(f"length {length}: expected at least 1 clip")
        self._length = super().__len__() if length is None else length
        hashes = ", ".join(shards.manifest_sha256[:16] for shards in self._sets.get())
        shown = "".join(f", {name}={value}" for name, value in sorted(options.items()))
        self._name = f"ClipDataSource({hashes}, length={self._length}{shown})"

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        place = operator.index(index)
        if not 0 <= place < self._length:
            raise IndexError(f"index {place}, expected 0..{self._length - 1}")
        item: dict[str, Any] = self.item(place)
        return item

    def __repr__(self) -> str:
        return self._name


def _to_numpy(item: dict[str, Any]) -> dict[str, Any]:
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in item.items()}
    if item["frames"].is_floating_point():  # with a size: the channels are before rows and columns
        arrays["frames"] = arrays["frames"].transpose(0, 2, 3, 1)
    return arrays
