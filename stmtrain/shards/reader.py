"""Read a shard set: its manifest, the index of its members, and byte ranges. Free of torch.

A set is a folder with ``manifest.json``, or the URL of one, whose shards are read through a local
cache. A sidecar is read when its shard is first used, so opening a set takes the same time for ten
clips and for a million. Reads are ``os.pread`` on descriptors that threads share. Nothing is
extracted to disk, and nothing outside the folder is opened.
"""

import hashlib
import os
import threading
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Self

from stmtrain.errors import ShardError
from stmtrain.shards.arrays import SampleArrays, decode_sample
from stmtrain.shards.cache import DEFAULT_GIGABYTES, Cache, user_cache
from stmtrain.shards.index import PackedIndex
from stmtrain.shards.manifest import Manifest, SampleIndex
from stmtrain.shards.sample import MANIFEST_NAME, Sample, SampleRecord
from stmtrain.shards.store import LocalStore, Store, open_store

_OPEN_SHARDS = 128
_BETWEEN = 4096  # unneeded bytes per member that may be read to save a second read


class ShardSet:
    """A complete shard set, addressed by sample index in ``[0, len(self))``.

    Indices follow the order of the shards in the manifest and of the samples in each tar. Thread-
    safe: the state is a limited number of open shards, and the index of every shard that was used.

    Attributes:
        name: The folder, or the URL without secrets.
        manifest: The manifest of the set.
        manifest_sha256: Hex digest of the manifest's bytes. The manifest contains the hash of every
            shard, so this digest identifies the complete set.
        shard_sizes: Number of samples in each shard.
        remote: Whether the set is behind a URL.
    """

    def __init__(self, store: Store) -> None:
        data = store.manifest()
        self.name, self.remote = store.name, store.remote
        self.manifest = Manifest.from_json(data, f"{store.name}/{MANIFEST_NAME}")
        self.manifest_sha256 = hashlib.sha256(data).hexdigest()
        self._store = store
        self.shard_sizes: tuple[int, ...] = tuple(s.samples for s in self.manifest.shards)
        self._ends = list(accumulate(self.shard_sizes))
        self._indices: dict[int, PackedIndex] = {}
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, location: Path | str, cache: Cache | None = None) -> Self:
        """Open the set in a folder or behind a URL.

        Arguments and errors are those of :func:`open_shards`; by default, ``cache`` is in the
        user's cache folder.
        """
        store = open_store(location, cache)
        shard_set = cls(store)
        if isinstance(store, LocalStore):
            store.check_sizes(shard_set.manifest)
        return shard_set

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> SampleArrays:
        """Read and decode a sample with all of its frames.

        Raises:
            IndexError: ``index`` is outside ``[0, len(self))``.
            DataError: The sample is damaged.
        """
        return decode_sample(self.read(index), self.where(index))

    def where(self, index: int) -> str:
        """Return the name of a sample in messages: set, shard and sample key."""
        number, local = self._locate(index)
        key, folder = self._index(number).key(local), self.name.rpartition("/")[2]
        return f"{folder}/{self.manifest.shards[number].name}, sample {key}"

    def record(self, index: int) -> SampleRecord:
        """Read a sample's record."""
        return self._record_of(*self._record(index))

    def keys(self) -> Iterator[str]:
        """Yield every sample key in index order (reads every sidecar)."""
        for shard in range(len(self.shard_sizes)):
            index = self._index(shard)
            yield from map(index.key, range(self.shard_sizes[shard]))

    def notes(self, start: str = "") -> dict[str, list[str]]:
        """Return the inputs that were skipped or noted when the set was made, by reason.

        Args:
            start: How the reasons begin; sidecars are read only if there is one.
        """
        found: dict[str, list[str]] = {}
        if any(reason.startswith(start) for reason in self.manifest.skipped):
            for entry in self.manifest.shards:
                for item in self._store.sidecar(entry, self.manifest).skipped:
                    if item.reason.startswith(start):
                        found.setdefault(item.reason, []).append(item.input)
        return found

    def read(
        self, index: int, frames: Sequence[str] | None = None, record: SampleRecord | None = None
    ) -> Sample:
        """Read a sample's bytes; with ``frames``, only those frames and their masks.

        Args:
            index: Sample index.
            frames: Frame names; None for all frames.
            record: The sample's record, if it has been read already.

        Raises:
            ShardError: A member is missing, shorter than its index states, or damaged.
        """
        shard, row = self._record(index)
        record = self._record_of(shard, row) if record is None else record
        names = record.frames if frames is None else frames
        masked = [name for name in names if name in record.mask_frames]
        wanted = [f"{name}.jpg" for name in names] + [f"{name}.png" for name in masked]
        data = shard.members(row, wanted)
        return Sample(
            record=record,
            frames=dict(zip(names, data[: len(names)], strict=True)),
            masks=dict(zip(masked, data[len(names) :], strict=True)),
        )

    def read_frames(self, index: int, names: Sequence[str]) -> list[bytes]:
        """Read some frames without their masks; arguments and errors as of :meth:`read_masks`."""
        shard, row = self._record(index)
        return shard.members(row, [f"{name}.jpg" for name in names])

    def read_masks(self, index: int, names: Sequence[str]) -> list[bytes]:
        """Read the masks of some frames without the frames.

        Args:
            index: Sample index.
            names: Names of frames that have a mask.

        Raises:
            ShardError: A member is missing, shorter than its index states, or damaged.
        """
        shard, row = self._record(index)
        return shard.members(row, [f"{name}.png" for name in names])

    def release(self, shard: int) -> None:
        """Close a shard that is not needed soon, so that the cache may remove it."""
        with self._lock:
            self._open.pop(shard, None)

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: sample index {index} outside 0..{len(self) - 1}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _record(self, index: int) -> tuple["OpenShard", SampleIndex]:
        number, local = self._locate(index)
        return self.fetch(number), self._index(number)[local]

    def _index(self, number: int) -> PackedIndex:
        """Return the index of a shard, which stays in memory once it has been read."""
        index = self._indices.get(number)
        if index is None:
            sidecar = self._store.sidecar(self.manifest.shards[number], self.manifest)
            index = self._indices[number] = PackedIndex(sidecar.index)
        return index

    def fetch(self, number: int) -> "OpenShard":
        """Open a shard by its number in the manifest; this may wait for the network."""
        with self._lock:
            shard = self._open.get(number)
            if shard is not None:
                self._open.move_to_end(number)
                return shard
        # Not under the lock: opening may wait for the network, and other readers must not.
        entry = self.manifest.shards[number]
        self._index(number)
        opened = OpenShard(self._store.where(entry.name), self._store.open(entry))
        with self._lock:
            # Another thread may have been faster. A shard that leaves this dictionary is closed
            # when its last reader has finished.
            shard = self._open.setdefault(number, opened)
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
            return shard

    def _record_of(self, shard: "OpenShard", row: SampleIndex) -> SampleRecord:
        if row.record is not None:
            return row.record
        where = f"{shard.path}, sample {row.key}"
        record = SampleRecord.from_json(shard.member(row, "json"), where)
        if record.sample_key != row.key:
            raise ShardError(
                f"{where}: its record states the key {record.sample_key!r}; the shard is damaged, "
                'run "stm shards verify"'
            )
        return record


def open_shards(
    location: str | Path, *, cache: Path | None = None, cache_size: float | None = None
) -> ShardSet:
    """Open a shard set.

    Args:
        location: Its folder, or its ``s3://``, ``gs://``, ``hf://`` or ``https://`` URL.
        cache: Folder for shards from a URL; by default in the user's cache folder.
        cache_size: Maximum size of the cache, GB; 50 by default.

    Returns:
        The set: ``len(shards)`` samples, and ``shards[i]`` decodes one of them to arrays.

    Raises:
        ShardError: There is no manifest (no shard set, or one that is incomplete), it has another
            format version, or a shard is missing or has the wrong size.
        UsageError: The URL has an unknown scheme, or a package for it is not installed.
        RemoteError: The server does not respond, or refuses access.

    Example:
        >>> shards = open_shards("shards/davis")  # doctest: +SKIP
        >>> shards[0].frames.shape  # doctest: +SKIP
        (82, 480, 854, 3)
    """
    if cache is None and cache_size is None:
        return ShardSet.open(location)
    return ShardSet.open(location, user_cache(cache, cache_size or DEFAULT_GIGABYTES))


class OpenShard:
    """The descriptor of a tar; reads are at byte offsets, so threads need no lock."""

    def __init__(self, path: str, descriptor: int) -> None:
        """Take ownership of an open descriptor; ``path`` is the tar's name in messages."""
        self.path, self._descriptor = path, descriptor

    def members(self, row: SampleIndex, suffixes: Sequence[str]) -> list[bytes]:
        """Read several members like :meth:`member`, in one read if they are close together."""
        known = row.members
        places = [known[suffix] for suffix in suffixes if suffix in known]
        start = min((offset for offset, _ in places), default=0)
        stop = max((offset + size for offset, size in places), default=0)
        close = stop - start <= sum(size + _BETWEEN for _, size in places)
        if close and len(places) == len(suffixes):
            data = os.pread(self._descriptor, stop - start, start)
            found = [data[offset - start : offset - start + size] for offset, size in places]
            if len(data) == stop - start and all(map(row.is_intact, suffixes, found)):
                return found
        return [self.member(row, suffix) for suffix in suffixes]  # which also names any fault

    def member(self, row: SampleIndex, suffix: str) -> bytes:
        """Read one member's bytes.

        Raises:
            ShardError: It is missing, truncated, or its CRC differs from that in the sidecar.
        """
        try:
            offset, size = row.members[suffix]
        except KeyError:
            raise ShardError(
                f"{self.path}, sample {row.key}, member {suffix}: not in the shard; run "
                '"stm shards verify"'
            ) from None
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise ShardError(
                f"{self.path}, {row.place(suffix)}: found {len(data)} of {size} bytes; the "
                'shard is truncated, run "stm shards verify"'
            )
        if not row.is_intact(suffix, data):
            raise ShardError(
                f"{self.path}, {row.place(suffix)}: crc32 is {zlib.crc32(data):08x}, expected "
                f"{row.crc32[suffix]:08x}; the shard was damaged after it was written, run "
                '"stm shards verify"'
            )
        return data

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)
