"""Compare a tar with its index byte for byte, and name the bytes that have changed.

The index states the place of each member, so damage in one place does not hide damage in the next.
In a tar that stm wrote every byte is known: headers, padding and end mark, and the data by its CRC.
A tar of another program may contain other files, times and owners between its members; there,
headers are checked as in :mod:`stmdata.packing.tar`.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import BinaryIO

from stmdata.packing.tar import BLOCK, header_bytes, padded, scan_tar, tar_size
from stmtrain.errors import ShardError
from stmtrain.shards.manifest import SampleIndex

_PIECE = 1 << 20
_MOST_IN_A_ROW = 3
_HEADER_FIELDS = (
    (0, "name"), (100, "mode"), (108, "owner"), (116, "group"), (124, "size"), (136, "time"),
    (148, "checksum"), (156, "type"), (157, "link name"), (257, "magic"), (265, "owner's name"),
    (297, "group's name"), (329, "device"), (345, "name's prefix"), (500, "padding"), (512, ""),
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """Bytes of a tar that differ from what was written.

    Attributes:
        text: One line that names tar, sample, member and bytes.
        key: The sample; empty for the end mark.
        span: First byte, and the byte after the last.
        members: Positions, in the order of the tar, of the first affected member and of the one
            after the last; the end mark comes after all members.
    """

    text: str
    key: str
    span: tuple[int, int]
    members: tuple[int, int]


@dataclass(frozen=True)
class _Member:
    """A member as the index states it: position in the tar, bytes, CRC-32 if known."""

    number: int
    key: str
    suffix: str
    offset: int
    size: int
    crc32: int | None

    @property
    def name(self) -> str:
        return f"{self.key}.{self.suffix}"

    @property
    def stop(self) -> int:
        """The byte after its last block."""
        return self.offset + padded(self.size)


def members_in_order(index: Sequence[SampleIndex]) -> list[tuple[SampleIndex, str]]:
    """Return (row, suffix) of a tar's members in its order, which :class:`Damage` refers to."""
    return [
        (row, suffix)
        for row in index
        for suffix in sorted(row.members, key=lambda suffix: row.members[suffix])
    ]


def find_damage(
    file: BinaryIO, index: Sequence[SampleIndex], where: str, *, made_here: bool, changed: bool
) -> list[Damage]:
    """Compare every byte of a tar with what the index states.

    Where more than three members in a row are damaged, as after bytes that were inserted or lost,
    the first is described and the others are named together.

    Args:
        file: The tar.
        index: Of its sidecar.
        where: What messages call the tar.
        made_here: stm wrote the tar, so it contains nothing but its members.
        changed: Its sha256 differs from the sidecar's. Bytes between the members of another
            program's tar, which could be anything, must then be zeros.
    """
    members = [
        _Member(number, row.key, suffix, *row.members[suffix], row.crc32.get(suffix))
        for number, (row, suffix) in enumerate(members_in_order(index))
    ]
    check = _Check(file, where, members, made_here, changed)
    return list(_shortened(check.damage(), members, where))


class _Check:
    """One walk along a tar."""

    def __init__(
        self, file: BinaryIO, where: str, members: list[_Member], made_here: bool, changed: bool
    ) -> None:
        self._file, self._where, self._members = file, where, members
        self._made_here, self._zeros = made_here, made_here or changed
        self._names = frozenset(member.name for member in members)
        self._size = os.fstat(file.fileno()).st_size

    def damage(self) -> Iterator[Damage]:
        """Walk from the first header to the end mark."""
        at = 0
        for member in self._members:
            yield from self._front(at, member) if self._made_here else self._gap(at, member)
            yield from self._data(member)
            at = max(at, member.stop)
        yield from self._end(at) if self._made_here else self._rest(at)

    def _front(self, at: int, member: _Member) -> Iterator[Damage]:
        """Check that the header follows the previous member and is the one that stm writes."""
        start, stop = member.offset - BLOCK, member.offset
        if start != at:
            text = f": the index puts it at byte {stop}, expected byte {at + BLOCK}, right after"
            yield self._of(member, min(at, start), max(at, start), f"{text} the previous member")
            return
        found = self._read(start, BLOCK)
        if len(found) < BLOCK:
            yield self._cut(member, start, stop, "header")
            return
        try:
            wanted = header_bytes(member.name, member.size)
        except ValueError:  # a name or size that no tar of ours has
            wanted = bytes(BLOCK)
        wrong = [i for i in range(BLOCK) if found[i] != wanted[i]]
        if wrong:
            first, last = start + wrong[0], start + wrong[-1]
            text = f": its header, bytes {start} to {stop - 1}, is not the one that stm writes"
            fields = f"({_fields(wrong)}; first byte {first})"
            yield self._of(member, first, last + 1, f"{text} {fields}")

    def _data(self, member: _Member) -> Iterator[Damage]:
        """Check the CRC of the data, and the zeros that fill its last block."""
        start, stop = member.offset, member.offset + member.size
        if self._size < stop:
            yield self._cut(member, start, stop, "data")
            return
        if member.crc32 is not None:
            crc = 0
            for piece in range(start, stop, _PIECE):
                crc = zlib.crc32(self._read(piece, min(_PIECE, stop - piece)), crc)
            if crc != member.crc32:
                text = f", bytes {start} to {stop - 1}: crc32 is {crc:08x}, expected"
                yield self._of(member, start, stop, f"{text} {member.crc32:08x}")
        if self._zeros:
            yield from self._padding(member, stop, member.stop)

    def _padding(self, member: _Member, start: int, stop: int) -> Iterator[Damage]:
        found = self._read(start, stop - start)
        rest = found.lstrip(b"\0")
        if rest:
            first = start + len(found) - len(rest)
            text = f": byte {first}, after its data, is 0x{rest[0]:02x}, expected 0x00"
            yield self._of(member, first, start + len(found.rstrip(b"\0")), text)
        elif len(found) < stop - start:
            yield self._cut(member, start, stop, "padding")

    def _end(self, at: int) -> Iterator[Damage]:
        """Check that zeros follow the last member, as many as stm writes."""
        stop = tar_size(at)
        where = f"{self._where}, end mark, bytes {at} to {stop - 1}"
        byte = at
        while found := self._read(byte, _PIECE):
            rest = found.lstrip(b"\0")
            if rest:
                byte += len(found) - len(rest)
                text = f"{where}: expected zeros only, found 0x{rest[0]:02x} at byte {byte}"
                yield self._at_end(min(byte, stop), self._size, text)
                return
            byte += len(found)
        if byte != stop:
            text = f"{where}: the file ends at byte {self._size}, expected {stop}"
            yield self._at_end(min(byte, stop), max(byte, stop), text)

    def _gap(self, at: int, member: _Member) -> Iterator[Damage]:
        """Check another program's tar up to a member: intact headers, the member's own last."""
        where = self._name(member)
        try:
            for found in scan_tar(self._file, where, at):
                if found.offset >= member.offset or found.name in self._names:
                    break
            else:
                raise ShardError(f"{where}: the tar ends before it")
            wanted = member.name, member.offset, member.size
            if (found.name, found.offset, found.size) != wanted:
                raise ShardError(
                    f"{where}: expected {member.size} bytes at byte {member.offset}, found member "
                    f"{found.name} with {found.size} bytes at byte {found.offset}"
                )
        except ShardError as error:
            numbers = member.number, member.number + 1
            yield Damage(str(error), member.key, (at, member.offset), numbers)

    def _rest(self, at: int) -> Iterator[Damage]:
        """Check what follows the last member in another program's tar, up to the end mark."""
        try:
            for found in scan_tar(self._file, self._where, at):
                if found.name in self._names:
                    raise ShardError(
                        f"{self._where}: member {found.name} occurs twice, again at byte "
                        f"{found.offset}"
                    )
        except ShardError as error:
            yield self._at_end(at, max(at, self._size), str(error))

    def _cut(self, member: _Member, start: int, stop: int, what: str) -> Damage:
        """Return the damage that the file ends before ``stop``."""
        text = f": the file ends at byte {self._size}, expected its {what}, bytes {start} to"
        return self._of(member, min(start, self._size), stop, f"{text} {stop - 1}")

    def _at_end(self, start: int, stop: int, text: str) -> Damage:
        return Damage(text, "", (start, stop), (len(self._members), len(self._members) + 1))

    def _of(self, member: _Member, start: int, stop: int, text: str) -> Damage:
        numbers = member.number, member.number + 1
        return Damage(f"{self._name(member)}{text}", member.key, (start, stop), numbers)

    def _name(self, member: _Member) -> str:
        return f"{self._where}, sample {member.key}, member {member.suffix}"

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        return self._file.read(size)


def _fields(wrong: Sequence[int]) -> str:
    """Name the header fields of these bytes."""
    names = [
        name
        for (start, name), (stop, _) in pairwise(_HEADER_FIELDS)
        if any(start <= byte < stop for byte in wrong)
    ]
    return " and ".join(names) if len(names) < 4 else f"{', '.join(names[:2])} and more"


def _shortened(
    damages: Iterator[Damage], members: Sequence[_Member], where: str
) -> Iterator[Damage]:
    """Describe the first of many damaged members in a row, and name the others together."""
    by_member = [list(group) for _, group in groupby(damages, lambda damage: damage.members)]
    rows = groupby(enumerate(by_member), lambda item: item[1][0].members[0] - item[0])
    for _, row in rows:
        first, *others = (group for _, group in row)
        yield from first
        if len(others) < _MOST_IN_A_ROW:
            yield from (damage for group in others for damage in group)
            continue
        start, stop = others[0][0].members[0], others[-1][0].members[1]
        last = members[min(stop, len(members)) - 1]
        span = min(d.span[0] for d in others[0]), max(d.span[1] for d in others[-1])
        damaged = f"these {min(stop, len(members)) - start} members"
        if stop > len(members):
            damaged += " and the end mark"
        text = (
            f"{where}, sample {members[start].key}, member {members[start].suffix} to sample "
            f"{last.key}, member {last.suffix}, bytes {span[0]} to {span[1] - 1}: {damaged} "
            "differ from what was written, too"
        )
        yield Damage(text, members[start].key, span, (start, stop))
