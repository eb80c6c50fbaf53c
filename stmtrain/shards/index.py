"""The index of a shard in compact form: about 120 bytes for a clip of three frames.

As Python objects, the index of a million clips would take 1.7 GB. In compact form the index of a
complete set stays in memory, so that each sidecar is read once per run, however widely the samples
are shuffled. Free of torch.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar, overload

from stmtrain.shards.manifest import SampleIndex
from stmtrain.shards.sample import SampleRecord

T = TypeVar("T")


class PackedIndex(Sequence[SampleIndex]):
    """A read-only sequence of ``SampleIndex`` objects, which are created on access.

    Access takes the same time for a long video as for a short one.
    """

    def __init__(self, rows: Sequence[SampleIndex]) -> None:
        self._keys = " ".join(row.key for row in rows).encode()
        self._key_ends, self._member_ends = array("Q"), array("Q")
        self._offsets, self._sizes, self._crcs = array("Q"), array("Q"), array("Q")
        # Member suffixes, and whether CRCs are known: most samples of a shard share them.
        self._shapes: dict[tuple[tuple[str, ...], bool], int] = {}
        self._shape = array("Q")
        self._records: dict[int, SampleRecord] = {}
        end = -1
        for number, row in enumerate(rows):
            end += 1 + len(row.key.encode())
            self._key_ends.append(end)
            for suffix, (offset, size) in row.members.items():
                self._offsets.append(offset)
                self._sizes.append(size)
                self._crcs.append(row.crc32.get(suffix, 0))
            self._member_ends.append(len(self._offsets))
            shape = tuple(row.members), bool(row.crc32)
            self._shape.append(self._shapes.setdefault(shape, len(self._shapes)))
            if row.record is not None:
                self._records[number] = row.record
        self._shrink()
        self._known = tuple(
            ({suffix: column for column, suffix in enumerate(suffixes)}, has_crcs)
            for suffixes, has_crcs in self._shapes
        )

    def __len__(self) -> int:
        return len(self._key_ends)

    def __iter__(self) -> Iterator[SampleIndex]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> SampleIndex: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[SampleIndex]: ...
    def __getitem__(self, number: int | slice) -> SampleIndex | Sequence[SampleIndex]:
        """Return the row at ``number``."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        number %= len(self)
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
        """Return the sample key at ``number``, which must be in ``[0, len(self))``."""
        start = self._key_ends[number - 1] + 1 if number else 0
        return self._keys[start : self._key_ends[number]].decode()

    def _shrink(self) -> None:
        """Store each column in the narrowest integers that can represent it."""
        for name in ("_key_ends", "_member_ends", "_offsets", "_sizes", "_crcs", "_shape"):
            column = getattr(self, name)
            narrow = next(c for c in "BHIQ" if max(column, default=0) < 1 << 8 * array(c).itemsize)
            setattr(self, name, array(narrow, column))


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
