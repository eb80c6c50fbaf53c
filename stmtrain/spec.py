"""The shard contract: member names, sample record, sidecar, manifest (format version 1).

In come plain values, out go canonical JSON bytes, and back. Standard library only, no file access:
``stmdata.pack`` writes by this contract and ``stmtrain.shards`` reads by it. The prose version is
``docs/shard-format.md``.
"""

import builtins
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from stmtrain.errors import ShardError

__all__ = [
    "CONFIG_NAME",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "MAX_OBJECT_ID",
    "VOID",
    "Manifest",
    "Record",
    "Sample",
    "SampleMeta",
    "ShardEntry",
    "Sidecar",
    "Skipped",
    "canonical_json",
    "config_hash",
    "sidecar_name",
]

FORMAT_NAME = "stm-shards"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"
VOID = 255
MAX_OBJECT_ID = 254

_SAMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FRAME_NAME = re.compile(r"[A-Za-z0-9_-]{1,24}")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")

# What decoded JSON of another shape raises while it is taken apart (1e999 overflows an int).
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


def canonical_json(value: object) -> bytes:
    """Encode as UTF-8 JSON with sorted keys and no spaces, so that equal values are equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")  # file names need not be UTF-8


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 hex digest of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(config)).hexdigest()


def sidecar_name(shard: str) -> str:
    """Return the sidecar's file name: ``coco-000000.tar`` has ``coco-000000.json``."""
    return shard.removesuffix(".tar") + ".json"


@dataclass(frozen=True)
class SampleMeta:
    """What a sample's ``.json`` member says: one clip or one whole video.

    Attributes:
        sample_key: Unique in the data set; letters, digits, ``_`` and ``-`` only.
        height: Height of every frame, pixels.
        width: Width of every frame, pixels.
        frames: Frame names in time order, as the data set names them (``00000``, ``00005``).
        mask_frames: Those of ``frames`` that have a mask, in time order.
        object_ids: Ids that occur in any mask, ascending, in 1..254; gaps are kept.
        areas: ``areas[i][j]`` is the pixel count of ``object_ids[i]`` in ``mask_frames[j]``.
        original_size: ``(height, width)`` before any resize, pixels.
        origin: Where the sample came from (data set, image, variant); free but JSON.
    """

    sample_key: str
    height: int
    width: int
    frames: tuple[str, ...]
    mask_frames: tuple[str, ...]
    object_ids: tuple[int, ...]
    areas: tuple[tuple[int, ...], ...]
    original_size: tuple[int, int]
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a record that contradicts itself."""
        where = f"sample {self.sample_key!r}"
        if not _SAMPLE_KEY.fullmatch(self.sample_key):
            raise ShardError(
                f"{where}: expected a key of 1 to 64 letters, digits, '_' or '-'; rename the input"
            )
        bad = [name for name in self.frames if not _FRAME_NAME.fullmatch(name)]
        if bad:
            raise ShardError(
                f"{where}: frame name {bad[0]!r} has characters other than letters, digits, '_', "
                "'-' or is longer than 24; rename the frame"
            )
        if not self.frames or len(set(self.frames)) != len(self.frames):
            raise ShardError(f"{where}: expected distinct frame names, found {self.frames!r}")
        masked = set(self.mask_frames)
        if [f for f in self.frames if f in masked] != list(self.mask_frames):
            raise ShardError(f"{where}: mask frames {self.mask_frames!r} are not among its frames")
        ids = self.object_ids
        if list(ids) != sorted(set(ids)) or (ids and not 1 <= ids[0] <= ids[-1] <= MAX_OBJECT_ID):
            raise ShardError(f"{where}: expected ascending object ids in 1..254, found {ids!r}")
        if [len(row) for row in self.areas] != [len(self.mask_frames)] * len(ids):
            raise ShardError(f"{where}: areas do not have one row per object, one entry per mask")
        if min(self.height, self.width, *self.original_size) < 1:
            raise ShardError(f"{where}: expected sizes of at least 1 pixel, found less")

    def to_json(self) -> bytes:
        """Encode as the bytes of the ``.json`` member."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Decode a ``.json`` member; ``where`` (shard and sample) opens every error message."""
        return cls.from_mapping(_load(data, where), where)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any], where: str) -> Self:
        """Build a record from decoded JSON; ``where`` opens every error message."""
        try:
            return cls(
                sample_key=str(value["sample_key"]),
                height=int(value["height"]),
                width=int(value["width"]),
                frames=tuple(str(name) for name in value["frames"]),
                mask_frames=tuple(str(name) for name in value["mask_frames"]),
                object_ids=tuple(int(i) for i in value["object_ids"]),
                areas=tuple(tuple(int(a) for a in row) for row in value["areas"]),
                original_size=(int(value["original_size"][0]), int(value["original_size"][1])),
                origin=dict(value["origin"]),
            )
        except _MALFORMED as error:
            raise ShardError(f"{where}: sample record is malformed ({error!r}); run "
                             '"stm shards verify"') from None  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One sample in encoded form: its record, JPEG bytes by frame name, PNG bytes by frame name."""

    meta: SampleMeta
    frames: Mapping[str, bytes]
    masks: Mapping[str, bytes]

    def members(self) -> list[tuple[str, bytes]]:
        """Return (suffix, bytes) in the order in which they stand in the tar; ``json`` is last."""
        out: list[tuple[str, bytes]] = []
        for name in self.meta.frames:
            out.append((f"{name}.jpg", self.frames[name]))
            if name in self.masks:
                out.append((f"{name}.png", self.masks[name]))
        out.append(("json", self.meta.to_json()))
        return out


@dataclass(frozen=True)
class Skipped:
    """An input that gave no sample (or part of one that was left out), with the reason."""

    input: str
    reason: str


@dataclass(frozen=True)
class Record:
    """Where a sample's members lie in its tar: ``members[suffix] = (data offset, size)``, bytes.

    ``meta`` is the sample's record where the tar has none of its own (``stm shards index``).
    """

    key: str
    members: Mapping[str, tuple[int, int]]
    meta: SampleMeta | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Return the sidecar's entry as JSON values."""
        value: dict[str, Any] = {"key": self.key, "members": dict(self.members)}
        return value if self.meta is None else {**value, "meta": asdict(self.meta)}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any], where: str) -> Self:
        """Build an entry from decoded JSON."""
        key = str(value["key"])
        members = {str(suffix): _place(place) for suffix, place in value["members"].items()}
        meta = value.get("meta")
        if meta is not None:
            meta = SampleMeta.from_mapping(meta, f"{where}, sample {key}")
        return cls(key, members, meta)


def _place(value: Any) -> tuple[int, int]:
    offset, size = value
    if type(offset) is not int or type(size) is not int:
        raise TypeError(f"expected two whole numbers, found {value!r}")
    return offset, size


@dataclass(frozen=True)
class Sidecar:
    """``<shard>.json``, written after its tar is in place: the mark that the shard is complete."""

    shard: str
    bytes: int
    sha256: str
    config_hash: str
    index: tuple[Record, ...]
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
                "index": [record.to_mapping() for record in self.index],
                "statistics": dict(self.statistics),
                "skipped": [asdict(s) for s in self.skipped],
            }
        )

    @classmethod
    def from_json(cls, data: builtins.bytes, where: str) -> Self:
        """Decode a sidecar; ``where`` is its path."""
        value = _load(data, where)
        _check_version(value, where)
        try:
            sidecar = cls(
                shard=str(value["shard"]),
                bytes=int(value["bytes"]),
                sha256=str(value["sha256"]),
                config_hash=str(value["config_hash"]),
                index=tuple(Record.from_mapping(entry, where) for entry in value["index"]),
                statistics={str(k): int(v) for k, v in value["statistics"].items()},
                skipped=tuple(Skipped(str(s["input"]), str(s["reason"])) for s in value["skipped"]),
            )
            count = int(value["samples"])
        except _MALFORMED as error:
            raise ShardError(
                f"{where}: sidecar is malformed ({error!r}); pack this shard again"
            ) from None
        if count != len(sidecar.index):
            raise ShardError(
                f"{where}: says {count} samples but indexes {len(sidecar.index)}; pack it again"
            )
        sidecar._check_places(where)
        return sidecar

    def _check_places(self, where: str) -> None:
        """Refuse members that would lie outside the tar."""
        for record in self.index:
            for suffix, (offset, size) in record.members.items():
                if offset < 0 or size < 0 or offset + size > self.bytes:
                    raise ShardError(
                        f"{where}: sample {record.key}, member {suffix}: {size} bytes at byte "
                        f"{offset} are not within the {self.bytes} of {self.shard}; pack it again"
                    )


@dataclass(frozen=True)
class ShardEntry:
    """One line of the manifest: a shard's file name, bytes, sha256 and number of samples.

    ``sidecar_sha256`` is that of the sidecar's bytes; empty in sets made before it was recorded.
    """

    name: str
    bytes: int
    sha256: str
    samples: int
    sidecar_sha256: str = ""

    @classmethod
    def of(cls, sidecar: Sidecar) -> Self:
        """Return the line for a sidecar as it was written."""
        digest = hashlib.sha256(sidecar.to_json()).hexdigest()
        return cls(sidecar.shard, sidecar.bytes, sidecar.sha256, len(sidecar.index), digest)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Build a line from decoded JSON."""
        numbers = int(value["bytes"]), int(value["samples"])
        if not all(0 <= number < 1 << 62 for number in numbers):
            raise ValueError("a number of bytes or samples that cannot be")
        name, digest = str(value["name"]), str(value["sha256"])
        return cls(name, numbers[0], digest, numbers[1], str(value.get("sidecar_sha256", "")))


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``, written last: its presence means that the whole set is there.

    ``config`` holds everything that decides the bytes (source, recipe, seed, ...); ``totals`` the
    sums of the shards' statistics; ``skipped`` a count per reason.
    """

    config: Mapping[str, Any]
    shards: tuple[ShardEntry, ...]
    totals: Mapping[str, int]
    skipped: Mapping[str, int]

    @property
    def config_hash(self) -> str:
        """The hash that every sidecar of the set carries."""
        return config_hash(self.config)

    def to_json(self) -> bytes:
        """Encode as the manifest file's bytes, indented for human readers."""
        value = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "config": dict(self.config),
            "config_hash": self.config_hash,
            "shards": [asdict(s) for s in self.shards],
            "totals": dict(self.totals),
            "skipped": dict(self.skipped),
        }
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        return text.encode(errors="surrogatepass")

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Decode a manifest; ``where`` is its path."""
        value = _load(data, where)
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
            )
            stated = str(value["config_hash"])
        except _MALFORMED as error:
            raise ShardError(
                f"{where}: manifest is malformed ({error!r}); pack the set again"
            ) from None
        bad = [s.name for s in manifest.shards if not _SHARD_NAME.fullmatch(s.name)]
        if bad:
            raise ShardError(f"{where}: shard name {bad[0]!r} is not a plain '.tar' file name")
        if len({s.name for s in manifest.shards}) != len(manifest.shards):
            raise ShardError(f"{where}: lists a shard twice; pack the set again")
        if stated != manifest.config_hash:
            raise ShardError(f"{where}: config_hash does not match config; the manifest was edited")
        return manifest


def _load(data: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{where}: expected JSON, found something else ({error})") from None
    if not isinstance(value, dict):
        raise ShardError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _check_version(value: Mapping[str, Any], where: str) -> None:
    version = value.get("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(
            f"{where}: format version {version!r}, this program reads {FORMAT_VERSION}; "
            "pack the set again or install the matching release"
        )
