"""Check one shard: its sidecar, every byte of its tar, and every record against its pixels.

:class:`CheckShard` takes a shard's entry in the manifest and returns its faults, one line each, and
what it counted. It is picklable, so that processes can share a set. Free of torch.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stmdata.checking.check_tar import find_damage, members_in_order
from stmdata.packing.pack import ShardSummary
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
class ShardCheck(ShardSummary):
    """The result for one shard; ``statistics`` are counted from its content."""

    faults: tuple[Fault, ...]


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
            data, path = read_sidecar(self._store, entry.name)
            sidecar = parse_sidecar(data, path, entry, config_hash(self.config))
            with self._store.shard(entry) as file:
                return self._check(entry, sidecar, file, where)
        except ShardError as error:
            text = str(error)
        except OSError as error:
            text = f"{where}: cannot be read ({error.strerror})"
        return ShardCheck(entry, (), {}, {}, (Fault(entry.name, text),))

    def _check(self, entry: ShardEntry, sidecar: Sidecar, file: BinaryIO, where: str) -> ShardCheck:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        changed = digest != entry.sha256
        index, made_here = sidecar.index, not is_indexed(self.config)
        damages = find_damage(file, index, where, made_here=made_here, changed=changed)
        faults = [Fault(entry.name, d.text, d.key, d.span) for d in damages]
        all_crcs = all(row.crc32 for row in index)
        if changed and not (damages and all_crcs):  # somewhere, in bytes that cannot be named
            text = "all its samples are intact, bytes between them have changed"
            if not all_crcs:
                text = "the set was made before CRCs were recorded, so no byte can be named"
            hashes = f"sha256 is {digest[:16]}…, expected {sidecar.sha256[:16]}…"
            faults.append(Fault(entry.name, f"{where}: {hashes}; {text}"))
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
        summary = ShardSummary.of(sidecar)
        return ShardCheck(entry, summary.keys, counted, summary.skipped, tuple(faults))


def read_sidecar(store: Store, shard: str) -> tuple[bytes, str]:
    """Return a sidecar's bytes as they are stored now, and its path or URL."""
    name = sidecar_name(shard)
    where, data = store.where(name), store.file(name)
    if data is None:
        raise ShardError(f'{where}: the sidecar is missing; run "stm shards repair"')
    return data, where


def compare_counts(where: str, stated: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Return one line per number that differs from what was counted."""
    return [
        f"{where}: {name} should be {counted.get(name, 0)}, found {stated.get(name, 0)}"
        for name in sorted({*stated, *counted})
        if stated.get(name, 0) != counted.get(name, 0)
    ]


_Found = tuple[str, tuple[int, int] | None]
"""One line about a sample, and the bytes that it refers to."""


def _check_record(
    shard: OpenShard, row: SampleIndex, bad: Collection[tuple[str, str]]
) -> tuple[list[_Found], Mapping[str, int]]:
    """Decode the intact members of one sample and compare them with its record.

    ``bad`` are (key, suffix) of the members that are known to be damaged. Return what is wrong, and
    the sample's statistics.
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
    return list(_check_images(shard, row, record, bad)), row.statistics(record)


def _check_images(
    shard: OpenShard, row: SampleIndex, record: SampleRecord, bad: Collection[tuple[str, str]]
) -> Iterator[_Found]:
    """Decode every frame and mask: its size, and each object's pixels against ``areas``."""
    seen: set[int] = set()
    checked = 0
    frames, masks = ([f"{n}.jpg" for n in record.frames], [f"{n}.png" for n in record.mask_frames])
    for suffix in frames + masks:
        if (row.key, suffix) in bad:
            continue
        where, span = f"{shard.path}, {row.place(suffix)}", _span(row, suffix)
        decode = decode_frame if suffix.endswith(".jpg") else decode_mask
        try:
            pixels = decode(shard.member(row, suffix), where)
        except DataError as error:
            yield str(error), span
            continue
        height, width = pixels.shape[:2]
        if (height, width) != (record.height, record.width):
            expected = f"{record.width}x{record.height}"
            yield f"{where}: expected {expected} pixels, found {width}x{height}", span
        elif suffix in masks:
            counts, column = areas(pixels), masks.index(suffix)
            found = {i: int(counts[i]) for i in ids_counted(counts)}
            seen |= found.keys()
            checked += 1
            for text in compare_counts(
                f"{where}: record's areas (pixels by object id)",
                {str(i): n[column] for i, n in zip(record.object_ids, record.areas, strict=True)},
                {str(i): n for i, n in found.items()},
            ):
                yield text, span
    missing = sorted(set(record.object_ids) - seen)
    if missing and masks and checked == len(masks):
        where = f"{shard.path}, sample {row.key}"
        yield f"{where}: its record lists object ids {missing}, which no mask shows", None


def _span(row: SampleIndex, suffix: str) -> tuple[int, int] | None:
    place = row.members.get(suffix)
    return None if place is None else (place[0], place[0] + place[1])
