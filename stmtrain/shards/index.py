"""The index of a shard in compact form: about 120 bytes for a clip of three frames.

As Python objects, the index of a million clips would take 1.7 GB. In compact form the index of a
complete set stays in memory, so that each sidecar is read once per run, however widely the samples
are shuffled. Free of torch.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from stmtrain.shards.manifest import SampleIndex

T = TypeVar("T")


class PackedIndex:
    """The index of one shard: read-only ``SampleIndex`` objects, which are created on access.

    Access takes the same time for a long video as for a short one.
    """

    def __init__(self, rows: Sequence[SampleIndex]) -> None:
        keys = [row.key.encode() for row in rows]
        places = [place for row in rows for place in row.members.values()]
        crcs = [row.crc32.get(suffix, 0) for row in rows for suffix in row.members]
        self._keys = b" ".join(keys)
        self._key_ends = _narrow(list(accumulate(len(key) + 1 for key in keys)))
        self._member_ends = _narrow(list(accumulate(len(row.members) for row in rows)))
        self._offsets = _narrow([offset for offset, _ in places])
        self._sizes = _narrow([size for _, size in places])
        self._crcs = _narrow(crcs)
        # Member suffixes, and whether CRCs are known: most samples of a shard share them.
        shapes = [(tuple(row.members), bool(row.crc32)) for row in rows]
        numbers = {shape: number for number, shape in enumerate(dict.fromkeys(shapes))}
        self._shape = _narrow([numbers[shape] for shape in shapes])
        self._known = [
            ({suffix: column for column, suffix in enumerate(suffixes)}, has_crcs)
            for suffixes, has_crcs in numbers
        ]
        self._records = {n: row.record for n, row in enumerate(rows) if row.record is not None}

    def __getitem__(self, number: int) -> SampleIndex:
        """Return the row at ``number``, which must be in the range of the rows, from 0."""
        start = self._member_ends[number - 1] if number else 0
        columns, has_crcs = self._known[self._shape[number]]
        offsets, sizes, crcs = self._offsets, self._sizes, self._crcs
        return SampleIndex(
            key=self.key(number),
            members=_Row(columns, lambda column: (offsets[start + column], sizes[start + column])),
            crc32=_Row(columns, lambda column: crcs[start + column]) if has_crcs else {},
            record=self._records.get(number),
        )

    def key(self, number: int) -> str:
        """Return the sample key at ``number``."""
        start = self._key_ends[number - 1] if number else 0
        return self._keys[start : self._key_ends[number] - 1].decode()


def _narrow(values: list[int]) -> "array[int]":
    """Return an array of the narrowest integers that can represent the values."""
    largest = max(values, default=0)
    return array(next(c for c in "BHIQ" if largest < 1 << 8 * array(c).itemsize), values)


class _Row(Mapping[str, T]):
    """The values of a sample by member suffix, looked up in the columns on access."""

    __slots__ = ("_columns", "_value")

    def __init__(self, columns: Mapping[str, int], value: Callable[[int], T]) -> None:
        self._columns, self._value = columns, value

    def __getitem__(self, suffix: str) -> T:
        return self._value(self._columns[suffix])

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)
