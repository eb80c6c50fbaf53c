"""PNG headers, and a reader for label maps, five times as fast as Pillow.

Label maps have one byte per pixel (palette or grey), no interlacing, and rows without a filter (as
we write them) or with Sub (as OpenCV and DAVIS do) or Up. Other PNGs are left to Pillow. The CRC of
every chunk is checked for all PNGs, which Pillow does not do for the pixels. Used by ``decode.py``,
which is the decoder for all other modules. Free of torch.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from zlib_ng import zlib_ng as inflate  # five times as fast
except ImportError:  # not CPython, or no wheel for the platform
    import zlib as inflate  # type: ignore[no-redef]

_InflateError: type[Exception] = inflate.error  # type: ignore[assignment]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN = {b"IHDR", b"PLTE", b"tRNS", b"tIME", b"IDAT", b"IEND"}  # none changes the indices
_GREY, _PALETTE = 0, 3
_NONE, _SUB, _UP = 0, 1, 2  # row filters; Average and Paeth need every pixel in turn


class PngHeader(NamedTuple):
    """Size of a PNG in pixels, and whether its pixels are palette indices."""

    height: int
    width: int
    palette: bool


def png_header(data: bytes) -> PngHeader | None:
    """Read the header of a PNG from its first 26 bytes; return None for anything else."""
    if len(data) < 26 or not data.startswith(_SIGNATURE) or data[12:16] != b"IHDR":
        return None
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    return PngHeader(height, width, colour == _PALETTE)


def read_plain_png(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Decode a PNG with one byte per pixel, and no filter that mixes directions.

    At most ``height * (width + 1)`` bytes are inflated, as the header states, so that a small file
    cannot fill the memory. The checksum of the zlib stream is not verified, because the CRC covers
    the same bytes.

    Args:
        data: Any bytes.
        max_pixels: Larger images are not decoded.

    Returns:
        (H, W) uint8 palette indices or grey levels, read-only if it is a view of the inflated
        bytes; None for any other kind of image, of which only the chunks, if it is a PNG, have been
        checked.

    Raises:
        ValueError: The PNG is cut short or damaged.
    """
    if not data.startswith(_SIGNATURE):
        return None
    chunks = list(_chunks(data))
    kinds = [kind for kind, _ in chunks]
    header = chunks[0][1]
    if kinds[0] != b"IHDR" or len(header) != 13 or not _PLAIN.issuperset(kinds):
        return None
    width, height, depth, colour, *methods = struct.unpack(">IIBBBBB", header)
    if depth != 8 or colour not in (_GREY, _PALETTE) or any(methods):
        return None
    if (colour == _PALETTE) != (b"PLTE" in kinds) or kinds.count(b"IHDR") > 1:
        return None
    if not 0 < width * height <= max_pixels:
        return None
    pixels = [body for kind, body in chunks if kind == b"IDAT"]
    rows = _inflate(pixels[0] if len(pixels) == 1 else b"".join(pixels), height * (width + 1))
    return _unfilter(np.frombuffer(rows, np.uint8).reshape(height, width + 1))


def _unfilter(rows: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Undo the filter that each row begins with; None if one is neither Sub nor Up."""
    filters, pixels = rows[:, 0], rows[:, 1:]
    if not filters.any():
        return pixels
    if filters.max() > _UP:
        return None
    out = np.empty(pixels.shape, np.uint8)
    starts = [0, *(np.flatnonzero(np.diff(filters)) + 1).tolist(), len(rows)]
    for start, stop in pairwise(starts):
        block, undone = pixels[start:stop], out[start:stop]
        if filters[start] == _SUB:
            np.add.accumulate(block, axis=1, dtype=np.uint8, out=undone)
            continue
        undone[:] = block
        if filters[start] == _UP:
            for y in range(max(start, 1), stop):
                out[y] += out[y - 1]
    return out


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (kind, body) up to the end chunk; later bytes are ignored."""
    view, start, kind = memoryview(data), len(_SIGNATURE), b""
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ValueError(f"PNG is cut short at byte {len(data)}")
        (size,) = struct.unpack_from(">I", data, start)
        end = start + 8 + size
        if end + 4 > len(data):
            raise ValueError(f"PNG is cut short at byte {len(data)}")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ValueError(f"PNG has a wrong checksum at byte {end}")
        yield kind, view[start + 8 : end]
        start = end + 4


def _inflate(stream: bytes | memoryview, size: int) -> bytes:
    """Inflate a zlib stream of exactly ``size`` bytes."""
    first, second = stream[:2] if len(stream) > 6 else (0, 0)
    # RFC 1950: deflate, a window of at most 32 kB, a valid header check, no preset dictionary.
    if first & 15 != 8 or first > 0x7F or (first << 8 | second) % 31 or second & 32:
        raise ValueError("PNG has no pixels that can be inflated")
    inflater = inflate.decompressobj(-zlib.MAX_WBITS)
    try:
        rows = inflater.decompress(stream[2:], size + 1)
    except _InflateError as error:
        raise ValueError(f"PNG cannot be inflated ({error})") from None
    if len(rows) != size or not inflater.eof:
        raise ValueError(f"PNG does not contain the {size} bytes of its size")
    return rows
