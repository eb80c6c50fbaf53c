"""Encoders: the palette is that of DAVIS, the bytes depend on the pixels alone, sizes survive."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from stmtrain.images.encode import DAVIS_PALETTE, encode_frame, encode_mask


def test_the_palette_is_that_of_davis():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128)}
    known |= {7: (128, 128, 128), 8: (64, 0, 0), 11: (192, 128, 0), 16: (0, 64, 0)}
    known |= {64: (32, 0, 0), 254: (96, 224, 192), 255: (224, 224, 192)}
    assert {i: tuple(DAVIS_PALETTE[i].tolist()) for i in known} == known
    assert len({tuple(colour) for colour in DAVIS_PALETTE.tolist()}) == 256


def test_a_mask_is_a_palette_png_whose_index_is_the_id():
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    data = encode_mask(mask)
    assert data == encode_mask(mask.copy())
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), DAVIS_PALETTE[mask])


def test_a_higher_level_is_smaller():
    mask = np.random.default_rng(0).integers(0, 3, (40, 60), dtype=np.uint8).repeat(5, axis=1)
    sizes = [len(encode_mask(mask, level=level)) for level in (0, 6)]
    assert sizes[1] < sizes[0] / 4
    assert encode_mask(mask) == encode_mask(mask, level=6)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 3), np.uint8)])
def test_what_is_not_a_label_map_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected a \(H, W\) uint8 mask"):
        encode_mask(wrong)


def test_a_frame_is_a_420_jpeg_in_rgb():
    frame = np.full((33, 47, 3), (200, 60, 20), np.uint8)
    data = encode_frame(frame, 95)
    assert simplejpeg.decode_jpeg_header(data) == (33, 47, "YCbCr", "420")
    assert np.abs(simplejpeg.decode_jpeg(data, "RGB").astype(int) - frame).max() <= 3
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(encode_frame(noise, 40)) < len(encode_frame(noise, 90))
