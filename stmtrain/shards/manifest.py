"""The shard contract next to the tars: sidecar and manifest (format version 1).

The sidecar states the place and CRC of each member of its tar, the manifest lists the shards of the
set. They convert plain values to JSON bytes and back, without file access.
``docs/shard-format.md`` describes the format.
"""

import builtins
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from stmtrain.errors import ShardError
from stmtrain.shards.sample import (
    FORMAT_NAME,
    FORMAT_VERSION,
    MALFORMED,
    SampleRecord,
    Skipped,
    canonical_json,
    config_hash,
    is_shard_name,
    load_object,
)

STATISTICS = ("samples", "frames", "masks", "objects", "jpg_bytes", "png_bytes", "skipped")
"""What a sidecar counts: :meth:`SampleIndex.statistics` of its samples, and skipped inputs."""

INDEXED = "indexed"
"""``config["kind"]`` of a set of another program's tars (``stm shards index``)."""


@dataclass(frozen=True)
class SampleIndex:
    """The places of a sample's members in its tar: an entry of the sidecar's index.

    Attributes:
        key: The sample's key.
        members: ``members[suffix] = (data offset, size)``, bytes.
        crc32: CRC-32 of each member's bytes; empty in sets made before it was recorded.
        record: The sample's record, if the tar does not contain it (``stm shards index``).
    """

    key: str
    members: Mapping[str, tuple[int, int]]
    crc32: Mapping[str, int] = field(default_factory=dict)
    record: SampleRecord | None = None

    def place(self, suffix: str) -> str:
        """Name a member and its bytes for an error message; ``suffix`` must be a member."""
        offset, size = self.members[suffix]
        return f"sample {self.key}, member {suffix}, bytes {offset} to {offset + size - 1}"

    def is_intact(self, suffix: str, data: bytes) -> bool:
        """Return whether a member's bytes have its CRC; true if the CRC is unknown."""
        return not self.crc32 or zlib.crc32(data) == self.crc32[suffix]

    def statistics(self, record: SampleRecord) -> dict[str, int]:
        """Return what the sample with this record adds to its shard's statistics."""
        return {
            "samples": 1,
            "frames": len(record.frames),
            "masks": len(record.mask_frames),
            "objects": len(record.object_ids),
            "jpg_bytes": sum(self.members[f"{name}.jpg"][1] for name in record.frames),
            "png_bytes": sum(self.members[f"{name}.png"][1] for name in record.mask_frames),
        }

    def to_mapping(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        value: dict[str, Any] = {"key": self.key, "members": dict(self.members)}
        if self.crc32:
            value["crc32"] = dict(self.crc32)
        if self.record is not None:
            value["meta"] = asdict(self.record)
        return value

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any], where: str) -> Self:
        """Build an entry from decoded JSON."""
        key = str(value["key"])
        members = {
            str(suffix): (_whole(offset), _whole(size))
            for suffix, (offset, size) in value["members"].items()
        }
        crc32 = {
            str(suffix): _whole(crc, 1 << 32) for suffix, crc in value.get("crc32", {}).items()
        }
        if crc32 and crc32.keys() != members.keys():
            raise ValueError(f"sample {key}: crc32 and members name different members")
        record = value.get("meta")
        if record is not None:
            record = SampleRecord.from_mapping(record, f"{where}, sample {key}")
        return cls(key, members, crc32, record)


def _whole(value: Any, limit: int = 1 << 62) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise TypeError(f"expected an integer below {limit}, found {value!r:.20}")
    return value


@dataclass(frozen=True)
class Sidecar:
    """``<shard>.json``, written after its tar: its presence marks the shard as complete."""

    shard: str
    bytes: int
    sha256: str
    config_hash: str
    index: tuple[SampleIndex, ...]
    statistics: Mapping[str, int]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> builtins.bytes:
        """Encode as the sidecar file's bytes."""
        return canonical_json(
            {
                "format_version": FORMAT_VERSION,
                "shard": self.shard,
                "bytes": self.bytes,
                "sha256": self.sha256,
                "config_hash": self.config_hash,
                "samples": len(self.index),
                "index": [row.to_mapping() for row in self.index],
                "statistics": dict(self.statistics),
                "skipped": [asdict(s) for s in self.skipped],
            }
        )

    @classmethod
    def from_json(cls, data: builtins.bytes, where: str) -> Self:
        """Decode a sidecar; ``where`` is its path."""
        value = load_object(data, where)
        _check_version(value, where)
        try:
            sidecar = cls(
                shard=str(value["shard"]),
                bytes=int(value["bytes"]),
                sha256=str(value["sha256"]),
                config_hash=str(value["config_hash"]),
                index=tuple(SampleIndex.from_mapping(entry, where) for entry in value["index"]),
                statistics={str(k): int(v) for k, v in value["statistics"].items()},
                skipped=tuple(Skipped(str(s["input"]), str(s["reason"])) for s in value["skipped"]),
            )
            count = int(value["samples"])
        except MALFORMED as error:
            raise ShardError(
                f'{where}: sidecar is malformed ({error!r}); run "stm shards repair"'
            ) from None
        if count != len(sidecar.index):
            raise ShardError(
                f"{where}: states {count} samples, indexes {len(sidecar.index)}; run "
                '"stm shards repair"'
            )
        sidecar._check_places(where)
        return sidecar

    def _check_places(self, where: str) -> None:
        """Refuse members outside the tar."""
        for row in self.index:
            for suffix, (offset, size) in row.members.items():
                if offset + size > self.bytes:
                    raise ShardError(
                        f"{where}: sample {row.key}, member {suffix}: {size} bytes at byte "
                        f"{offset} are not within the {self.bytes} of {self.shard}; run "
                        '"stm shards repair"'
                    )


@dataclass(frozen=True)
class ShardEntry:
    """A shard's entry in the manifest: its file name, bytes, sha256 and number of samples.

    ``sidecar_sha256`` is that of the sidecar's bytes; empty in sets made before it was recorded.
    """

    name: str
    bytes: int
    sha256: str
    samples: int
    sidecar_sha256: str = ""

    @classmethod
    def of(cls, sidecar: Sidecar) -> Self:
        """Return the entry of the shard of a sidecar."""
        digest = hashlib.sha256(sidecar.to_json()).hexdigest()
        return cls(sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.index), digest)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Build an entry from decoded JSON."""
        return cls(
            name=str(value["name"]),
            bytes=_whole(value["bytes"]),
            sha256=str(value["sha256"]),
            samples=_whole(value["samples"]),
            sidecar_sha256=str(value.get("sidecar_sha256", "")),
        )


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``, written last: its presence marks the set as complete.

    ``config`` contains everything that decides the bytes (input, recipe, seed, ...); ``totals`` the
    sums of the shards' statistics; ``skipped`` a count per reason. ``about`` says what the data set
    is: its ``title``, ``licence`` and ``url``; empty if that is unknown.
    """

    config: Mapping[str, Any]
    shards: tuple[ShardEntry, ...]
    totals: Mapping[str, int]
    skipped: Mapping[str, int]
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_hash(self) -> str:
        """The hash that every sidecar of the set carries."""
        return config_hash(self.config)

    def to_mapping(self) -> dict[str, Any]:
        """Return the content of the manifest file as JSON values."""
        return {
            **({"about": dict(self.about)} if self.about else {}),
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "shards": [asdict(s) for s in self.shards],
            "totals": dict(self.totals),
            "skipped": dict(self.skipped),
        }

    def to_json(self) -> bytes:
        """Encode as the manifest file's bytes, indented for human readers."""
        text = json.dumps(self.to_mapping(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return text.encode(errors="surrogatepass")

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Decode a manifest; ``where`` is its path."""
        value = load_object(data, where)
        if value.get("format") != FORMAT_NAME:
            raise ShardError(
                f'{where}: expected "format": "{FORMAT_NAME}", found {value.get("format")!r}; '
                "this folder was not made by stm"
            )
        _check_version(value, where)
        try:
            manifest = cls(
                config=dict(value["config"]),
                shards=tuple(ShardEntry.from_mapping(entry) for entry in value["shards"]),
                totals={str(k): int(v) for k, v in value["totals"].items()},
                skipped={str(k): int(v) for k, v in value["skipped"].items()},
                about={str(k): str(v) for k, v in value.get("about", {}).items()},
            )
            stated = str(value["config_hash"])
        except MALFORMED as error:
            raise ShardError(
                f'{where}: manifest is malformed ({error!r}); run "stm shards repair"'
            ) from None
        bad = [s.name for s in manifest.shards if not is_shard_name(s.name)]
        if bad:
            raise ShardError(
                f"{where}: expected plain names of .tar files, found {bad[0]!r}; the manifest was "
                'edited, run "stm shards repair"'
            )
        if len({s.name for s in manifest.shards}) != len(manifest.shards):
            raise ShardError(f'{where}: lists a shard twice; run "stm shards repair"')
        if stated != manifest.config_hash:
            raise ShardError(
                f"{where}: config_hash does not match config; the manifest was edited, run "
                '"stm shards repair"'
            )
        return manifest


def parse_sidecar(data: bytes, path: str, entry: ShardEntry, config_hash: str) -> Sidecar:
    """Decode the sidecar at ``path`` and check that it belongs to the manifest.

    Raises:
        ShardError: It is malformed, or belongs to another shard or run than its ``entry`` and the
            ``config_hash`` of the manifest.
    """
    sidecar = Sidecar.from_json(data, path)
    stated = (sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.index), sidecar.config_hash)
    expected = (entry.name, entry.bytes, entry.sha256, entry.samples, config_hash)
    if stated != expected:
        names = ("shard", "bytes", "sha256", "samples", "config_hash")
        field = next(n for n, a, b in zip(names, stated, expected, strict=True) if a != b)
        raise ShardError(
            f"{path}: its {field} differs from the manifest's; the two belong to different runs, "
            'run "stm shards repair"'
        )
    if entry.sidecar_sha256 not in ("", hashlib.sha256(data).hexdigest()):
        raise ShardError(
            f"{path}: its sha256 differs from the manifest's; the sidecar is damaged, run "
            '"stm shards repair"'
        )
    return sidecar


def _check_version(value: Mapping[str, Any], where: str) -> None:
    version = value.get("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(
            f"{where}: expected format version {FORMAT_VERSION}, found {version!r}; install the "
            "release of stm-vos that wrote it, or pack the set again"
        )


def is_indexed(config: Mapping[str, Any]) -> bool:
    """Return whether a set with this configuration consists of another program's tars."""
    return config.get("kind") == INDEXED
