"""The tar format: the headers that stm writes, and a strict walk through an untrusted tar.

Only what a shard may contain is accepted: regular files (and folders, which have no content) in the
USTAR, GNU or PAX dialect. ``tarfile`` would also accept links, sparse maps and names of any length,
and takes a damaged header for the end; here each of these is an error that names its byte.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stmtrain.errors import ShardError
from stmtrain.files import refuse_lfs_pointer

BLOCK = tarfile.BLOCKSIZE
_EMPTY = bytes(BLOCK)
_MOST_EXTENDED = 1 << 16
"""Largest extended (PAX) header that is read, bytes; webdataset's have under 100."""
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gzip -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
}
"""First bytes of compressed files, with the tool that decompresses them."""
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"L": "a long name",
    b"K": "a long link name",
    b"S": "a sparse file",
}


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: its name without a leading ``./``, where its data is, bytes."""

    name: str
    offset: int
    size: int


def header_bytes(name: str, size: int) -> bytes:
    """Return the header block that stm writes for a member: USTAR, mode 0644, no owner, no time.

    Raises:
        ValueError: The name or size does not fit.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padded(size: int) -> int:
    """Round the size of a member up to complete blocks, bytes."""
    return -(-size // BLOCK) * BLOCK


def tar_size(end: int) -> int:
    """Return the size of a tar that stm writes with members up to byte ``end``, bytes."""
    return -(-(end + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def scan_tar(file: BinaryIO, where: str, start: int = 0) -> Iterator[Member]:
    """Yield the members of a tar in order, without reading their data.

    At byte ``start``, a member or the end mark begins. Messages call the tar ``where``.

    Raises:
        DataError: It is a Git LFS pointer.
        ShardError: It is compressed; or a damaged header, a link or another kind of member, a
            member that goes beyond the end of the file, a missing end mark, or anything but zeros
            after it.
    """
    size = os.fstat(file.fileno()).st_size
    if start == 0:
        _refuse_other_format(file, where)
    byte = start
    while True:
        block = _read(file, byte, where)
        if block == _EMPTY:
            break
        kind, length = _check_header(block, byte, where)
        offset, byte = byte + BLOCK, byte + BLOCK + padded(length)
        if byte > size:
            raise ShardError(
                f"{where}: member {_name(block)!r} at byte {offset} has {length} bytes, but "
                f"the file ends at byte {size}; it is cut short, copy or make it again"
            )
        if kind in (b"x", b"g"):
            _check_extended(file, offset, length, where)
            continue
        if kind != b"5":
            yield Member(_name(block), offset, length)
    _check_end(file, byte, where)


def _refuse_other_format(file: BinaryIO, where: str) -> None:
    """Refuse a compressed tar, whatever its name, and what Git LFS leaves in its place."""
    file.seek(0)
    begins = file.read(BLOCK)
    refuse_lfs_pointer(begins, Path(where))
    for magic, (kind, command) in _COMPRESSED.items():
        if begins.startswith(magic):
            raise ShardError(
                f"{where}: is a tar compressed with {kind}; shards are read by byte ranges, which "
                f"needs plain tars: {command} < FILE > PLAIN.tar"
            )


def _read(file: BinaryIO, byte: int, where: str) -> bytes:
    file.seek(byte)
    block = file.read(BLOCK)
    if len(block) != BLOCK:
        raise ShardError(
            f"{where}: expected a member or the end mark at byte {byte}, found the end of the "
            "file; it is cut short, copy or make it again"
        )
    return block


def _check_header(block: bytes, byte: int, where: str) -> tuple[bytes, int]:
    """Check a header block; return its type flag and the size of its data, bytes."""
    where = f"{where}: header at byte {byte}"
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _octal(block[148:156]) != total:
        raise ShardError(f"{where} is damaged (its checksum is wrong); copy or make the tar again")
    size, kind = _octal(block[124:136]), block[156:157]
    if size is None:
        raise ShardError(f"{where}: the size {block[124:136]!r} is not an octal number")
    if kind == b"5" and size:
        raise ShardError(f"{where}: a folder cannot have {size} bytes")
    if kind not in (b"0", b"\0", b"5", b"x", b"g"):
        what = _KINDS.get(kind, f"of type {kind!r}")
        raise ShardError(
            f"{where}: {_name(block)!r} is {what}; a shard contains plain files only, make the "
            "tar again"
        )
    return kind, size


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        return None
    return int(digits, 8)


def _name(block: bytes) -> str:
    """Return the name in a header block; bytes outside ASCII become escapes."""
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    text = b"/".join(part for part in (prefix, name) if part).decode("ascii", "backslashreplace")
    return text.removeprefix("./")


def _check_extended(file: BinaryIO, offset: int, length: int, where: str) -> None:
    """Refuse extended headers that state more than times and owners."""
    where = f"{where}: extended header at byte {offset - BLOCK}"
    if length > _MOST_EXTENDED:
        raise ShardError(f"{where} has {length} bytes; a shard needs none, make the tar again")
    file.seek(offset)
    data = file.read(length)
    while data:
        digits, _, rest = data.partition(b" ")
        count = int(digits) if digits.isdigit() and len(digits) <= 5 else 0
        field = rest[: count - len(digits) - 1]
        if not len(digits) + 2 < count <= len(data) or field[-1:] != b"\n":
            raise ShardError(f"{where} is damaged")
        key = field.partition(b"=")[0].decode("ascii", "backslashreplace")
        if key in ("path", "linkpath", "size", "hdrcharset") or key.startswith("GNU.sparse"):
            raise ShardError(
                f"{where} sets {key!r}; a shard's names and sizes fit a plain header, make the tar "
                "again"
            )
        data = data[count:]


def _check_end(file: BinaryIO, byte: int, where: str) -> None:
    """Check that only zeros follow, at least the two blocks of the end mark."""
    found = 0
    file.seek(byte)
    while chunk := file.read(1 << 20):
        rest = chunk.lstrip(b"\0")
        if rest:
            raise ShardError(
                f"{where}: the end mark is at byte {byte}, but something follows at byte "
                f"{byte + found + len(chunk) - len(rest)}, which readers would never see; make one "
                "tar of all files, or join tars with tar -A"
            )
        found += len(chunk)
    if found < 2 * BLOCK:
        raise ShardError(
            f"{where}: the end mark at byte {byte} is cut short; copy or make the tar again"
        )
