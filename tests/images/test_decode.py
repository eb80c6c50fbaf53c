"""Decoding: exactly what Pillow and libjpeg see, and damage is an error that says where."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from stmtrain.errors import DataError
from stmtrain.images import decode
from stmtrain.images.decode import (
    MAX_PIXELS,
    decode_frame,
    decode_mask,
    decode_still,
    decode_wide_mask,
    frame_size,
)
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.png import read_plain_png
from tests.profiles import examples

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
masks = arrays(np.uint8, shapes, elements=st.sampled_from([0, 1, 2, 7, 254, 255]))

LABELS = np.random.default_rng(0).integers(0, 9, (21, 34), dtype=np.uint8).repeat(3, axis=1)


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def save(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, rows, depth=8, colour=0, extra=b"", methods=(0, 0, 0), pieces=1):
    """Build a PNG by hand; ``rows`` are the bytes to deflate."""
    body = zlib.compress(rows)
    cut = -(-len(body) // pieces)
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, *methods)) + extra
    for start in range(0, len(body), cut):
        data += chunk(b"IDAT", body[start : start + cut])
    return data + chunk(b"IEND", b"")


# --- masks ----------------------------------------------------------------------------------------


@given(masks, st.integers(0, 9))
@examples(60)
def test_our_masks_come_back_without_pillow(mask, level):
    data = encode_mask(mask, level=level)
    np.testing.assert_array_equal(read_plain_png(data, MAX_PIXELS), mask)
    np.testing.assert_array_equal(decode_mask(data, ""), mask)
    padded = np.full((mask.shape[0] + 2, mask.shape[1] + 3), 9, np.uint8)
    out = padded[: mask.shape[0], : mask.shape[1]]  # with gaps, as in a batch of mixed sizes
    assert decode_mask(data, "", out) is out
    np.testing.assert_array_equal(out, mask)
    assert (padded[mask.shape[0] :] == 9).all()
    assert (padded[:, mask.shape[1] :] == 9).all()


@given(masks, st.sampled_from(["P", "L", "1", "LA"]), st.booleans(), st.sampled_from([1, 2, 4, 8]))
@examples(60)
def test_every_kind_of_mask_is_what_pillow_says(mask, mode, optimize, bits):
    image = Image.fromarray(mask)
    if mode == "P":
        image = Image.fromarray(mask & (2**bits - 1))
        image.putpalette(bytes(range(256)) * 3)
        data = save(image, bits=bits)
    else:
        data = save(image.convert(mode), optimize=optimize)
    expected = by_pillow(data)
    if mode == "LA":
        expected = expected[..., 0]
    if mode == "1":
        expected = expected * np.uint8(255)
    np.testing.assert_array_equal(decode_mask(data, ""), expected)


@given(st.lists(st.integers(0, 4), min_size=21, max_size=21), st.integers(1, 3))
@example([0] * 21, 3)
@example([0] * 20 + [2], 1)
@example([1] * 21, 1)
@example([2] * 21, 1)
@example([1, 2, 2, 0] * 5 + [1], 1)
@examples(60)
def test_row_filters_and_several_pieces(filters, pieces):
    rows = b"".join(bytes([f]) + row.tobytes() for f, row in zip(filters, LABELS, strict=True))
    data = png(LABELS.shape[1], LABELS.shape[0], rows, pieces=pieces)
    np.testing.assert_array_equal(decode_mask(data, ""), by_pillow(data))
    assert (read_plain_png(data, MAX_PIXELS) is None) == (max(filters) > 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_that_are_all_grey_are_grey_levels(mode):
    data = save(Image.fromarray(LABELS).convert(mode))
    np.testing.assert_array_equal(decode_mask(data, ""), LABELS)


def test_transparency_time_text_and_interlacing_change_no_id():
    image = Image.fromarray(LABELS)
    image.putpalette(bytes(range(256)) * 3)
    text = PngImagePlugin.PngInfo()
    text.add_text("who", "made this")
    variants = [save(image, transparency=0), save(image, pnginfo=text, dpi=(72, 72))]
    rows = b"".join(b"\0" + row.tobytes() for row in LABELS)
    time = chunk(b"tIME", bytes(7))
    variants.append(png(LABELS.shape[1], LABELS.shape[0], rows, extra=time))
    for data in variants:
        np.testing.assert_array_equal(decode_mask(data, ""), LABELS)


def test_interlaced_masks():
    """Adam7: seven coarse images, one after the other."""
    passes = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    coarse = [labels[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for image in coarse for row in image)
    data = png(8, 8, rows, methods=(0, 0, 1))
    np.testing.assert_array_equal(by_pillow(data), labels)
    np.testing.assert_array_equal(decode_mask(data, ""), labels)
    # As many bytes as without interlacing, in another order: a single column.
    column = png(1, 8, b"".join(b"\0" + bytes([v]) for v in range(8)), methods=(0, 0, 1))
    np.testing.assert_array_equal(decode_mask(column, ""), by_pillow(column))
    assert decode_mask(column, "")[:, 0].tolist() != list(range(8))


@given(st.data())
@examples(400)
def test_a_damaged_mask_is_an_error_or_unchanged(data):
    """Cut anywhere, or any byte changed: never other labels."""
    whole = encode_mask(LABELS)
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:at]
    else:
        damaged = bytearray(whole)
        damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_mask(bytes(damaged), "here")
    except DataError:
        return
    np.testing.assert_array_equal(found, LABELS)


@given(st.binary(max_size=200), st.booleans())
@example(b"", False)
@example(b"", True)
@examples(200)
def test_any_bytes_are_an_error_not_a_crash(body, signed):
    data = b"\x89PNG\r\n\x1a\n" + body if signed else body
    for function in (decode_mask, decode_frame, decode_still, frame_size):
        with pytest.raises(DataError, match=r"^here: "):
            function(data, "here")


@given(st.integers(0, 40), st.integers(0, 40), st.binary(max_size=900), st.sampled_from([0, 3]))
@examples(150)
def test_a_header_that_lies_about_its_pixels(width, height, rows, colour):
    data = png(width, height, rows, colour=colour)
    try:
        found = decode_mask(data, "here")
    except DataError:
        return
    assert found.shape == (height, width)
    np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (save(Image.new("RGB", (9, 9), "red")), "found mode RGB; save the mask as a palette PNG"),
        (save(Image.new("RGBA", (9, 9))), "found mode RGBA"),
        (save(Image.new("I;16", (9, 9))), "found mode I;16"),
        (png(9, 9, bytes(90))[:-16], "PNG is cut short at byte"),
        (png(9, 9, bytes(90))[:50], "PNG is cut short at byte 50"),
        (png(9, 9, bytes(89)), "does not contain the 90 bytes"),
        (png(9, 9, bytes(91)), "does not contain the 90 bytes"),
        (png(9, 9, bytes(90), extra=chunk(b"IDAT", b"\x78")), "no pixels that can be inflated"),
        (b"GIF89a", "found other data"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "found other data"),
        (encode_mask(LABELS).replace(b"IDAT", b"IDOT"), "wrong checksum at byte"),
    ],
)
def test_what_is_no_mask_is_named(data, message):
    with pytest.raises(DataError, match="^a.png: .*" + message):
        decode_mask(data, "a.png")


@pytest.mark.parametrize("colour", [0, 3, 2])
@pytest.mark.parametrize("size", [(65535, 65535), (2**31 - 1, 1), (8001, 8000)])
def test_a_size_that_would_fill_the_memory_is_refused(colour, size):
    with pytest.raises(DataError, match="exceeds"):
        decode_mask(png(*size, b"\0" * 99, colour=colour, extra=chunk(b"PLTE", bytes(3))), "a.png")


def test_a_bomb_is_inflated_no_further_than_its_header_says():
    bomb = png(8, 8, bytes(200_000_000))
    assert len(bomb) < 250_000
    tracemalloc.start()
    with pytest.raises(DataError, match="does not contain the 72 bytes"):
        decode_mask(bomb, "a.png")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


# --- frames ---------------------------------------------------------------------------------------


def photo(height=33, width=50):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4 % 256, y * 5 % 256, (x + y) * 2 % 256], axis=-1).astype(np.uint8)


@given(shapes, st.sampled_from(["444", "422", "420", "Gray"]), st.integers(30, 100))
@examples(40)
def test_frames_come_out_alike_with_and_without_a_place(shape, subsampling, quality):
    image = photo(*shape)
    if subsampling == "Gray":
        image = np.ascontiguousarray(image[..., :1])
    space = "GRAY" if subsampling == "Gray" else "RGB"
    data = simplejpeg.encode_jpeg(image, quality, space, subsampling)
    frame = decode_frame(data, "")
    assert frame.shape == (*shape, 3)
    assert frame.dtype == np.uint8
    assert frame_size(data, "") == shape
    straight = np.full_like(frame, 77)
    assert decode_frame(data, "", straight) is straight
    padded = np.full((shape[0] + 2, shape[1] + 3, 3), 77, np.uint8)
    decode_frame(data, "", padded[: shape[0], : shape[1]])
    np.testing.assert_array_equal(straight, frame)
    np.testing.assert_array_equal(padded[: shape[0], : shape[1]], frame)
    assert (padded[shape[0] :] == 77).all()
    assert (padded[:, shape[1] :] == 77).all()


def test_a_grey_frame_has_three_equal_channels():
    frame = decode_frame(save(Image.fromarray(photo()[..., 0]), "JPEG", quality=95), "")
    assert frame.shape == (33, 50, 3)
    assert (frame == frame[..., :1]).all()
    assert abs(frame[..., 0].astype(int) - photo()[..., 0]).max() < 40


@pytest.mark.parametrize("progressive", [False, True])
def test_a_cut_frame_is_an_error_wherever_it_is_cut(progressive):
    data = save(Image.fromarray(photo()), "JPEG", quality=90, progressive=progressive)
    for size in range(0, len(data) - 2, 7):
        with pytest.raises(DataError, match=r"^a.jpg: "):
            decode_frame(data[:size], "a.jpg")


def test_a_cmyk_frame_is_turned_to_rgb():
    data = save(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95)
    straight = np.empty((33, 50, 3), np.uint8)
    for image in (decode_frame(data, ""), decode_frame(data, "", straight), decode_still(data, "")):
        assert abs(image.astype(int) - photo()).mean() < 2


def test_a_frame_too_large_is_refused_before_it_is_decoded(monkeypatch):
    data = simplejpeg.encode_jpeg(photo(), 90)
    monkeypatch.setattr(decode, "MAX_PIXELS", 33 * 50 - 1)
    for function in (frame_size, decode_frame, decode_still):
        with pytest.raises(DataError, match=r"a.jpg: 50x33 exceeds 1649 pixels"):
            function(data, "a.jpg")


@pytest.mark.parametrize("shape", [(33, 49), (34, 50), (50, 33), (1, 1)])
def test_a_place_of_another_size_is_refused(shape):
    message = f"x: expected {shape[1]}x{shape[0]} pixels as its record states, found 50x33; "
    with pytest.raises(DataError, match=message):
        decode_frame(simplejpeg.encode_jpeg(photo(), 90), "x", np.empty((*shape, 3), np.uint8))
    with pytest.raises(DataError, match=message):
        decode_mask(encode_mask(photo()[..., 0].copy()), "x", np.empty(shape, np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_stills_of_common_kinds(kind):
    image = Image.fromarray(LABELS)
    options = {"lossless": True} if kind == "WEBP" else {}
    still = decode_still(
        save(image.convert("RGB") if kind == "WEBP" else image, kind, **options), ""
    )
    np.testing.assert_array_equal(still, np.repeat(LABELS[..., None], 3, axis=2))


def test_a_postscript_still_starts_no_program():
    with pytest.raises(DataError, match=r"^a.eps: expected an image, found other data"):
        decode_still(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "a.eps")


def test_an_image_of_exactly_the_largest_size_is_decoded(monkeypatch):
    monkeypatch.setattr(decode, "MAX_PIXELS", 24)
    fits, exceeds = (np.zeros((4, width, 3), np.uint8) for width in (6, 7))
    assert decode_still(save(Image.fromarray(fits)), "x").shape == fits.shape
    assert decode_frame(encode_frame(fits, 90), "x").shape == fits.shape
    for data, read in (
        (save(Image.fromarray(exceeds)), decode_still),
        (encode_frame(exceeds, 90), decode_frame),
        (encode_mask(exceeds[..., 0]), decode_mask),
    ):
        with pytest.raises(DataError, match="x: 7x4 exceeds 24 pixels"):
            read(data, "x")


def saved(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(stream, kind)
    return stream.getvalue()


def test_alpha_is_the_mask_where_it_carries_the_object_and_ignored_where_it_is_opaque():
    ids = LABELS
    shape = (ids > 4) * 255
    np.testing.assert_array_equal(decode_mask(saved(np.dstack([ids, ids * 0 + 255])), ""), ids)
    for grey in (ids * 0 + 255, ids * 0, shape):  # white, black, white where it is visible
        np.testing.assert_array_equal(decode_mask(saved(np.dstack([grey, shape])), ""), shape)
    red = np.dstack([shape, ids * 0, ids * 0, shape])
    np.testing.assert_array_equal(decode_mask(saved(red), ""), shape)


def test_alpha_and_values_that_both_differ_are_refused():
    for alpha in ((LABELS > 4) * 255, LABELS * 0, LABELS * 0 + 128):
        with pytest.raises(DataError, match=r"m: .*alpha"):
            decode_mask(saved(np.dstack([LABELS % 3, alpha])), "m")


def test_a_jpeg_is_no_mask():
    with pytest.raises(DataError, match="m: is a JPEG"):
        decode_mask(saved(LABELS, "JPEG"), "m")


@pytest.mark.parametrize("read", [decode_mask, decode_still])
def test_a_tiff_with_tiles_beyond_the_limit_is_refused_whatever_its_name(read):
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1)]
    tags += [(322, 40000), (323, 40000), (324, 8), (325, 100)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 108) + bytes(100)
    data += struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(DataError, match=r"a\.png: 40000x40000 exceeds"):
        read(data, "a.png")


@pytest.mark.parametrize(
    ("top", "advice"), [(2, "save it with 8 bits"), (300, "number its objects from 1")]
)
def test_masks_of_16_bits_are_refused_with_the_advice_that_fits(top, advice):
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, top]], np.uint16)).save(stream, "PNG")
    with pytest.raises(DataError, match=rf"m.png: .* found .*16 bits.* up to {top}; {advice}"):
        decode_mask(stream.getvalue(), "m.png")


@pytest.mark.parametrize("mode", ["P", "L", "I;16"])
def test_wide_masks_keep_their_ids(mode: str) -> None:
    ids = np.array([[0, 1, 250], [7, 254, 255]], np.uint16) * (39 if mode == "I;16" else 1)
    image = Image.fromarray(ids if mode == "I;16" else ids.astype(np.uint8))
    if mode == "P":
        image.putpalette(bytes(768))
    data = io.BytesIO()
    image.save(data, "PNG")
    np.testing.assert_array_equal(decode_wide_mask(data.getvalue(), "m.png"), ids)


@pytest.mark.parametrize("data", [b"", b"x" * 99, b"\xff\xd8"])
def test_what_is_no_wide_mask_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"m.png: expected a mask PNG"):
        decode_wide_mask(data, "m.png")
    colours = io.BytesIO()
    Image.new("RGB", (3, 3)).save(colours, "PNG")
    with pytest.raises(DataError, match=r"m.png: expected a mask of 8 or 16 bits, found mode RGB"):
        decode_wide_mask(colours.getvalue(), "m.png")
    with pytest.raises(DataError, match=r"m.png: expected a mask PNG"):
        decode_wide_mask(colours.getvalue()[:40], "m.png")


@pytest.mark.parametrize(("data", "found"), [(b"", "an empty file"), (bytes(99), "zeros only")])
def test_a_file_without_content_need_not_be_converted(data: bytes, found: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.jpg: .*{found}; copy or download"):
        decode_still(data, "a.jpg")
