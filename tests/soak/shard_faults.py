"""Damage to a shard set, of every kind that files suffer.

A set is a mapping from file names to bytes; a fault is a pure function of it and a generator.
:mod:`tests.soak.shard_outcome` observes what each one leads to.
"""

import json
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.random import Generator

from stmdata.packing.tar import padded
from stmtrain.errors import StmError
from stmtrain.images.decode import decode_frame
from stmtrain.shards.sample import sidecar_name

__all__ = ["FAULTS", "Files", "lay_out", "load", "pick_file", "with_other_pixels"]

Files = dict[str, bytes]
Damage = Callable[[Files, str, Generator], Files]
BLOCK = tarfile.BLOCKSIZE


def load(folder: Path) -> Files:
    """Read a set's files."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def lay_out(folder: Path, there: Files, wanted: Files) -> None:
    """Turn a folder that holds ``there`` into one that holds ``wanted``."""
    for name in there.keys() - wanted.keys():
        (folder / name).unlink()
    for name, data in wanted.items():
        if there.get(name) != data:
            (folder / name).write_bytes(data)


def pick_file(files: Files, target: str, rng: Generator) -> str:
    """Pick a file of a kind: ``tar``, ``sidecar``, ``manifest`` or ``config``."""
    tars = [name for name in files if name.endswith(".tar")]
    named = {"tar": tars, "sidecar": [sidecar_name(name) for name in tars]}
    names = named.get(target, [f"{target}.json"])
    return names[int(rng.integers(len(names)))]


def _position(data: bytes, rng: Generator) -> int:
    return int(rng.integers(len(data)))


def _changed(files: Files, name: str, data: bytes) -> Files:
    return {**files, name: data}


def flip_bit(files: Files, name: str, rng: Generator) -> Files:
    """Flip one bit at any position."""
    data = bytearray(files[name])
    data[_position(data, rng)] ^= 1 << int(rng.integers(8))
    return _changed(files, name, bytes(data))


def change_byte(files: Files, name: str, rng: Generator) -> Files:
    """Change one byte to any other value."""
    data = bytearray(files[name])
    at = _position(data, rng)
    data[at] = (data[at] + int(rng.integers(1, 256))) % 256
    return _changed(files, name, bytes(data))


def zero_block(files: Files, name: str, rng: Generator) -> Files:
    """Lose one block of the disk: 512 zero bytes, aligned."""
    data = bytearray(files[name])
    at = _position(data, rng) // BLOCK * BLOCK
    data[at : at + BLOCK] = bytes(len(data[at : at + BLOCK]))
    return _changed(files, name, bytes(data))


def cut(files: Files, name: str, rng: Generator) -> Files:
    """Truncate the file at any position."""
    return _changed(files, name, files[name][: _position(files[name], rng)])


def cut_between_members(files: Files, name: str, rng: Generator) -> Files:
    """Truncate a tar where a member begins; tar and webdataset take that for its end."""
    starts = _headers(files[name])
    return _changed(files, name, files[name][: starts[int(rng.integers(len(starts)))]])


def flip_header(files: Files, name: str, rng: Generator) -> Files:
    """Flip one bit in a tar header."""
    data, starts = bytearray(files[name]), _headers(files[name])
    at = starts[int(rng.integers(len(starts)))] + int(rng.integers(BLOCK))
    data[at] ^= 1 << int(rng.integers(8))
    return _changed(files, name, bytes(data))


def change_pixels(files: Files, name: str, rng: Generator) -> Files:
    """Change one byte of a JPEG in a tar so that it decodes without an error, to other pixels."""
    data = bytearray(files[name])
    starts = [at for at in _headers(files[name])[:-1] if _name(data, at).endswith(".jpg")]
    if not starts:
        return flip_bit(files, name, rng)
    at = starts[int(rng.integers(len(starts)))]
    start, stop = at + BLOCK, at + BLOCK + _size(data, at)
    data[start:stop] = with_other_pixels(bytes(data[start:stop]), rng)
    return _changed(files, name, bytes(data))


def with_other_pixels(jpeg: bytes, rng: Generator) -> bytes:
    """Change one byte so that a JPEG still decodes, to other pixels."""
    right = decode_frame(jpeg, "right")
    while True:
        at = _position(jpeg, rng)
        changed = jpeg[:at] + bytes([jpeg[at] ^ 1 << int(rng.integers(8))]) + jpeg[at + 1 :]
        try:
            pixels = decode_frame(changed, "changed")
        except StmError:
            continue
        if pixels.shape == right.shape and (pixels != right).any():
            return changed


def drop_member(files: Files, name: str, rng: Generator) -> Files:
    """Remove a member from a tar."""
    data, starts = files[name], _headers(files[name])
    if len(starts) < 2:
        return append(files, name, rng)
    i = int(rng.integers(len(starts) - 1))
    return _changed(files, name, data[: starts[i]] + data[starts[i + 1] :])


def repeat_member(files: Files, name: str, rng: Generator) -> Files:
    """Put a member into a tar twice."""
    data, starts = files[name], _headers(files[name])
    if len(starts) < 2:
        return append(files, name, rng)
    i = int(rng.integers(len(starts) - 1))
    return _changed(files, name, data[: starts[i + 1]] + data[starts[i] :])


def swap_blocks(files: Files, name: str, rng: Generator) -> Files:
    """Exchange two blocks of 512 bytes."""
    data = bytearray(files[name])
    a, b = (_position(data, rng) // BLOCK * BLOCK for _ in range(2))
    if len(data) < max(a, b) + BLOCK:
        return flip_bit(files, name, rng)
    data[a : a + BLOCK], data[b : b + BLOCK] = data[b : b + BLOCK], data[a : a + BLOCK]
    return _changed(files, name, bytes(data))


def append(files: Files, name: str, rng: Generator) -> Files:
    """Append bytes, or the complete file once more."""
    more = rng.bytes(int(rng.integers(1, 2000))) if rng.random() < 0.5 else files[name]
    return _changed(files, name, files[name] + more)


def insert(files: Files, name: str, rng: Generator) -> Files:
    """Insert bytes at any position."""
    at = _position(files[name], rng)
    more = rng.bytes(int(rng.integers(1, 600)))
    return _changed(files, name, files[name][:at] + more + files[name][at:])


def delete(files: Files, name: str, rng: Generator) -> Files:
    """Remove a few bytes."""
    at = _position(files[name], rng)
    return _changed(files, name, files[name][:at] + files[name][at + int(rng.integers(1, 600)) :])


def change_number(files: Files, name: str, rng: Generator) -> Files:
    """Change one number in a JSON file, which stays JSON."""
    spots = list(re.finditer(rb"(?<![\w.])-?\d+(?![\w.])", files[name]))
    spot = spots[int(rng.integers(len(spots)))]
    values = [int(spot[0]) + 1, int(spot[0]) - 1, -1, 0, 10**12, 10**400]
    value = str(values[int(rng.integers(len(values)))]).encode()
    data = files[name]
    return _changed(files, name, data[: spot.start()] + value + data[spot.end() :])


def change_shape(files: Files, name: str, rng: Generator) -> Files:
    """Replace a value in a JSON file by one of another type."""
    value = json.loads(files[name])
    strange: list[Any] = [None, True, -1, 1e308, "x", [], {}, [None], {"key": 1}, "\ud800"]
    holder: Any = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[int(rng.integers(len(keys)))]
        if not isinstance(holder[key], dict | list) or not holder[key] or rng.random() < 0.3:
            holder[key] = strange[int(rng.integers(len(strange)))]
            return _changed(files, name, json.dumps(value).encode())
        holder = holder[key]


def empty(files: Files, name: str, rng: Generator) -> Files:  # noqa: ARG001
    """Leave an empty file."""
    return _changed(files, name, b"")


def remove(files: Files, name: str, rng: Generator) -> Files:  # noqa: ARG001
    """Lose the file."""
    return {other: data for other, data in files.items() if other != name}


def rename(files: Files, name: str, rng: Generator) -> Files:
    """Give the file a new name."""
    return {**remove(files, name, rng), f"renamed-{name}": files[name]}


def copy(files: Files, name: str, rng: Generator) -> Files:  # noqa: ARG001
    """Add a copy next to it, as file managers do."""
    return {**files, f"copy-{name}": files[name]}


def swap(files: Files, name: str, rng: Generator) -> Files:
    """Exchange the file with another of its kind."""
    other = _sibling(files, name, rng)
    return {**files, name: files[other], other: files[name]}


def overwrite(files: Files, name: str, rng: Generator) -> Files:
    """Copy another file of its kind over it."""
    return {**files, name: files[_sibling(files, name, rng)]}


def swap_shards(files: Files, name: str, rng: Generator) -> Files:
    """Exchange two shards, each with its sidecar."""
    other = _sibling(files, name, rng)
    a, b = sidecar_name(name), sidecar_name(other)
    return {**files, name: files[other], other: files[name], a: files[b], b: files[a]}


def rename_shard(files: Files, name: str, rng: Generator) -> Files:
    """Give a shard and its sidecar a new name."""
    return rename(rename(files, name, rng), sidecar_name(name), rng)


def _sibling(files: Mapping[str, bytes], name: str, rng: Generator) -> str:
    """Pick another file with the same suffix."""
    others = [n for n in files if n != name and n.endswith(name[-4:])]
    return others[int(rng.integers(len(others)))]


def _headers(data: bytes) -> list[int]:
    """Return the positions of the members' headers and of the end mark."""
    starts, at = [], 0
    while data[at : at + 1] != b"\0":
        starts.append(at)
        at += BLOCK + padded(_size(data, at))
    return [*starts, at]


def _size(data: bytes | bytearray, header: int) -> int:
    return int(data[header + 124 : header + 135], 8)


def _name(data: bytes | bytearray, header: int) -> str:
    return data[header : header + 100].rstrip(b"\0").decode()


_ANY: tuple[Damage, ...] = (
    flip_bit, change_byte, zero_block, cut, append, insert, delete, empty, remove, rename, copy,
    swap, overwrite,
)  # fmt: skip
_TAR: tuple[Damage, ...] = (
    cut_between_members, flip_header, change_pixels, drop_member, repeat_member, swap_blocks,
    swap_shards, rename_shard,
)  # fmt: skip
_JSON: tuple[Damage, ...] = (change_number, change_shape)
FAULTS: dict[str, tuple[Damage, ...]] = {
    "tar": _ANY + _TAR,
    "sidecar": _ANY + _JSON,
    "manifest": _ANY + _JSON,
    "config": _ANY + _JSON,
}
"""Per kind of file, what can happen to it."""
