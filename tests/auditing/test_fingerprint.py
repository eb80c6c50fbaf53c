"""Thumbnails: what they are robust to, and what they tell apart."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmdata.auditing import fingerprint
from stmdata.auditing.fingerprint import ALIKE, jpeg_thumb, misplaced, shrink, vectors
from stmtrain.errors import DataError
from tests.profiles import examples


def picture(seed, size=(120, 160)):
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return noise.resize(size[::-1], Image.Resampling.BICUBIC)


def jpeg(image, quality=90, **more):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, **more)
    return out.getvalue()


@examples(30)
@given(st.integers(0, 999), st.sampled_from([10, 50, 95]), st.sampled_from([0.5, 0.7, 2]))
def test_copies_are_alike_and_others_are_not(seed, quality, factor):
    image = picture(seed)
    copy = image.resize((int(160 * factor), int(120 * factor)), Image.Resampling.BILINEAR)
    darker = Image.fromarray((np.array(copy) * 0.7).astype(np.uint8))
    same, other = jpeg(darker, quality), jpeg(picture(seed + 1))
    thumbs = np.stack([jpeg_thumb(data, "")[1] for data in (jpeg(image), same, other)])
    products = vectors(thumbs) @ vectors(thumbs).T
    assert products[0, 1] >= ALIKE
    assert products[0, 2] < ALIKE


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_that_is_cut_anywhere_is_damaged(more):
    data = jpeg(picture(0), **more)
    assert jpeg_thumb(data, "a")[0] == (120, 160)
    for end in range(0, len(data) - 2, 7):
        with pytest.raises(DataError, match="a: JPEG"):
            jpeg_thumb(data[:end], "a")


def test_flat_pictures_are_like_nothing():
    assert not vectors(np.full((2, 16, 16), 7, np.uint8)).any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (16, 16), (480, 854)])
def test_pictures_of_any_size_have_a_thumbnail(size):
    assert shrink(np.zeros(size, np.uint8)).shape == (16, 16)
    assert jpeg_thumb(jpeg(picture(0, size)), "")[0] == size


def moving(count):
    wide = np.array(picture(5, (96, 400)))[..., 0]
    return np.stack(
        [shrink(np.ascontiguousarray(wide[:, 8 * t : 8 * t + 96])) for t in range(count)]
    )


@given(st.integers(2, 21), st.integers(2, 21))
def test_swapped_pictures_are_misplaced_and_no_others(first, second):
    thumbs = moving(24)
    assert misplaced(thumbs) == ([], [])
    if abs(first - second) >= 5:
        thumbs[[first, second]] = thumbs[[second, first]]
        assert misplaced(thumbs) == (sorted([first, second]), [])


def test_long_videos_are_compared_in_blocks(monkeypatch):
    monkeypatch.setattr(fingerprint, "_BLOCK", 24)
    thumbs = np.concatenate([moving(24), moving(24)])
    thumbs[[30, 40]] = thumbs[[40, 30]]
    assert misplaced(thumbs) == ([30, 40], [])


def test_pictures_without_motion_or_neighbours_are_in_place():
    still = np.repeat(moving(1), 9, axis=0)
    for thumbs in (still, moving(1), moving(2), np.zeros((0, 16, 16), np.uint8)):
        assert misplaced(thumbs) == ([], [])
