"""The shard contract inside a tar: names, the sample and its record (format version 1).

It converts plain values to canonical JSON bytes and back, without file access. Writers
(``stmdata.packing``) and readers (``stmtrain.shards.reader``) both follow it. Sidecars and the
manifest are in :mod:`stmtrain.shards.manifest`; ``docs/shard-format.md`` describes the format.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import ShardError
from stmtrain.images.masks import MAX_OBJECT_ID, VOID, ids_counted

FORMAT_NAME = "stm-shards"
FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
CONFIG_NAME = "config.json"

MAX_SAMPLE_KEY, MAX_FRAME_NAME = 64, 48
"""Longest names, characters."""
MAX_MEMBER = 100
"""Longest name of a member of a plain tar; the names of its parts are as long as that allows."""

_SAMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHARD_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.tar")
_FRAME_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")

MAX_JSON = 32 << 20
"""Size of the largest manifest or sidecar that is read, bytes. It lists 100,000 shards, or the
samples of a shard of 20 GB; decoded, JSON can take 25 times its size."""

MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""Raised while decoded JSON of another shape is taken apart (1e999 overflows an int)."""


def canonical_json(value: object) -> bytes:
    """Encode as UTF-8 JSON with sorted keys and no spaces; equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")  # file names need not be UTF-8


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 hex digest of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(config)).hexdigest()


def sidecar_name(shard: str) -> str:
    """Return the sidecar's file name: ``coco-000000.tar`` has ``coco-000000.json``."""
    return shard.removesuffix(".tar") + ".json"


def is_shard_name(name: str) -> bool:
    """Return whether a tar may have this name: it is plain, and so is its sidecar's name."""
    taken = {MANIFEST_NAME, CONFIG_NAME}
    return _SHARD_NAME.fullmatch(name) is not None and sidecar_name(name) not in taken


def load_object(data: bytes, where: str) -> dict[str, Any]:
    """Decode a JSON object; ``where`` opens the error message of anything else."""
    if len(data) > MAX_JSON:
        raise ShardError(
            f"{where}: expected at most {MAX_JSON} bytes of JSON, found {len(data)}; pack the set "
            "in larger shards, or if this is a sidecar, in smaller ones"
        )
    try:
        value = json.loads(data)
        if rb"\ud" in data or rb"\uD" in data:  # perhaps half a character: nothing can encode it
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ShardError(
            f'{where}: expected JSON, found something else ({error}); run "stm shards verify"'
        ) from None
    if not isinstance(value, dict):
        raise ShardError(
            f"{where}: expected a JSON object, found {type(value).__name__}; run "
            '"stm shards verify"'
        )
    return value


@dataclass(frozen=True)
class SampleRecord:
    """The content of a sample's ``.json`` member, which describes a clip or a complete video.

    Attributes:
        sample_key: Unique in the data set; letters, digits, ``_`` and ``-`` only.
        height: Height of every frame, pixels.
        width: Width of every frame, pixels.
        frames: Frame names in time order, as the data set names them (``00000``, ``00005``).
        mask_frames: Those of ``frames`` that have a mask, in time order.
        object_ids: Ids that occur in any mask, ascending, in 1..254; gaps are kept.
        areas: ``areas[i][j]`` is the pixel count of ``object_ids[i]`` in ``mask_frames[j]``.
        original_size: ``(height, width)`` before any resize, pixels.
        origin: Where the sample came from (data set, image, variant); any JSON object.
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
                "'-' or is longer than {MAX_FRAME_NAME}; rename the frame"
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

    @classmethod
    def of(
        cls,
        sample_key: str,
        frames: Sequence[str],
        areas: Mapping[str, NDArray[np.int64]],
        *,
        size: tuple[int, int],
        original_size: tuple[int, int],
        origin: Mapping[str, Any],
    ) -> Self:
        """Build the record of a sample from the areas in its masks.

        Args:
            sample_key: Its key.
            frames: Its frame names in time order.
            areas: Pixel counts (256,) of the values 0..255, by mask frame in time order, as of
                :func:`stmtrain.images.masks.areas`.
            size: (height, width) of its frames and masks, px.
            original_size: (height, width) before any resize, px.
            origin: Where it came from.
        """
        table = np.array(list(areas.values()), np.int64).reshape(-1, VOID + 1)
        ids = ids_counted(table.sum(axis=0))
        return cls(
            sample_key=sample_key,
            height=size[0],
            width=size[1],
            frames=tuple(frames),
            mask_frames=tuple(areas),
            object_ids=tuple(ids),
            areas=tuple(tuple(table[:, i].tolist()) for i in ids),
            original_size=original_size,
            origin=origin,
        )

    def images(self) -> list[str]:
        """Return the suffixes of the image members in the order of the tar: frame, then mask."""
        masked = set(self.mask_frames)
        suffixes = []
        for name in self.frames:
            suffixes.append(f"{name}.jpg")
            if name in masked:
                suffixes.append(f"{name}.png")
        return suffixes

    def to_json(self) -> bytes:
        """Encode as the bytes of the ``.json`` member."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Self:
        """Decode a ``.json`` member; ``where`` (shard and sample) opens every error message."""
        return cls.from_mapping(load_object(data, where), where)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any], where: str) -> Self:
        """Build a record from decoded JSON; ``where`` opens every error message."""
        try:
            return cls(
                sample_key=str(value["sample_key"]),
                height=int(value["height"]),
                width=int(value["width"]),
                frames=tuple(map(str, value["frames"])),
                mask_frames=tuple(map(str, value["mask_frames"])),
                object_ids=tuple(map(int, value["object_ids"])),
                areas=tuple(tuple(map(int, row)) for row in value["areas"]),
                original_size=(int(value["original_size"][0]), int(value["original_size"][1])),
                origin=dict(value["origin"]),
            )
        except MALFORMED as error:
            raise ShardError(f"{where}: sample record is malformed ({error!r}); run "
                             '"stm shards verify"') from None  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One sample in encoded form: its record, JPEG bytes by frame name, PNG bytes by frame name."""

    record: SampleRecord
    frames: Mapping[str, bytes]
    masks: Mapping[str, bytes]

    def members(self) -> list[tuple[str, bytes]]:
        """Return (suffix, bytes) of the members in the order of the tar; ``json`` is last."""
        data = {f"{name}.jpg": frame for name, frame in self.frames.items()}
        data |= {f"{name}.png": mask for name, mask in self.masks.items()}
        data["json"] = self.record.to_json()
        return [(suffix, data[suffix]) for suffix in (*self.record.images(), "json")]


@dataclass(frozen=True)
class Skipped:
    """An input that gave no sample, or a part that a sample lacks, with the reason."""

    input: str
    reason: str
