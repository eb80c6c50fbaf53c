"""Check one shard: its sidecar, every byte of its tar, and every record against its pixels.

:class:`CheckShard` takes a shard's entry in the manifest and returns its faults, one line each, and
what it counted. It is picklable, so that processes can share a set. Free of torch.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stmdata.checking.check_tar import find_damage, members_in_order
from stmtrain.errors import DataError, ShardError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.masks import areas, ids_counted
from stmtrain.shards.manifest import (
    SampleIndex,
    ShardEntry,
    Sidecar,
    is_indexed,
    parse_sidecar,
)
from stmtrain.shards.reader import OpenShard
from stmtrain.shards.sample import SampleRecord, config_hash, sidecar_name
from stmtrain.shards.store import Store, open_store

if TYPE_CHECKING:
    from stmtrain.shards.cache import Cache


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        shard: The tar; empty for the set's own files.
        text: One line that describes the fault.
        sample: Key of the sample; empty if it is not in one.
        span: First byte in the tar, and the byte after the last; ``None`` if the fault is not in
            the tar, or its place is unknown.
    """

    shard: str
    text: str
    sample: str = ""
    span: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class ShardCheck:
    """The result for one shard; ``statistics`` are counted from its content."""

    entry: ShardEntry
    faults: tuple[Fault, ...]
    keys: tuple[str, ...] = ()
    statistics: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckShard:
    """Checks the shards of a set with the configuration ``config`` in a folder or at a URL.

    A shard from a URL is fetched anew, even if it is in the cache, and is stored in the cache's
    folder while it is checked.
    """

    location: Path | str
    config: Mapping[str, Any]
    cache: "Cache | None" = None

    @cached_property
    def _store(self) -> Store:
        return open_store(self.location, self.cache)

    def __call__(self, entry: ShardEntry) -> ShardCheck:
        """Check a shard; each fault names shard, sample, member and byte."""
        where = self._store.where(entry.name)
        try:
            sidecar = self._sidecar(entry)
            with self._store.shard(entry) as file:
                return self._check(entry, sidecar, file, where)
        except ShardError as error:
            return ShardCheck(entry, (Fault(entry.name, str(error)),))
        except OSError as error:
            text = f"{where}: cannot be read ({error.strerror})"
            return ShardCheck(entry, (Fault(entry.name, text),))

    def _sidecar(self, entry: ShardEntry) -> Sidecar:
        name = sidecar_name(entry.name)
        where, data = self._store.where(name), self._store.file(name)
        if data is None:
            raise ShardError(f"{where}: the sidecar is missing; pack it again")
        return parse_sidecar(data, where, entry, config_hash(self.config))

    def _check(self, entry: ShardEntry, sidecar: Sidecar, file: BinaryIO, where: str) -> ShardCheck:
        digest = _sha256(file)
        changed = digest != entry.sha256
        index, made_here = sidecar.index, not is_indexed(self.config)
        damages = find_damage(file, index, where, made_here=made_here, changed=changed)
        faults = [Fault(entry.name, d.text, d.key, d.span) for d in damages]
        if changed and (not damages or not all(row.crc32 for row in index)):
            faults.append(Fault(entry.name, _only_hash(where, digest, sidecar)))
        members = members_in_order(index)
        bad = {(r.key, suffix) for d in damages for r, suffix in members[slice(*d.members)]}
        counted = Counter({"skipped": len(sidecar.skipped)})
        shard = OpenShard(where, os.dup(file.fileno()))
        for row in index:
            found, statistics = _check_record(shard, row, bad)
            faults += [Fault(entry.name, text, row.key, span) for text, span in found]
            counted.update(statistics)
        if not faults:
            name = self._store.where(sidecar_name(entry.name))
            lines = compare_counts(f"{name}: statistics", sidecar.statistics, counted)
            faults += [Fault(entry.name, text) for text in lines]
        return ShardCheck(
            entry,
            tuple(faults),
            tuple(row.key for row in index),
            dict(counted),
            Counter(item.reason for item in sidecar.skipped),
        )


def compare_counts(where: str, stated: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Return one line per number that differs from what was counted."""
    return [
        f"{where}: {name} should be {counted.get(name, 0)}, found {stated.get(name, 0)}"
        for name in sorted({*stated, *counted})
        if stated.get(name, 0) != counted.get(name, 0)
    ]


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def _only_hash(where: str, digest: str, sidecar: Sidecar) -> str:
    """Describe a tar that has changed in unknown places."""
    text = f"{where}: sha256 is {digest[:16]}…, expected {sidecar.sha256[:16]}…"
    if all(row.crc32 for row in sidecar.index):
        return f"{text}; all its samples are intact, bytes between them have changed"
    return f"{text}; the set was made before CRCs were recorded, so no byte can be named"


_Found = tuple[str, tuple[int, int] | None]
"""One line about a sample, and the bytes that it refers to."""


def _check_record(
    shard: OpenShard, row: SampleIndex, bad: Collection[tuple[str, str]]
) -> tuple[list[_Found], Mapping[str, int]]:
    """Decode the intact members of one sample and compare them with its record.

    Args:
        shard: The tar.
        row: The sample's place in the tar.
        bad: (key, suffix) of members that are known to be damaged, which are passed over.

    Returns:
        What is wrong, and the sample's statistics.
    """
    where = f"{shard.path}, sample {row.key}"
    if (row.key, "json") in bad:
        return [], {}
    try:
        record, expected = row.record, set[str]()
        if record is None:
            record, expected = SampleRecord.from_json(shard.member(row, "json"), where), {"json"}
        expected.update(record.images())
        if record.sample_key != row.key or expected != set(row.members):
            return [(f"{where}: its record and the sidecar name different members", None)], {}
    except ShardError as error:
        return [(str(error), _span(row, "json"))], {}
    sample = _Sample(shard, row, record, {suffix for key, suffix in bad if key == row.key})
    return [*_check_frames(sample), *_check_masks(sample)], row.statistics(record)


@dataclass(frozen=True)
class _Sample:
    """A sample to decode, and which of its members are known to be damaged."""

    shard: OpenShard
    row: SampleIndex
    record: SampleRecord
    bad: Collection[str]

    def decoded(
        self, suffix: str, decode: Callable[[bytes, str], NDArray[np.uint8]]
    ) -> NDArray[np.uint8] | str | None:
        """Decode a member; return its pixels, what is wrong, or ``None`` for a bad member."""
        if suffix in self.bad:
            return None
        place = self.place(suffix)
        try:
            pixels = decode(self.shard.member(self.row, suffix), place)
        except DataError as error:
            return str(error)
        height, width = self.record.height, self.record.width
        if pixels.shape[:2] != (height, width):
            found = f"{pixels.shape[1]}x{pixels.shape[0]}"
            return f"{place}: expected {width}x{height} pixels, found {found}"
        return pixels

    def place(self, suffix: str) -> str:
        return f"{self.shard.path}, {self.row.place(suffix)}"


def _check_frames(sample: _Sample) -> Iterator[_Found]:
    for name in sample.record.frames:
        pixels = sample.decoded(f"{name}.jpg", decode_frame)
        if isinstance(pixels, str):
            yield pixels, _span(sample.row, f"{name}.jpg")


def _check_masks(sample: _Sample) -> Iterator[_Found]:
    """Decode every mask: size, and each object's pixels against ``areas``."""
    record, seen = sample.record, set[int]()
    unknown = False
    for column, name in enumerate(record.mask_frames):
        pixels = sample.decoded(f"{name}.png", decode_mask)
        span = _span(sample.row, f"{name}.png")
        if pixels is None or isinstance(pixels, str):
            unknown = True
            if pixels is not None:
                yield pixels, span
            continue
        counts = areas(pixels)
        found = {i: int(counts[i]) for i in ids_counted(counts)}
        seen |= found.keys()
        stated = {i: row[column] for i, row in zip(record.object_ids, record.areas, strict=True)}
        for text in compare_counts(
            f"{sample.place(f'{name}.png')}: record's areas (pixels by object id)",
            {str(i): n for i, n in stated.items()},
            {str(i): n for i, n in found.items()},
        ):
            yield text, span
    missing = sorted(set(record.object_ids) - seen)
    if missing and record.mask_frames and not unknown:
        where = f"{sample.shard.path}, sample {sample.row.key}"
        yield f"{where}: its record lists object ids {missing}, which no mask shows", None


def _span(row: SampleIndex, suffix: str) -> tuple[int, int] | None:
    place = row.members.get(suffix)
    return None if place is None else (place[0], place[0] + place[1])
