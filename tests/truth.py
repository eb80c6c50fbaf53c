"""Compare a packed set with what a correct reader must find, as ``truth.json`` of a drawn tree."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet

SHA = {
    "higher": "sha256",
    "lower": "sha256_lower_on_top",
    "smaller": "sha256_smaller_on_top",
}
"""Which hash of ``truth.json`` belongs to a rule of overlap."""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_code(frame: np.ndarray) -> int:
    """Read the number that is drawn in a frame, also after JPEG or video coding."""
    return sum(
        int(frame[2:6, bit * 8 + 2 : bit * 8 + 6].mean() > 127) << (7 - bit) for bit in range(8)
    )


def differences(
    folder: Path, truth: Mapping[str, Any], overlap: str = "smaller", frames: str = "all"
) -> Iterator[str]:
    """Yield one line for everything in which a packed set differs from the truth."""
    shards = ShardSet.open(folder)
    found = {}
    for i in range(len(shards)):
        sample = shards.read(i)
        origin = sample.record.origin
        found[origin["split"], origin["video"]] = sample
    expected = {(v["split"], v["name"]): v for v in truth["videos"]}
    if any(split is None for split, _ in expected):  # where splits are no part of the truth
        found = {(None, name): sample for (_, name), sample in found.items()}
    if set(found) != set(expected):
        yield f"videos differ: {sorted(map(str, set(found) ^ set(expected)))}"
    for key in set(found) & set(expected):
        for text in _video(found[key], expected[key], overlap, frames):
            yield f"{key}: {text}"


def _video(sample: Any, truth: Mapping[str, Any], overlap: str, frames: str) -> Iterator[str]:
    record = sample.record
    names = list(record.origin.get("frames", record.frames))
    masked = [name for name in truth["frames"] if name in truth["mask_frames"]]
    wanted = truth["frames"] if frames == "all" else masked
    packed = dict(zip(names, record.frames, strict=True))
    there = [name for name in names if packed[name] in record.mask_frames]
    size = [record.height, record.width]
    if (names, there, size) != (wanted, masked, truth["size"]):
        yield f"{size}, frames {names[:3]}, masks {there[:3]} instead of {truth['size']}, {wanted}"
        return
    yield from _frames(sample, truth, packed)
    for name, mask in truth["mask_frames"].items():
        yield from _mask(sample, packed[name], mask, overlap)
    mapped, expected = record.origin.get("id_map"), truth["id_map"]
    if mapped and expected and "things" not in truth and mapped != expected:
        yield f"id map {mapped} instead of {expected}"


def _frames(sample: Any, truth: Mapping[str, Any], packed: Mapping[str, str]) -> Iterator[str]:
    codes = dict(zip(truth["frames"], truth["frame_codes"], strict=True))
    hashes = dict(zip(truth["frames"], truth.get("jpeg_sha256", []), strict=False))
    for name, inside in packed.items():
        data = sample.frames[inside]
        if hashes and sha(data) != hashes[name]:
            yield f"frame {name}: other bytes"
        if read_code(decode_frame(data, name)) != codes[name]:
            yield f"frame {name}: another frame"


def _mask(sample: Any, name: str, truth: Mapping[str, Any], overlap: str) -> Iterator[str]:
    record, label = sample.record, decode_mask(sample.masks[name], name)
    key = SHA[overlap] if truth["overlap"] else "sha256"
    if sha(label.tobytes()) != truth[key]:
        yield f"mask {name}: other pixels"
    t = record.mask_frames.index(name)
    areas = {i: row[t] for i, row in zip(record.object_ids, record.areas, strict=True) if row[t]}
    counted = dict(zip(*np.unique(label, return_counts=True), strict=True))
    if areas != {int(i): int(n) for i, n in counted.items() if i not in (0, 255)}:
        yield f"mask {name}: areas {areas}"
    if key == "sha256" and areas != dict(zip(truth["ids"], truth["areas"], strict=True)):
        yield f"mask {name}: ids and areas {areas}"
