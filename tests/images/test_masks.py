"""Label maps: the ids in them, their areas and sizes, and the translation of ids to slots."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from stmtrain.errors import DataError
from stmtrain.images.masks import (
    MAX_OBJECT_ID,
    VOID,
    areas,
    counts_binary,
    ids_counted,
    ids_present,
    ids_to_slots,
    is_binary,
    resample_mask,
    sharpen,
    shrink_mask,
    slot_table,
    smooth_levels,
)
from tests.paths import REAL, real_data

label_maps = arrays(
    np.uint8,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 7, 254, 255]) | st.integers(0, 255),
)


def test_slot_table():
    table = slot_table((3, 4, 200))
    assert [table[i] for i in (0, 1, 3, 4, 200, 254, 255)] == [0, 0, 1, 2, 3, 0, 255]
    assert len(table) == 256


@given(label_maps, label_maps)
def test_counts_of_several_masks_are_those_of_all_their_pixels(first, second):
    pixels = np.concatenate([first.ravel(), second.ravel()])
    total = areas(first) + areas(second)
    assert ids_counted(total) == ids_present(pixels)
    assert counts_binary(total) == is_binary(pixels)


@given(label_maps, st.integers(1, 5), st.integers(1, 5))
def test_a_shrunken_mask_keeps_every_object_that_there_is_room_for(mask, height, width):
    small, plain = shrink_mask(mask, (height, width)), resample_mask(mask, (height, width))
    assert small.shape == (height, width)
    assert set(ids_present(small)) <= set(ids_present(mask))
    assert len(ids_present(small)) == min(len(ids_present(mask)), height * width)
    lost = set(ids_present(mask)) - set(ids_present(plain))
    assert np.count_nonzero(small != plain) <= len(lost)
    if not lost:
        np.testing.assert_array_equal(small, plain)


def test_a_lost_object_is_shown_where_it_is():
    mask = np.zeros((90, 90), np.uint8)
    mask[60:, :] = 1
    mask[34, 71:73] = 7
    small = shrink_mask(mask, (3, 9))
    assert small[1, 7] == 7
    assert areas(small)[[1, 7]].tolist() == [9, 1]


@given(label_maps)
def test_areas_and_ids_are_those_of_a_search_for_each_value(mask):
    counts = areas(mask)
    assert counts.tolist() == [np.count_nonzero(mask == value) for value in range(256)]
    assert ids_present(mask) == sorted(set(mask.ravel().tolist()) - {0, 255})
    np.testing.assert_array_equal(areas(mask[:, ::2]), areas(mask[:, ::2].copy()))


@pytest.mark.parametrize(
    ("values", "binary"),
    [([0], False), ([255], True), ([0, 255], True), ([0, 1], False), ([0, 1, 255], False),
     ([254, 255], False), ([254], False)],
)  # fmt: skip
def test_a_binary_mask_has_255_and_no_ids(values, binary):
    assert is_binary(np.array([values], np.uint8)) is binary


def test_resampling_takes_the_id_at_the_centre_of_each_pixel():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(resample_mask(mask, (3, 4)), mask)
    np.testing.assert_array_equal(resample_mask(mask, (6, 8)), mask.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resample_mask(mask, (1, 2)), [[5, 7]])


def in_gaps(count):
    """Ids with as many gaps as fit: 2, 4, ... or, for more than 127 ids, the largest ones."""
    return tuple(range(2, 2 * count + 1, 2)) if count <= 127 else tuple(range(255 - count, 255))


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("choose", [lambda count: tuple(range(1, count + 1)), in_gaps])
def test_every_value_becomes_its_slot_for_every_number_of_objects(choose, void):
    every = np.arange(256 if void else 255, dtype=np.uint8)
    for count in range(1, MAX_OBJECT_ID + 1):
        ids = choose(count)
        slots = [0] * 256
        for slot, object_id in enumerate(ids, start=1):
            slots[object_id] = slot
        slots[VOID] = VOID
        masks = every.reshape(1, 1, -1).copy()
        ids_to_slots(masks, ids)
        assert masks.ravel().tolist() == slots[: len(every)], ids
        chosen = np.array([0, *ids, *([VOID] if void else [])], np.uint8).reshape(1, 1, -1)
        expected = [slots[value] for value in chosen.ravel()]
        ids_to_slots(chosen, ids)
        assert chosen.ravel().tolist() == expected, ids


@st.composite
def clips(draw):
    """Chosen ids, and masks that hold some of them, others, or void; with and without gaps."""
    ids = draw(st.lists(st.integers(1, 12) | st.integers(1, 254), min_size=1, unique=True))
    present = draw(st.sets(st.sampled_from([0, *ids]) | st.integers(0, 255), min_size=1))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    masks = generator.choice(np.array(sorted(present), np.uint8), (3, 9, 11))
    return tuple(sorted(ids)), masks[:, :, : draw(st.sampled_from([7, 11]))]


@given(clips())
def test_ids_become_slots(clip):
    ids, masks = clip
    expected = np.frombuffer(slot_table(ids), np.uint8)[masks]
    ids_to_slots(masks, ids)
    np.testing.assert_array_equal(masks, expected)


# --- smooth edges ---------------------------------------------------------------------------------

SIDE = 96


def blobs(rng: np.random.Generator, count: int = 1, side: int = SIDE) -> list[np.ndarray]:
    """Discs and ellipses that do not touch, (side, side) bool."""
    y, x = np.mgrid[:side, :side] / side
    lanes = (np.arange(count) + 0.5) / count
    return [
        ((x - rng.uniform(0.3, 0.7)) / rng.uniform(0.1, 0.25)) ** 2
        + ((y - lane) / rng.uniform(0.2 / count, 0.35 / count)) ** 2
        < 1
        for lane in lanes
    ]


def resized(mask: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((side, side), method))


def through_jpeg(mask: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


METHODS = st.sampled_from([Image.BILINEAR, Image.BICUBIC, Image.LANCZOS, Image.HAMMING])


@given(st.integers(0, 10**6), METHODS, st.sampled_from([40, 150, 231]), st.sampled_from([100, 255]))
def test_one_resized_object_is_thresholded(seed, method, side, level):
    (blob,) = blobs(np.random.default_rng(seed))
    mask, smooth = sharpen(resized(blob * level, side, method), "m.png")
    assert smooth
    assert np.unique(mask).tolist() == [0, level]
    exact = resized(blob * 255, side, Image.BILINEAR) > 127
    assert ((mask > 0) != exact).mean() < 0.02


@given(st.integers(0, 10**6), st.integers(40, 100))
def test_one_object_that_was_a_jpeg_is_thresholded(seed, quality):
    (blob,) = blobs(np.random.default_rng(seed), side=160)
    mask, smooth = sharpen(through_jpeg(blob * 255, quality), "m.png")
    assert smooth
    assert np.unique(mask).tolist() == [0, VOID]
    assert ((mask > 0) != blob).mean() < 0.01


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4, 8]), st.booleans())
def test_one_anti_aliased_object_is_thresholded(seed, scale, rectangle):
    """Few values between, only along edges: supersampled, with straight edges at half pixels."""
    rng = np.random.default_rng(seed)
    if rectangle:
        top, left = rng.integers(4, 60, 2) * scale + rng.integers(1, scale, 2)
        blob = np.zeros((SIDE * scale, SIDE * scale), bool)
        blob[top : top + 30 * scale, left : left + 22 * scale] = True
    else:
        (blob,) = blobs(rng, side=SIDE * scale)
    soft = np.asarray(Image.fromarray(blob * np.uint8(255)).reduce(scale))
    mask, smooth = sharpen(soft, "m.png")
    assert smooth
    np.testing.assert_array_equal(mask, np.where(soft > 127, 255, 0))


@pytest.mark.parametrize(
    ("specks", "levels"),
    [
        ([1, 2, 3, 254], [0, VOID]),
        ([1, 2, 254], []),  # too few
        ([1, 2, 3, 200], []),  # none about 255
        ([20, 21, 22, 254], []),  # none about 0
    ],
)
def test_ringing_is_scattered_about_0_and_255(specks, levels):
    mask = np.zeros((60, 60), np.uint8)
    mask[30:] = VOID
    for i, value in enumerate(specks):
        mask[45 if value > 127 else 15, 5 + 10 * i] = value
    assert smooth_levels(mask) == levels


@given(st.integers(0, 10**6), METHODS)
def test_several_resized_objects_are_refused(seed, method):
    rng = np.random.default_rng(seed)
    levels = sorted(rng.choice(np.arange(40, 255, 40), 3, replace=False))
    mask = sum(int(i) * blob for i, blob in zip(levels, blobs(rng, 3), strict=True))
    with pytest.raises(DataError, match=r"m.png: .*grey levels.*smooth edges"):
        sharpen(resized(mask, 2 * SIDE // 3, method), "m.png")


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 14, 254]), st.booleans())
def test_label_maps_are_left_alone(seed, count, void):
    """Ids with gaps: areas, lines of one and two pixels, dots; outlines of 255 around them."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.arange(1, 255), count, replace=False)
    side = 400 if count == 254 else 120
    mask = np.zeros((side, side), np.uint8)
    for i in ids:
        y, x = rng.integers(side, size=2)
        height, width = [(1, 1), (1, 25), (25, 2), (9, 12), (2, 2)][rng.integers(5)]
        if void:
            mask[max(0, y - 3) : y + height + 3, max(0, x - 3) : x + width + 3] = VOID
        mask[y : y + height, x : x + width] = i
    found, smooth = sharpen(mask, "")
    assert found is mask
    assert not smooth


@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        elements=st.sampled_from([0, 0, 0, 1, 2, 7, 100, 254]),
    )
)
def test_noise_and_empty_masks_are_left_alone(mask):
    assert sharpen(mask, "")[0] is mask


@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 3))
def test_thin_objects_beside_others_and_void_are_left_alone(seed, thin, width):
    """A line of a small id along the edge of a larger object, and along its outline of void."""
    rng = np.random.default_rng(seed)
    top, left = (int(n) for n in rng.integers(8, 40, 2))
    mask = np.zeros((96, 96), np.uint8)
    mask[top - 3 : top + 43, left - 3 : left + 43] = VOID
    mask[top - width : top + 40, left : left + 40] = thin
    mask[top : top + 40, left : left + 40] = 15 + thin
    assert sharpen(mask, "")[0] is mask


@real_data
def test_real_masks_are_told_from_their_jpegs_and_resized_copies():
    files = sorted((REAL / "davis2016" / "Annotations" / "480p").glob("*/*.png"))[::200]
    for file in files:
        exact = np.asarray(Image.open(file).convert("L"))
        assert sharpen(exact, "")[0] is exact
        for soft in (
            through_jpeg(exact, 60),
            through_jpeg(exact, 100),
            np.asarray(Image.fromarray(exact).resize((400, 225), Image.BOX)),
            np.asarray(Image.fromarray(exact).resize((845, 475), Image.BILINEAR)),
        ):
            mask, smooth = sharpen(soft, "")
            assert smooth
            np.testing.assert_array_equal(mask, np.where(soft > soft.max() // 2, VOID, 0))


@real_data
def test_real_label_maps_are_left_alone_at_every_size():
    for file in sorted((REAL / "late_objects" / "Annotations").glob("*/*.png")):
        with Image.open(file) as image:
            for size in (image.size, (213, 120), (427, 240)):
                ids = np.asarray(image.resize(size, Image.NEAREST))
                for spread in (ids, ids * np.uint8(40), np.where(ids == 1, 255, ids)):
                    assert sharpen(spread, "")[0] is spread
