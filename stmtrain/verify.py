"""Check a shard set completely: hashes, tar headers against the index, every pixel decoded."""

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

from stmtrain.decode import decode_frame, decode_mask
from stmtrain.errors import DataError, ShardError
from stmtrain.shards import OpenShard, read_manifest, read_sidecar
from stmtrain.spec import Manifest, Record, SampleMeta, ShardEntry, Sidecar

__all__ = ["verify", "verify_shard"]


def verify_shard(folder: Path, entry: ShardEntry, manifest: Manifest) -> list[str]:
    """Check one shard completely: sidecar, hash, every member's place, every pixel's decoding.

    Args:
        folder: The set's folder.
        entry: The shard's line in the manifest.
        manifest: The set's manifest.

    Returns:
        One line per fault, each naming shard, sample and byte; empty when the shard is whole.
    """
    path = folder / entry.name
    try:
        sidecar = read_sidecar(folder, entry, manifest)
        size, digest = _hash_file(path)
    except ShardError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    faults = []
    if size != entry.bytes:
        faults.append(f"{path}: expected {entry.bytes} bytes, found {size}")
    if digest != entry.sha256:
        faults.append(f"{path}: sha256 is {digest[:16]}…, the manifest says {entry.sha256[:16]}…")
    shard = OpenShard(path, sidecar)
    faults += _check_headers(path, sidecar)
    for record in sidecar.index:
        faults += _check_record(shard, record)
    return faults


def verify(folder: Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Verify every shard of the set in ``folder``; ``progress`` gets (shards done, shards)."""
    manifest = read_manifest(folder)
    faults: list[str] = []
    for done, entry in enumerate(manifest.shards, start=1):
        faults += verify_shard(folder, entry, manifest)
        if progress is not None:
            progress(done, len(manifest.shards))
    return faults


def _check_headers(path: Path, sidecar: Sidecar) -> list[str]:
    """Compare the tar's own headers with the index: same members, same order, same offsets."""
    expected = [
        (f"{record.key}.{suffix}", offset, size)
        for record in sidecar.index
        for suffix, (offset, size) in sorted(record.members.items(), key=lambda item: item[1])
    ]
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            found = [(m.name, m.offset_data, m.size) for m in tar]
    except (tarfile.TarError, OSError) as error:
        return [f"{path}: not a readable tar ({error})"]
    for want, have in zip(expected, found, strict=False):
        if want != have:
            return [
                f"{path}: expected member {want[0]} with {want[2]} bytes at byte {want[1]}, "
                f"found {have[0]} with {have[2]} bytes at byte {have[1]}"
            ]
    if len(found) != len(expected):
        end = found[-1][1] + found[-1][2] if found else 0
        return [
            f"{path}: expected {len(expected)} members, the tar ends after {len(found)} "
            f"at byte {end}"
        ]
    return []


def _check_record(shard: OpenShard, record: Record) -> list[str]:
    """Decode everything of one sample and compare it with its record."""
    where = f"{shard.path}, sample {record.key}"
    faults = []
    try:
        meta = SampleMeta.from_json(shard.member(record, "json"), where)
    except ShardError as error:
        return [str(error)]
    suffixes = {"json"} | {f"{n}.jpg" for n in meta.frames} | {f"{n}.png" for n in meta.mask_frames}
    if meta.sample_key != record.key or suffixes != set(record.members):
        faults.append(f"{where}: its record and the sidecar name different members")
    for suffix in sorted(suffixes & set(record.members) - {"json"}):
        decode = decode_frame if suffix.endswith(".jpg") else decode_mask
        offset = record.members[suffix][0]
        try:
            pixels = decode(shard.member(record, suffix), f"{where}, {suffix} at byte {offset}")
        except DataError as error:
            faults.append(str(error))
            continue
        if pixels.shape[:2] != (meta.height, meta.width):
            faults.append(
                f"{where}, {suffix} at byte {offset}: expected {meta.width}x{meta.height} pixels, "
                f"found {pixels.shape[1]}x{pixels.shape[0]}"
            )
    return faults


def _hash_file(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
