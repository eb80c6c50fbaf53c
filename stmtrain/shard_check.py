"""Check one shard: its sidecar, its hash, every header, every record against its pixels.

In come a shard's line of the manifest and the set's configuration; out come faults, one line each,
and what was counted on the way. Torch-free and picklable: processes can share a set.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from stmtrain.decode import decode_frame, decode_mask
from stmtrain.errors import DataError, ShardError
from stmtrain.set_config import is_indexed
from stmtrain.shards import OpenShard, read_sidecar
from stmtrain.spec import (
    VOID,
    Manifest,
    Record,
    SampleMeta,
    ShardEntry,
    Sidecar,
    sidecar_name,
)
from stmtrain.tar_members import Member, header_bytes, scan_tar

__all__ = ["CheckShard", "ShardCheck", "compare_counts"]


@dataclass(frozen=True)
class ShardCheck:
    """What was found in one shard; ``statistics`` are counted from its content."""

    entry: ShardEntry
    faults: tuple[str, ...]
    keys: tuple[str, ...] = ()
    statistics: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckShard:
    """Checks shards of the set in ``folder`` that was made with ``config``."""

    folder: Path
    config: Mapping[str, Any]

    def __call__(self, entry: ShardEntry) -> ShardCheck:
        """Check one; each fault names shard, sample and byte."""
        path = self.folder / entry.name
        try:
            sidecar = read_sidecar(self.folder, entry, Manifest(self.config, (), {}, {}))
            size, digest = _hash_file(path)
            shard = OpenShard(path, sidecar.index)
        except ShardError as error:
            return ShardCheck(entry, (str(error),))
        except OSError as error:
            return ShardCheck(entry, (f"{path}: cannot be read ({error.strerror})",))
        faults = []
        if size != entry.bytes:
            faults.append(f"{path}: expected {entry.bytes} bytes, found {size}")
        if digest != entry.sha256:
            faults.append(f"{path}: sha256 is {digest[:16]}…, expected {entry.sha256[:16]}…")
        faults += _check_headers(path, sidecar, made_here=not is_indexed(self.config))
        counted = Counter({"skipped": len(sidecar.skipped)})
        for record in sidecar.index:
            found, statistics = _check_record(shard, record)
            faults += found
            counted.update(statistics)
        if not faults:
            where = self.folder / sidecar_name(entry.name)
            faults += compare_counts(f"{where}: statistics", sidecar.statistics, counted)
        return ShardCheck(
            entry,
            tuple(faults),
            tuple(record.key for record in sidecar.index),
            dict(counted),
            Counter(item.reason for item in sidecar.skipped),
        )


def compare_counts(where: str, stated: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """Return a line per number that is stated otherwise than it was counted."""
    return [
        f"{where}: {name} should be {counted.get(name, 0)}, found {stated.get(name, 0)}"
        for name in sorted({*stated, *counted})
        if stated.get(name, 0) != counted.get(name, 0)
    ]


def _hash_file(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _check_headers(path: Path, sidecar: Sidecar, *, made_here: bool) -> list[str]:
    """Compare the tar's own headers with the index: members, order, places; the first fault only.

    What stm wrote holds nothing else, and each header is the one that stm writes. A tar from
    elsewhere may hold other files between, and times and owners.
    """
    places = ((f"{r.key}.{s}", *place) for r in sidecar.index for s, place in r.members.items())
    expected = sorted(places, key=lambda place: place[1])
    wanted = {place[0] for place in expected}
    try:
        members = [m for m in scan_tar(path) if made_here or m.name in wanted]
    except ShardError as error:
        return [str(error)]
    for want, have in zip_longest(expected, members):
        fault = _compare_member(want, have, made_here=made_here)
        if fault:
            return [f"{path}: {fault}"]
    return []


def _compare_member(
    want: tuple[str, int, int] | None, have: Member | None, *, made_here: bool
) -> str | None:
    if want is None or have is None:
        if have is not None:
            return f"member {have.name} at byte {have.offset} is not in the sidecar"
        if want is not None:
            return f"expected member {want[0]} at byte {want[1]}, the tar ends before it"
        return None
    if want != (have.name, have.offset, have.size):
        return (
            f"expected member {want[0]} with {want[2]} bytes at byte {want[1]}, found "
            f"{have.name} with {have.size} bytes at byte {have.offset}"
        )
    if made_here and have.header != header_bytes(have.name, have.size):
        return (
            f"header of member {have.name} at byte {have.offset - len(have.header)} is not the "
            "one that stm writes (time, owner, mode or type)"
        )
    return None


def _check_record(shard: OpenShard, record: Record) -> tuple[list[str], Mapping[str, int]]:
    """Decode everything of one sample and compare it with its record; return faults and counts."""
    where = f"{shard.path}, sample {record.key}"
    try:
        own = record.meta is None
        meta = record.meta or SampleMeta.from_json(shard.member(record, "json"), where)
        frames = {name: f"{name}.jpg" for name in meta.frames}
        masks = {name: f"{name}.png" for name in meta.mask_frames}
        suffixes = {*frames.values(), *masks.values(), *(["json"] if own else [])}
        if meta.sample_key != record.key or suffixes != set(record.members):
            return [f"{where}: its record and the sidecar name different members"], {}
    except ShardError as error:
        return [str(error)], {}
    faults = [*_check_frames(shard, record, meta, where), *_check_masks(shard, record, meta, where)]
    return faults, {
        "samples": 1,
        "frames": len(frames),
        "masks": len(masks),
        "objects": len(meta.object_ids),
        "jpg_bytes": sum(record.members[s][1] for s in frames.values()),
        "png_bytes": sum(record.members[s][1] for s in masks.values()),
    }


def _check_frames(shard: OpenShard, record: Record, meta: SampleMeta, where: str) -> Iterator[str]:
    for name in meta.frames:
        place = _place(where, record, f"{name}.jpg")
        try:
            pixels = decode_frame(shard.member(record, f"{name}.jpg"), place)
        except DataError as error:
            yield str(error)
            continue
        if pixels.shape[:2] != (meta.height, meta.width):
            yield _wrong_size(place, pixels.shape, meta)


def _check_masks(shard: OpenShard, record: Record, meta: SampleMeta, where: str) -> Iterator[str]:
    """Decode every mask: size, and each object's pixels against ``areas``."""
    seen: set[int] = set()
    for column, name in enumerate(meta.mask_frames):
        place = _place(where, record, f"{name}.png")
        try:
            pixels = decode_mask(shard.member(record, f"{name}.png"), place)
        except DataError as error:
            yield str(error)
            continue
        if pixels.shape != (meta.height, meta.width):
            yield _wrong_size(place, pixels.shape, meta)
            continue
        counts = np.bincount(pixels.ravel(), minlength=VOID + 1)
        found = {int(i): int(counts[i]) for i in np.flatnonzero(counts) if 0 < i < VOID}
        seen |= found.keys()
        stated = {i: row[column] for i, row in zip(meta.object_ids, meta.areas, strict=True)}
        yield from compare_counts(
            f"{place}: record's areas (pixels by object id)",
            {str(i): n for i, n in stated.items()},
            {str(i): n for i, n in found.items()},
        )
    missing = sorted(set(meta.object_ids) - seen)
    if missing and meta.mask_frames:
        yield f"{where}: its record lists object ids {missing}, which no mask shows"


def _place(where: str, record: Record, suffix: str) -> str:
    return f"{where}, {suffix} at byte {record.members[suffix][0]}"


def _wrong_size(place: str, shape: tuple[int, ...], meta: SampleMeta) -> str:
    return f"{place}: expected {meta.width}x{meta.height} pixels, found {shape[1]}x{shape[0]}"
