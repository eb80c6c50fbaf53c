"""One shard: a plain USTAR tar, hashed and indexed while it is written, then its sidecar.

Standard library only: webdataset's writer would bring torch into the offline side
(``docs/decisions/0002-tar-writer.md``).
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path
from typing import BinaryIO

from stmdata.packing.tar import header_bytes, padded, tar_size
from stmtrain.errors import ShardError
from stmtrain.files import whole_file, write_whole, writing
from stmtrain.processes import count
from stmtrain.shards.manifest import STATISTICS, SampleIndex, Sidecar
from stmtrain.shards.sample import Sample, Skipped, sidecar_name


def write_shard(path: Path, samples: Iterable[Sample | Skipped], config_hash: str) -> Sidecar:
    """Write the tar ``path`` and then its sidecar; each file is complete or absent.

    The order of ``samples`` is that of the tar; the sidecar, which is returned, lists what was
    skipped and contains the ``config_hash`` of the set.

    Raises:
        ShardError: Two samples share a key, a sample contradicts its record, or a member does not
            fit the format.
        StmError: The disk is full, or the folder is not writable.
    """
    index: dict[str, SampleIndex] = {}
    skipped: list[Skipped] = []
    statistics = Counter(dict.fromkeys(STATISTICS, 0))
    with whole_file(path, sync=True) as file:
        tar = _TarStream(file, path)
        for sample in samples:
            if isinstance(sample, Skipped):
                skipped.append(sample)
                statistics["skipped"] += 1
                count(skipped=1)
                continue
            key = sample.record.sample_key
            _check(sample, f"{path.name}, sample {key}", index)
            members = sample.members()
            places = {suffix: tar.add(f"{key}.{suffix}", data) for suffix, data in members}
            crcs = {suffix: zlib.crc32(data) for suffix, data in members}
            index[key] = SampleIndex(key, places, crcs)
            statistics.update(index[key].statistics(sample.record))
            count(samples=1)
        tar.finish()
    sidecar = Sidecar(
        shard=path.name,
        bytes=tar.size,
        sha256=tar.hash.hexdigest(),
        config_hash=config_hash,
        index=tuple(index.values()),
        statistics=dict(statistics),
        skipped=tuple(skipped),
    )
    write_whole(path.with_name(sidecar_name(path.name)), sidecar.to_json(), sync=True)
    return sidecar


def _check(sample: Sample, where: str, used: Container[str]) -> None:
    if sample.record.sample_key in used:
        raise ShardError(f"{where}: this key occurs twice; keys must differ, rename one input")
    for kind, have, want in (
        ("frames", set(sample.frames), set(sample.record.frames)),
        ("masks", set(sample.masks), set(sample.record.mask_frames)),
    ):
        if have != want:
            raise ShardError(f"{where}: its record and its {kind} differ in {sorted(have ^ want)}")


class _TarStream:
    """A USTAR archive that is written from start to end; keeps its hash and size."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self.hash = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a member; return the offset and size of its data, bytes."""
        try:
            header = header_bytes(name, len(data))
        except ValueError as error:
            raise ShardError(
                f"{self._path.name}: member {name!r} of {len(data)} bytes does not fit a plain "
                f"tar ({error}); shorten the name or split the sample"
            ) from None
        self._write(header)
        offset = self.size
        self._write(data)
        self._write(bytes(padded(len(data)) - len(data)))
        return offset, len(data)

    def finish(self) -> None:
        """Write the end mark: two empty blocks, padded to a complete tar record as tar does."""
        self._write(bytes(tar_size(self.size) - self.size))

    def _write(self, data: bytes) -> None:
        with writing(self._path):
            self._file.write(data)
        self.hash.update(data)
        self.size += len(data)
