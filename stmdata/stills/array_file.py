"""A file of named numpy arrays behind a JSON header: written whole or not at all, memory-mapped.

    magic (8 bytes) · header length (8 bytes, little-endian) · JSON header · arrays, each at a
    multiple of 64 bytes

Numbers only and no pickle, so that a file from elsewhere can at worst be wrong.
"""

import json
import mmap
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["map_arrays", "write_arrays"]

_MAGIC = b"STMARR1\0"
_ALIGN = 64


def write_arrays(path: Path, info: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write beside the target, flush to disk, rename: a file that exists is complete.

    Two processes may do so at once; each writes its own file and the last rename wins.

    Args:
        path: The target; replaced if it exists.
        info: JSON values to keep in the header.
        arrays: Integer or float arrays by name.

    Raises:
        OSError: The folder is not writable or full; nothing is left behind.
    """
    table, offset = {}, 0
    for name, values in arrays.items():
        table[name] = {"dtype": values.dtype.str, "shape": values.shape, "offset": offset}
        offset += values.nbytes + -values.nbytes % _ALIGN
    header = json.dumps({"info": dict(info), "arrays": table, "data_bytes": offset}).encode()
    header += b" " * (-(len(header) + 16) % _ALIGN)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
            for values in arrays.values():
                file.write(np.ascontiguousarray(values).data)
                file.write(b"\0" * (-values.nbytes % _ALIGN))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def map_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Map a file read-only; return (info, arrays by name), or ``None`` if absent or not whole."""
    try:
        with path.open("rb") as file:
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
