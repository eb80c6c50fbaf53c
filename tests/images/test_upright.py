"""Pictures as annotation tools show them: upright, and with 8 bits."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stmtrain.errors import DataError
from stmtrain.images.decode import decode_still
from stmtrain.images.upright import to_8_bits
from tests.images.test_decode import png
from tests.profiles import examples

KINDS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}


def picture(height, width):
    """Draw a picture that differs in all four corners."""
    y, x = np.mgrid[0:height, 0:width]
    grid = np.stack([x * 250 / width, y * 250 / height, 0 * x + 80], -1)
    return grid.astype(np.uint8)


def save(image, kind, orientation=None):
    out, options = io.BytesIO(), dict(KINDS[kind])
    if orientation is not None:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    image.save(out, kind, **options)
    return out.getvalue()


def same(found, expected):
    return found.shape == expected.shape and abs(found.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_it_was_annotated(kind, orientation):
    stored = picture(24, 40)
    data = save(Image.fromarray(stored), kind, orientation)
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    for size in (None, upright.shape[:2]):
        found = decode_still(data, "", size)
        assert same(found, upright)
        assert found.flags.c_contiguous
    if upright.shape != stored.shape:  # only the picture as stored has the annotated size
        assert same(decode_still(data, "", (24, 40)), stored)


@pytest.mark.parametrize("kind", KINDS)
def test_where_no_way_fits_the_orientation_is_named(kind):
    data = save(Image.fromarray(picture(24, 40)), kind, 6)
    message = r"^a: expected 40x30 pixels like b.png, found 40x24 .*EXIF orientation 6.*24x40"
    with pytest.raises(DataError, match=message):
        decode_still(data, "a", (30, 40), like="b.png")
    with pytest.raises(DataError, match=r"^a: expected 40x30 .*, found 40x24; "):
        decode_still(save(Image.fromarray(picture(24, 40)), kind), "a", (30, 40))


@given(st.binary(max_size=60) | st.integers(-5, 300))
@examples(40)
def test_damaged_exif_data_counts_as_none(exif):
    out, stored = io.BytesIO(), picture(9, 16)
    block = Image.Exif()
    if isinstance(exif, int):
        block[0x0112] = exif if exif > 8 or exif < 1 else 1
        exif = block.tobytes()[6:]
    Image.fromarray(stored).save(out, "JPEG", quality=95, exif=b"Exif\0\0" + exif)
    assert decode_still(out.getvalue(), "").shape == stored.shape


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "float"])
@pytest.mark.parametrize("top", [300, 4095, 65535])
def test_more_than_8_bits_are_scaled_by_their_range(kind, top):
    grey = (np.arange(40)[None] * np.ones((24, 1)) * top / 39).astype(np.uint16)
    image = Image.fromarray(grey.astype(np.float32) if kind == "float" else grey)
    data = save(image, "PNG" if kind == "PNG" else "TIFF")
    found = decode_still(data, "")
    assert (found.min(), found.max()) == (0, 255)
    assert abs(found[..., 0] / 255 - grey / top).max() < 0.01
    with pytest.raises(DataError, match=r"^a: expected 8 bits per channel in a frame"):
        decode_still(data, "a", scale=False)


def test_values_that_are_no_numbers_do_not_decide_the_scale():
    values = np.array([[np.nan, -np.inf, np.inf, -1.0, 1.0]], np.float32)
    assert to_8_bits(values).tolist() == [[0, 0, 255, 0, 255]]
    assert not to_8_bits(np.full((2, 2), np.nan, np.float32)).any()
    assert not to_8_bits(np.full((2, 2), 7, np.uint16)).any()


@pytest.mark.parametrize("bits", [12, 14, 16])
def test_colours_of_16_bits_are_not_turned_black(bits):
    rgb = (picture(24, 40).astype(np.uint16) + 5) << (bits - 8)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    data = png(40, 24, rows, depth=16, colour=2)
    if bits == 16:
        np.testing.assert_array_equal(decode_still(data, ""), rgb >> 8)
    else:
        with pytest.raises(DataError, match=r"^a: .* found only dark ones, .*; scale the image"):
            decode_still(data, "a")
