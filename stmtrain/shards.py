"""Read a shard set: manifest, member index, byte-range reads. Torch-free.

A set is a folder with ``manifest.json``, or a URL whose shards come through a local cache; sidecars
are read when their shard is first touched, so opening costs the same for ten clips and for a
million. Reads are ``os.pread`` on descriptors that threads share. Nothing is extracted, and nothing
outside the folder is opened.
"""

import hashlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

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

if TYPE_CHECKING:
    from stmtrain.cache import Cache

__all__ = [
    "LocalStore",
    "OpenShard",
    "ShardSet",
    "Store",
    "parse_sidecar",
    "read_manifest",
    "read_sidecar",
]

_OPEN_SHARDS = 128


class Store(Protocol):
    """Where the files of a shard set are."""

    @property
    def name(self) -> str:
        """What messages call the set: its folder, or its URL without secrets."""

    @property
    def remote(self) -> bool:
        """Whether opening a shard may mean to wait for a network."""

    def manifest(self) -> bytes:
        """Read the manifest."""

    def sidecar(self, entry: ShardEntry, manifest: Manifest) -> Sidecar:
        """Read a shard's sidecar and check it against the manifest."""

    def open(self, entry: ShardEntry) -> int:
        """Return a descriptor of a whole shard; its owner closes it."""


class LocalStore:
    """A folder."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def manifest(self) -> bytes:
        """Read the manifest; its absence means that the set is incomplete or is not one."""
        return _manifest_bytes(self.folder)

    def sidecar(self, entry: ShardEntry, manifest: Manifest) -> Sidecar:
        """Read a shard's sidecar and check it against the manifest."""
        return read_sidecar(self.folder, entry, manifest)

    def open(self, entry: ShardEntry) -> int:
        """Open a shard."""
        return _open(self.folder / entry.name)

    def check_sizes(self, manifest: Manifest) -> None:
        """Refuse a set with a shard that is missing or has another size than the manifest says."""
        for entry in manifest.shards:
            path = self.folder / entry.name
            if not path.is_file() or path.stat().st_size != entry.bytes:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
                raise ShardError(
                    f"{path}: expected a shard of {entry.bytes} bytes, found {found}; "
                    "run the command that made this set again, it remakes what is missing"
                )


class ShardSet:
    """A complete shard set, addressed by sample index in ``[0, len(self))``.

    Indices follow the manifest's shard order and the order inside each tar. Safe for threads: the
    state is a bounded cache of open shards.

    Attributes:
        name: Its folder, or its URL without secrets.
        manifest: What it holds.
        manifest_sha256: Hex digest of the manifest's bytes. The manifest holds the hash of every
            shard, so this one identifies the whole set.
        shard_sizes: Samples of each shard.
        remote: Whether it is behind a URL.
    """

    def __init__(self, store: Store) -> None:
        data = store.manifest()
        self.name, self.remote = store.name, store.remote
        self.manifest = Manifest.from_json(data, f"{store.name}/{MANIFEST_NAME}")
        self.manifest_sha256 = hashlib.sha256(data).hexdigest()
        self._store = store
        self.shard_sizes: tuple[int, ...] = tuple(s.samples for s in self.manifest.shards)
        self._ends = list(accumulate(self.shard_sizes))
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, location: Path | str, cache: "Cache | None" = None) -> Self:
        """Open the set in a folder or behind a URL.

        Args:
            location: Folder, or ``s3://``, ``gs://``, ``hf://``, ``https://`` URL of the folder.
            cache: Where shards from a URL are kept; without one, in the user's cache folder.

        Raises:
            ShardError: No manifest (not a set, or one that is still being made), another format
                version, or a shard that is missing or has another size than the manifest says.
            UsageError: A URL of another kind, or a package that it needs is not installed.
            RemoteError: The server does not answer, or refuses.
        """
        from stmtrain.locations import parse_location

        location = parse_location(str(location))
        if isinstance(location, str):
            from stmtrain.remote import open_store

            return cls(open_store(location, cache))
        store = LocalStore(location)
        shard_set = cls(store)
        store.check_sizes(shard_set.manifest)
        return shard_set

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def where(self, index: int) -> str:
        """Name a sample for an error message: set, shard and sample key."""
        shard, local = self._locate(index)
        key = self._shard(shard).sidecar.index[local].key
        folder = self.name.rpartition("/")[2]
        return f"{folder}/{self.manifest.shards[shard].name}, sample {key}"

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

    def fetch(self, shard: int) -> None:
        """Make sure that a shard is here, in the manifest's order; waits for the network."""
        self._shard(shard)

    def release(self, shard: int) -> None:
        """Let go of a shard that is not needed soon, so that its cache may remove it."""
        with self._lock:
            self._open.pop(shard, None)

    def close(self) -> None:
        """Close the open shards; the set can be used again afterwards."""
        with self._lock:
            self._open.clear()

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: sample index {index} outside 0..{len(self) - 1}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _record(self, index: int) -> tuple["OpenShard", Record]:
        number, local = self._locate(index)
        shard = self._shard(number)
        return shard, shard.sidecar.index[local]

    def _shard(self, number: int) -> "OpenShard":
        with self._lock:
            shard = self._open.get(number)
            if shard is not None:
                self._open.move_to_end(number)
                return shard
        # Not under the lock: it may wait for the network, and readers of other shards must not.
        entry = self.manifest.shards[number]
        sidecar = self._store.sidecar(entry, self.manifest)
        path = Path(self.name) / entry.name if not self.remote else f"{self.name}/{entry.name}"
        opened = OpenShard(path, sidecar, self._store.open(entry))
        with self._lock:
            # Another thread may have been faster. Readers that still hold a shard keep it alive
            # when it leaves here; the last one closes it.
            shard = self._open.setdefault(number, opened)
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
            return shard

    def _meta(self, shard: "OpenShard", record: Record) -> SampleMeta:
        if record.meta is not None:
            return record.meta
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

    def __init__(self, path: Path | str, sidecar: Sidecar, descriptor: int | None = None) -> None:
        """Take over an open descriptor; without one, open ``path``."""
        self.path = path
        self.sidecar = sidecar
        self._descriptor = _open(path) if descriptor is None else descriptor

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


def _open(path: Path | str) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ShardError(f"{path}: cannot be opened ({error.strerror})") from None


def _manifest_bytes(folder: Path) -> bytes:
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
    return path.read_bytes()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest; its absence means that the set is incomplete or is not one."""
    return Manifest.from_json(_manifest_bytes(folder), str(folder / MANIFEST_NAME))


def read_sidecar(folder: Path, entry: ShardEntry, manifest: Manifest) -> Sidecar:
    """Read a shard's sidecar and check that it belongs to the manifest."""
    path = folder / sidecar_name(entry.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ShardError(
            f"{path}: sidecar cannot be read ({error.strerror}); pack it again"
        ) from None
    return parse_sidecar(data, str(path), entry, manifest)


def parse_sidecar(data: bytes, path: str, entry: ShardEntry, manifest: Manifest) -> Sidecar:
    """Decode a sidecar and check that it belongs to the manifest."""
    sidecar = Sidecar.from_json(data, path)
    stated = (sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.index), sidecar.config_hash)
    expected = (entry.name, entry.bytes, entry.sha256, entry.samples, manifest.config_hash)
    if stated != expected:
        names = ("shard", "bytes", "sha256", "samples", "config_hash")
        field = next(n for n, a, b in zip(names, stated, expected, strict=True) if a != b)
        raise ShardError(
            f"{path}: its {field} differs from the manifest's; the two belong to different runs, "
            "pack the set again"
        )
    if entry.sidecar_sha256 not in ("", hashlib.sha256(data).hexdigest()):
        raise ShardError(
            f"{path}: its sha256 differs from the manifest's; the sidecar is damaged, run "
            '"stm shards repair"'
        )
    return sidecar
