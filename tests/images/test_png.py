"""The PNG reader: headers of all kinds, and only what it can decode is decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stmtrain.images.encode import encode_mask
from stmtrain.images.png import PngHeader, png_header, read_plain_png

MASK = np.arange(35, dtype=np.uint8).reshape(5, 7)
PLAIN = encode_mask(MASK)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def grey(rows, width=7, height=5, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


ROWS = b"".join(b"\0" + row.tobytes() for row in MASK)


def test_the_header_tells_size_and_palette():
    assert png_header(PLAIN) == png_header(PLAIN[:26]) == PngHeader(5, 7, palette=True)
    assert png_header(grey(ROWS)) == PngHeader(5, 7, palette=False)
    for wrong in (PLAIN[:25], b"", b"\xff\xd8" + PLAIN, PLAIN.replace(b"IHDR", b"IDAT", 1)):
        assert png_header(wrong) is None


def test_pixels_are_read_and_what_follows_the_end_is_ignored():
    for data in (PLAIN, grey(ROWS), grey(ROWS, extra=chunk(b"tIME", bytes(7))), PLAIN + b"more"):
        np.testing.assert_array_equal(read_plain_png(data, 35), MASK)


def test_what_is_not_plain_is_left_to_pillow():
    out = io.BytesIO()
    Image.fromarray(np.dstack([MASK] * 3)).save(out, "PNG")
    for other in (b"GIF89a", out.getvalue(), grey(ROWS, extra=chunk(b"gAMA", bytes(4)))):
        assert read_plain_png(other, 35) is None
    header = PLAIN[8:33]
    assert read_plain_png(PLAIN[:8] + header + PLAIN[8:], 35) is None  # two headers
    assert read_plain_png(PLAIN, 34) is None
    for mixed in (b"\3", b"\4", b"\5", b"\xff"):  # Average, Paeth, and what does not exist
        assert read_plain_png(grey(mixed + ROWS[1:]), 35) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PLAIN[:-1], "cut short"),
        (PLAIN[:40], "cut short"),
        (PLAIN[:8], "cut short"),
        (PLAIN[:32], "cut short"),  # within a checksum
        (PLAIN[:-1] + b"\0", "checksum"),
        (grey(ROWS[:-1]), "does not contain the 40 bytes"),
        (grey(ROWS + b"\0"), "does not contain the 40 bytes"),
        (grey(ROWS).replace(b"\x78\x9c", b"\x79\x9c"), "checksum"),
    ],
)
def test_damage_is_an_error(data, message):
    with pytest.raises(ValueError, match=message):
        read_plain_png(data, 1000)


@pytest.mark.parametrize("start", [b"\x79\x18", b"\x88\x1c", b"\x78\x9d", b"\x78\xbb", b"\x78"])
def test_a_wrong_zlib_header_is_an_error(start):
    body = start + zlib.compress(ROWS)[len(start) :] if len(start) == 2 else start
    header = struct.pack(">IIBBBBB", 7, 5, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body)
    with pytest.raises(ValueError, match="no pixels"):
        read_plain_png(data + chunk(b"IEND", b""), 1000)
