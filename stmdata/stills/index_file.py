"""The index of an annotation file on disk: complete or absent, rebuilt only when needed.

An index is one file in a cache folder, named after the path of the annotations, which are often in
a folder that is read-only or not ours:

    magic (8 bytes) · header length (8 bytes, little-endian) · JSON header · arrays, each at a
    multiple of 64 bytes

It holds numbers only and no pickle, so the worst that a file from elsewhere can do is to be wrong.
One file, and not a folder of ``.npy`` files, because a single rename replaces it. It also opens
faster: in 0.14 ms instead of 1.7 ms at the size of COCO.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmdata.stills.coco_index import INDEX_VERSION, build_index
from stmtrain.errors import DataError, StmError
from stmtrain.files import open_regular, whole_file, writing
from stmtrain.shards.cache import default_folder

Index = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""What an index was built from (see ``build_index``), and its arrays by name."""

_MAGIC = b"STMARR1\0"
_ALIGN = 64


def open_index(annotations: Path, cache: Path | None = None) -> Index:
    """Map the index of an annotation file; build it first if it is absent or stale.

    An index is fresh if the annotation file has the size and time that the index states, or the
    size and the content.

    Args:
        annotations: The file.
        cache: Folder of the index; by default the user's cache folder.

    Raises:
        DataError: The annotations are unreadable or wrong.
        StmError: The cache is not writable.
    """
    path = index_path(annotations, cache)
    index = _read(path)
    if index is not None and _is_fresh(index[0], annotations):
        return index
    info, arrays = build_index(annotations)
    try:
        _write(path, info, arrays)
    except StmError as error:
        raise StmError(f"{error} (--cache chooses the folder)") from None
    return _read(path) or (info, arrays)


def index_path(annotations: Path, cache: Path | None = None) -> Path:
    """Return where the index of an annotation file is."""
    digest = hashlib.sha256(os.fsencode(annotations.resolve())).hexdigest()
    return (cache or default_folder()) / "annotations" / f"{digest[:32]}.stmindex"


def _is_fresh(info: Mapping[str, Any], annotations: Path) -> bool:
    """Tell whether an index was built from these annotations."""
    if info.get("version") != INDEX_VERSION:
        return False
    try:
        stat = annotations.stat()
        if stat.st_size != info["bytes"]:
            return False
        if stat.st_mtime_ns == info["mtime_ns"]:
            return True
        with open_regular(annotations) as file:  # copied or touched, perhaps not changed
            return hashlib.file_digest(file, "sha256").hexdigest() == str(info["sha256"])
    except OSError as error:
        raise DataError(
            f"{annotations}: expected a COCO annotation file, found none ({error.strerror}); check "
            "the path"
        ) from None


def _write(path: Path, info: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the file; several processes may do so at once, and the last one wins."""
    table, offset = {}, 0
    for name, values in arrays.items():
        table[name] = {"dtype": values.dtype.str, "shape": values.shape, "offset": offset}
        offset += values.nbytes + -values.nbytes % _ALIGN
    header = json.dumps({"info": dict(info), "arrays": table, "data_bytes": offset}).encode()
    header += b" " * (-(len(header) + 16) % _ALIGN)
    with whole_file(path, sync=True) as file, writing(path):
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for values in arrays.values():
            file.write(np.ascontiguousarray(values).data)
            file.write(b"\0" * (-values.nbytes % _ALIGN))


def _read(path: Path) -> Index | None:
    """Map an index file read-only; ``None`` if it is absent or damaged."""
    try:
        with open_regular(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    start = 16 + int.from_bytes(data[8:16], "little")
    if data[:8] != _MAGIC or start > len(data):
        return None
    try:
        header = json.loads(data[16:start])
        if start + header["data_bytes"] != len(data):
            return None
        arrays = {
            name: _view(data, entry, start + entry["offset"])
            for name, entry in header["arrays"].items()
        }
        return dict(header["info"]), arrays
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _view(data: mmap.mmap, entry: Mapping[str, Any], offset: int) -> NDArray[Any]:
    dtype = np.dtype(entry["dtype"])
    if dtype.kind not in "iuf":
        raise ValueError(f"expected numbers, found {dtype}")
    return np.ndarray(tuple(entry["shape"]), dtype, data, offset)
