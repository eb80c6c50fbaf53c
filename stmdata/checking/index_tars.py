"""Index tars of other programs: write sidecars and a manifest for them; the tars stay unchanged.

Any webdataset with our member names will do: ``<key>.<frame>.jpg``, masks ``<key>.<frame>.png``,
and our record ``<key>.json`` if there is one. If not, the record is derived from the images and
stored in the sidecar. The input is untrusted: nothing is extracted, and the names, sizes and kinds
of members are checked before anything is read.
"""

import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from stmdata.packing.config import SetConfig
from stmdata.packing.folder import clear_leftovers
from stmdata.packing.pack import ShardSummary, Tally, claim_keys, manifest_of
from stmdata.packing.tar import scan_tar
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.files import locked, open_regular, read_regular, remove, write_whole
from stmtrain.images.decode import decode_mask, frame_size
from stmtrain.images.masks import VOID, areas
from stmtrain.processes import Progress, count, map_unordered
from stmtrain.shards.manifest import INDEXED, Manifest, SampleIndex, Sidecar, is_indexed
from stmtrain.shards.sample import (
    CONFIG_NAME,
    MANIFEST_NAME,
    SampleRecord,
    Skipped,
    config_hash,
    is_shard_name,
    sidecar_name,
)

_MEMBER = re.compile(r"([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{1,48}\.(?:jpg|png)|json)")
Places = dict[str, tuple[int, int]]
"""Member suffix to (byte of its data, bytes)."""

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|Z)|tgz|tbz2?|txz|tzst)$")
_CONFIG = {"kind": INDEXED}
_SET_FILES: Mapping[str, Callable[[bytes, str], SetConfig | Manifest]] = {
    CONFIG_NAME: SetConfig.from_json,
    MANIFEST_NAME: Manifest.from_json,
}
_MOST_BYTES = 1 << 28
"""Largest member that is read, bytes; frames, masks and records are far smaller."""
_FOREIGN = "member is not a frame, a mask or a record"


def index_shards(folder: Path, *, workers: int = 1, progress: Progress | None = None) -> Manifest:
    """Write a sidecar for every tar in ``folder``, then the manifest, in the order of the names.

    Args:
        folder: Contains the tars; an earlier index of them is replaced.
        workers: Number of processes.
        progress: Called with the samples done, 0, and how many members were skipped.

    Returns:
        The manifest, as written.

    Raises:
        UsageError: No tars, a name that a shard cannot have, a set that stm made (its sidecars
            contain more than its tars), or files of other programs under the names of ours.
        ShardError: A tar is damaged or contains what a shard cannot, or two tars have samples of
            the same key; no manifest is left then.
    """
    names = _tar_names(folder)
    with locked(folder):
        _refuse_others(folder, names)
        remove([folder / MANIFEST_NAME, *(folder / sidecar_name(name) for name in names)])
        config = SetConfig(_CONFIG, tuple(names))
        write_whole(folder / CONFIG_NAME, config.to_json(), sync=True)
        tally = Tally(0, progress)
        shards = map_unordered(partial(_index_shard, folder), names, workers, on_count=tally.add)
        found: dict[str, ShardSummary] = {}
        owner: dict[str, str] = {}
        try:
            with closing(shards):
                for shard in shards:
                    claim_keys(owner, shard)
                    found[shard.entry.name] = shard
        finally:
            clear_leftovers(folder, names)
        manifest = manifest_of(_CONFIG, (found[name] for name in names))
        write_whole(folder / MANIFEST_NAME, manifest.to_json(), sync=True)
    return manifest


def passed_over(folder: Path) -> list[str]:
    """Name the files of a folder that are or look like tars, but are not indexed, with reasons."""
    names = sorted(path.name for path in folder.iterdir())
    return [
        f"{name}: a hidden file, as macOS writes them; not indexed"
        if name[0] == "."
        else f"{name}: compressed, so byte ranges of it cannot be read; decompress it to index it"
        for name in names
        if (name[0] == "." and name.endswith(".tar")) or _COMPRESSED.search(name)
    ]


def _tar_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder of tars, found none; check the path")
    names = sorted(path.name for path in folder.glob("*.tar") if path.name[0] != ".")
    if not names:
        found = "".join(f" ({note})" for note in passed_over(folder)[:1])
        raise UsageError(
            f"{folder}: contains no .tar file{found}; pass the folder that contains them"
        )
    bad = [name for name in names if not is_shard_name(name)]
    if bad:
        raise UsageError(
            f"{folder / bad[0]}: expected a name of 1 to 80 letters, digits, '_' or '-' before "
            "'.tar' (not 'manifest' or 'config'); rename it"
        )
    return names


def _refuse_others(folder: Path, names: Sequence[str]) -> None:
    """Refuse to replace JSON files that are not an index written here."""
    for name, parse in _SET_FILES.items():
        path = folder / name
        if not path.exists():
            continue
        try:
            config = parse(read_regular(path), str(path)).config
        except ShardError:
            raise UsageError(
                f"{path}: is damaged or another program's; move it away first"
            ) from None
        if not is_indexed(config):
            raise UsageError(
                f"{path}: this set was made by stm, and its sidecars contain what the tars do not; "
                'use "stm shards repair", or move config.json and manifest.json away to index '
                "the tars as they are"
            )
    for name in names:
        path = folder / sidecar_name(name)
        if path.exists():
            try:
                Sidecar.from_json(read_regular(path), str(path))
            except ShardError:
                raise UsageError(
                    f"{path}: expected a sidecar under this name, found another file; move it "
                    "away first"
                ) from None


def _index_shard(folder: Path, name: str) -> ShardSummary:
    """Index one tar; the function that the workers run."""
    path = folder / name
    skipped: list[Skipped] = []
    index: dict[str, SampleIndex] = {}
    statistics: Counter[str] = Counter()
    with open_regular(path) as file:
        for key, places in _samples(file, path, skipped).items():
            index[key], record = _record(file, path, key, places, skipped)
            statistics.update(index[key].statistics(record))
            count(samples=1)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
    if not index:
        example = skipped[0].input if skipped else "an empty tar"
        raise ShardError(
            f"{path}: expected members like KEY.00000.jpg, KEY.00000.png and KEY.json, found "
            f"{example}; rename the members"
        )
    statistics["skipped"] = len(skipped)
    count(skipped=len(skipped))
    sidecar = Sidecar(
        shard=name,
        bytes=size,
        sha256=digest,
        config_hash=config_hash(_CONFIG),
        index=tuple(index.values()),
        statistics=dict(statistics),
        skipped=tuple(skipped),
    )
    write_whole(folder / sidecar_name(name), sidecar.to_json(), sync=True)
    return ShardSummary.of(sidecar)


def _samples(file: BinaryIO, path: Path, skipped: list[Skipped]) -> dict[str, Places]:
    """Return the members of each sample in tar order; add those with other names to ``skipped``."""
    samples: dict[str, Places] = {}
    last = ""
    for member in scan_tar(file, str(path)):
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise ShardError(
                f"{path}: member {member.name!r} at byte {member.offset} would leave the folder "
                "that it is extracted to; do not use this tar"
            )
        match = _MEMBER.fullmatch(member.name)
        if match is None:
            skipped.append(Skipped(f"{path.name}: {member.name}", _FOREIGN))
            continue
        key, suffix = match.groups()
        where = f"{path}, sample {key}"
        if key in samples and key != last:
            raise ShardError(
                f"{where}: its members do not stand together in the tar: webdataset would read two "
                "samples; make the tar again, sorted by name (tar --sort=name)"
            )
        last = key
        places = samples.setdefault(key, {})
        if suffix in places:
            raise ShardError(
                f"{where}: {suffix} occurs twice, again at byte {member.offset}; remove one"
            )
        if member.size > _MOST_BYTES:
            raise ShardError(
                f"{where}: {suffix} at byte {member.offset} has {member.size} bytes, more than "
                f"the {_MOST_BYTES} of any frame or mask; make it smaller"
            )
        places[suffix] = member.offset, member.size
    return samples


def _record(
    file: BinaryIO, path: Path, key: str, places: Places, skipped: list[Skipped]
) -> tuple[SampleIndex, SampleRecord]:
    """Return a sample's index entry, and its record: the tar's own, or one from the images."""
    where = f"{path}, sample {key}"
    own = _read(file, places["json"]) if "json" in places else b""
    if b'"sample_key"' in own:
        try:
            record = SampleRecord.from_json(own, where)
        except ShardError as error:
            raise ShardError(
                f"{error} if stm wrote this tar, else rename sample_key in it"
            ) from None
        if record.sample_key != key or {*record.images(), "json"} != set(places):
            raise ShardError(
                f"{where}: its record names other members than the tar has; add the members, or "
                "remove the record"
            )
        return SampleIndex(key, places, _crcs(file, places)), record
    if places.pop("json", None) is not None:
        skipped.append(Skipped(f"{path.name}: {key}.json", "record of another kind"))
    readers = {suffix: partial(_read, file, place) for suffix, place in places.items()}
    record = _derive_record(key, readers, where, {"shard": path.name})
    return SampleIndex(key, places, _crcs(file, places), record), record


def _derive_record(
    key: str, images: Mapping[str, Callable[[], bytes]], where: str, origin: Mapping[str, Any]
) -> SampleRecord:
    """Derive a record: sizes from the JPEG headers, ids and areas from the decoded masks.

    ``images`` are the functions that read ``FRAME.jpg`` and ``FRAME.png``.
    """
    frames = [suffix[:-4] for suffix in images if suffix.endswith(".jpg")]
    # In time order: by number if all names are numbers (2 before 10), else as text.
    numbered = all(name.isdigit() for name in frames)
    frames.sort(key=lambda name: (int(name) if numbered else 0, name))
    masks = [name for name in frames if f"{name}.png" in images]
    lonely = {s[:-4] for s in images if s.endswith(".png")}.difference(frames)
    if not frames or lonely:
        what = f"mask {min(lonely)}.png has no frame" if lonely else "it has no frame"
        raise ShardError(f"{where}: {what}; every sample needs KEY.FRAME.jpg members")
    sizes = {}
    for name in frames:
        place = f"{where}, {name}.jpg"
        sizes[f"{name}.jpg"] = frame_size(images[f"{name}.jpg"](), place)
    counts = {}
    for name in masks:
        mask = decode_mask(images[f"{name}.png"](), f"{where}, {name}.png")
        sizes[f"{name}.png"] = (mask.shape[0], mask.shape[1])
        counts[name] = areas(mask)
    first, size = next(iter(sizes.items()))
    for name, other in sizes.items():
        if other != size:
            raise DataError(
                f"{where}: {name} has (height, width) {other}, {first} has {size}; all frames and "
                "masks of a sample must have one size"
            )
    record = SampleRecord.of(key, frames, counts, size=size, original_size=size, origin=origin)
    if not record.object_ids and any(count[VOID] for count in counts.values()):
        raise DataError(
            f"{where}: expected object ids in the masks, found only 0 and {VOID} (void); write "
            "the ids as pixel values"
        )
    return record


def _crcs(file: BinaryIO, places: Places) -> dict[str, int]:
    return {suffix: zlib.crc32(_read(file, place)) for suffix, place in places.items()}


def _read(file: BinaryIO, place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])
