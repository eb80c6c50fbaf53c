"""The index of a shard in little memory: about 120 bytes for a clip of three frames. Torch-free.

As objects a million clips would take 1.7 GB. Packed, a set's whole index can stay in memory, so
that each sidecar is read once in a run, however widely the samples are shuffled.
"""

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from stmtrain.manifest import Record
from stmtrain.spec import SampleMeta

__all__ = ["PackedIndex"]


class PackedIndex(Sequence[Record]):
    """A read-only sequence of records; each is rebuilt when it is asked for, in microseconds."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._keys = " ".join(record.key for record in records).encode()
        self._key_ends, self._member_ends = array("Q"), array("Q")
        self._offsets, self._sizes, self._crcs = array("Q"), array("Q"), array("Q")
        # Suffixes, and whether CRCs are known: most samples of a shard have one in common.
        self._shapes: dict[tuple[tuple[str, ...], bool], int] = {}
        self._shape = array("Q")
        self._metas: dict[int, SampleMeta] = {}
        end = -1
        for number, record in enumerate(records):
            end += 1 + len(record.key.encode())
            self._key_ends.append(end)
            for suffix, (offset, size) in record.members.items():
                self._offsets.append(offset)
                self._sizes.append(size)
                self._crcs.append(record.crc32.get(suffix, 0))
            self._member_ends.append(len(self._offsets))
            shape = tuple(record.members), bool(record.crc32)
            self._shape.append(self._shapes.setdefault(shape, len(self._shapes)))
            if record.meta is not None:
                self._metas[number] = record.meta
        self._shrink()
        self._known = tuple(self._shapes)

    def __len__(self) -> int:
        return len(self._key_ends)

    def __iter__(self) -> Iterator[Record]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> Record: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Record]: ...
    def __getitem__(self, number: int | slice) -> Record | Sequence[Record]:
        """Return the record at ``number``."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        number %= len(self)
        key_start = self._key_ends[number - 1] + 1 if number else 0
        start, stop = self._member_ends[number - 1] if number else 0, self._member_ends[number]
        places = zip(self._offsets[start:stop], self._sizes[start:stop], strict=True)
        suffixes, has_crcs = self._known[self._shape[number]]
        crcs = self._crcs[start:stop] if has_crcs else ()
        return Record(
            key=self._keys[key_start : self._key_ends[number]].decode(),
            members=dict(zip(suffixes, places, strict=True)),
            crc32=dict(zip(suffixes, crcs, strict=has_crcs)),
            meta=self._metas.get(number),
        )

    def _shrink(self) -> None:
        """Keep each column in the narrowest integers that hold it."""
        for name in ("_key_ends", "_member_ends", "_offsets", "_sizes", "_crcs", "_shape"):
            column = getattr(self, name)
            narrow = next(c for c in "BHIQ" if max(column, default=0) < 1 << 8 * array(c).itemsize)
            setattr(self, name, array(narrow, column))
