"""Read a shard set: manifest, member index, byte-range reads, verification. Torch-free.

A set is a folder with ``manifest.json``; sidecars are read when their shard is first touched, so
opening costs the same for ten clips and for a million. Reads are ``os.pread`` on descriptors that
threads share. Nothing is extracted, and nothing outside the folder is opened.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self

from stmtrain.errors import ShardError
from stmtrain.spec import (
    CONFIG_NAME,
    MANIFEST_NAME,
    Manifest,
    Record,
    Sample,
    SampleMeta,
    ShardEntry,
    Sidecar,
    sidecar_name,
)

__all__ = ["OpenShard", "ShardSet", "read_manifest", "read_sidecar"]

_OPEN_SHARDS = 128


class ShardSet:
    """A complete shard set, addressed by sample index in ``[0, len(self))``.

    Indices follow the manifest's shard order and the order inside each tar. Safe for threads: the
    state is a bounded cache of open shards.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.shard_sizes: tuple[int, ...] = tuple(s.samples for s in manifest.shards)
        self._ends = list(accumulate(self.shard_sizes))
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open the set in ``folder``.

        Raises:
            ShardError: No manifest (not a set, or one that is still being made), another format
                version, or a shard that is missing or has another size than the manifest says.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        for entry in manifest.shards:
            path = folder / entry.name
            if not path.is_file() or path.stat().st_size != entry.bytes:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
                raise ShardError(
                    f"{path}: expected a shard of {entry.bytes} bytes, found {found}; "
                    "run the command that made this set again, it remakes what is missing"
                )
        return cls(folder, manifest)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        """Name a sample for an error message: set, shard and sample key."""
        shard, local = self._locate(index)
        key = self._shard(shard).sidecar.index[local].key
        return f"{self.folder.name}/{self.manifest.shards[shard].name}, sample {key}"

    def meta(self, index: int) -> SampleMeta:
        """Read a sample's record."""
        shard, record = self._record(index)
        return self._meta(shard, record)

    def keys(self) -> Iterator[str]:
        """Yield every sample key in index order (reads every sidecar)."""
        for shard in range(len(self.shard_sizes)):
            for record in self._shard(shard).sidecar.index:
                yield record.key

    def read(
        self, index: int, frames: Sequence[str] | None = None, meta: SampleMeta | None = None
    ) -> Sample:
        """Read a sample's bytes; with ``frames``, only those frames and their masks.

        Args:
            index: Sample index.
            frames: Frame names; all of them when ``None``.
            meta: The sample's record, if it was read already.

        Raises:
            ShardError: A member is missing or the shard is shorter than its index says.
        """
        shard, record = self._record(index)
        meta = self._meta(shard, record) if meta is None else meta
        names = meta.frames if frames is None else frames
        masks = set(meta.mask_frames)
        return Sample(
            meta=meta,
            frames={name: shard.member(record, f"{name}.jpg") for name in names},
            masks={name: shard.member(record, f"{name}.png") for name in names if name in masks},
        )

    def close(self) -> None:
        """Close the open shards; the set can be used again afterwards."""
        with self._lock:
            self._open.clear()

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.folder}: sample index {index} outside 0..{len(self) - 1}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _record(self, index: int) -> tuple["OpenShard", Record]:
        number, local = self._locate(index)
        shard = self._shard(number)
        return shard, shard.sidecar.index[local]

    def _shard(self, number: int) -> "OpenShard":
        with self._lock:
            shard = self._open.get(number)
            if shard is None:
                entry = self.manifest.shards[number]
                sidecar = read_sidecar(self.folder, entry, self.manifest)
                shard = OpenShard(self.folder / entry.name, sidecar)
                self._open[number] = shard
                if len(self._open) > _OPEN_SHARDS:
                    # Readers that still hold it keep it alive; the last one closes it.
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return shard

    def _meta(self, shard: "OpenShard", record: Record) -> SampleMeta:
        where = f"{shard.path}, sample {record.key}"
        meta = SampleMeta.from_json(shard.member(record, "json"), where)
        if meta.sample_key != record.key:
            raise ShardError(
                f"{where}: its record says {meta.sample_key!r}; the shard is damaged, "
                'run "stm shards verify"'
            )
        return meta


class OpenShard:
    """One tar's descriptor and sidecar; reads at byte offsets, so threads need no lock."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        self.path = path
        self.sidecar = sidecar
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ShardError(f"{path}: cannot be opened ({error.strerror})") from None

    def member(self, record: Record, suffix: str) -> bytes:
        """Read one member's bytes."""
        where = f"{self.path}, sample {record.key}, member {suffix}"
        try:
            offset, size = record.members[suffix]
        except KeyError:
            raise ShardError(f'{where}: not in the shard; run "stm shards verify"') from None
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise ShardError(
                f"{where}: expected {size} bytes at byte {offset}, found {len(data)}; the shard "
                "is cut short, run the command that made it again"
            )
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; its absence means that the set is incomplete or is not one."""
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        raise ShardError(f"{folder}: expected a folder of shards, found nothing; check --shards")
    if not path.is_file():
        if (folder / CONFIG_NAME).is_file():
            raise ShardError(
                f"{folder}: the set is incomplete (no {MANIFEST_NAME}); run the command that "
                "makes it again, it goes on where it stopped"
            )
        raise ShardError(f"{folder}: no {MANIFEST_NAME}; expected a folder made by stm")
    return Manifest.from_json(path.read_bytes(), str(path))


def read_sidecar(folder: Path, entry: ShardEntry, manifest: Manifest) -> Sidecar:
    """Read a shard's sidecar and check that it belongs to the manifest."""
    path = folder / sidecar_name(entry.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ShardError(
            f"{path}: sidecar cannot be read ({error.strerror}); pack it again"
        ) from None
    sidecar = Sidecar.from_json(data, str(path))
    stated = (sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.index), sidecar.config_hash)
    expected = (entry.name, entry.bytes, entry.sha256, entry.samples, manifest.config_hash)
    if stated != expected:
        names = ("shard", "bytes", "sha256", "samples", "config_hash")
        field = next(n for n, a, b in zip(names, stated, expected, strict=True) if a != b)
        raise ShardError(
            f"{path}: its {field} differs from the manifest's; the two belong to different runs, "
            "pack the set again"
        )
    return sidecar
