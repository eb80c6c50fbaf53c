"""Clips as numbers: frames in order, objects visible at the start and kept in view."""

import tomllib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, to_toml
from stmtrain.shards.sample import SampleRecord
from stmtrain.streaming.clips import (
    PSEUDO,
    VIDEO,
    ClipRecipe,
    choose_clip,
    choose_objects,
    mask_stride,
    sample_frames,
)
from stmtrain.streaming.warps import (
    _locate,
    _nth_true,
    colour_matrices,
    colour_numbers,
    draw_colours,
    draw_geometry,
)
from tests.profiles import examples

seeds = st.integers(0, 2**32)


def rng(seed=0):
    return np.random.default_rng(seed)


def record(areas, *, extra_frames=0, size=(480, 854), ids=None):
    areas = np.asarray(areas)
    names = tuple(f"{5 * i:05d}" for i in range(areas.shape[1]))
    frames = tuple(sorted(names + tuple(f"{5 * i + 1:05d}" for i in range(extra_frames))))
    ids = ids or tuple(2 * i + 3 for i in range(len(areas)))
    rows = tuple(tuple(int(a) for a in row) for row in areas)
    return SampleRecord("v", *size, frames, names, ids, rows, size)


# --- frames ---------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 30), seeds, st.sampled_from([0, 1]))
def test_sampled_frames_are_in_order_in_range_and_near(num_frames, clip, max_skip, seed, reverse):
    if num_frames < clip:
        with pytest.raises(ValueError, match=f"at least {clip} frames, found {num_frames}"):
            sample_frames(num_frames, clip, max_skip=max_skip, rng=rng(seed))
        return
    frames = sample_frames(num_frames, clip, max_skip=max_skip, rng=rng(seed), reverse=reverse)
    frames = frames[::-1] if reverse else frames
    assert len(frames) == clip
    assert 0 <= frames[0] <= frames[-1] < num_frames
    assert all(1 <= gap <= 1 + max_skip for gap in np.diff(frames))


def test_gaps_and_starts_are_uniform():
    g = rng(1)
    draws = [sample_frames(100, 3, max_skip=4, rng=g) for _ in range(6000)]
    gaps = Counter(int(gap) for frames in draws for gap in np.diff(frames))
    assert set(gaps) == {1, 2, 3, 4, 5}
    assert all(2150 < n < 2650 for n in gaps.values())  # 2400 expected, 5.7 standard deviations
    starts = Counter(frames[0] // 10 for frames in draws)
    assert all(450 < starts[d] < 790 for d in range(9))


def test_every_frame_of_a_short_video_is_used():
    """The gap shrinks with the video, so that it never cuts its end off."""
    g = rng(2)
    draws = [sample_frames(7, 3, max_skip=25, rng=g) for _ in range(500)]
    assert {f for frames in draws for f in frames} == set(range(7))
    assert max(int(np.diff(frames).max()) for frames in draws) == 3


# --- objects --------------------------------------------------------------------------------------


@st.composite
def records(draw):
    objects, frames = draw(st.integers(1, 8)), draw(st.integers(3, 20))
    generator = rng(draw(seeds))
    areas = generator.choice([0, 0, 3, 500, 5000], (objects, frames))
    return record(areas, extra_frames=draw(st.integers(0, 5)))


@given(records(), st.sampled_from([VIDEO, PSEUDO]), st.integers(0, 8), seeds)
@examples(200)
def test_chosen_objects_are_visible_in_the_first_frame(record, recipe, max_skip, seed):
    areas = np.array(record.areas)
    visible = areas.any(axis=0)
    if not (
        visible[:-2].any() or visible[2:].any()
    ):  # such as three frames, an object in the middle one
        with pytest.raises(ValueError, match="no frame with an object can start a clip"):
            choose_clip(record, recipe, max_skip, rng(seed))
        return
    choice = choose_clip(record, recipe, max_skip, rng(seed))
    assert choice == choose_clip(record, recipe, max_skip, rng(seed))
    places = [record.mask_frames.index(name) for name in choice.frames]  # only frames with masks
    assert sorted(places) in (places, places[::-1])
    assert len(set(places)) == 3
    assert 1 <= len(choice.object_ids) <= 5
    assert list(choice.object_ids) == sorted(choice.object_ids)
    for object_id in choice.object_ids:
        assert areas[record.object_ids.index(object_id), places[0]] > 0


def test_large_objects_are_preferred_and_small_ones_are_the_last_resort():
    areas = np.zeros((2, 40), int)
    areas[0, :], areas[1, 30] = 20, 4000  # a speck in every frame, an object in one
    for seed in range(30):
        choice = choose_clip(record(areas), VIDEO, 0, rng(seed))
        assert (choice.frames[0], choice.object_ids) == (f"{150:05d}", (5,))
    assert choose_clip(record(areas[:1]), VIDEO, 0, rng()).object_ids == (3,)


@pytest.mark.parametrize("place", [0, 38, 39])
def test_an_object_seen_in_one_frame_starts_the_clip_wherever_that_is(place):
    areas = np.zeros((1, 40), int)
    areas[0, place] = 9000
    choice = choose_clip(record(areas), VIDEO, 25, rng())
    assert choice.frames[0] == f"{5 * place:05d}"
    assert (choice.frames[1] < choice.frames[0]) == (place > 37)  # backward only where it must


def test_time_runs_backward_as_often_as_asked():
    areas = np.full((1, 30), 9000)
    for probability in (0.0, 0.5, 1.0):
        recipe = replace(VIDEO, reverse=probability)
        g = rng(3)
        draws = [choose_clip(record(areas), recipe, 3, g).frames for _ in range(300)]
        share = sum(frames[0] > frames[1] for frames in draws) / 300
        assert abs(share - probability) < 0.12
        assert probability != round(probability) or share == probability


def test_objects_are_chosen_evenly_and_never_too_many():
    g = rng(4)
    counts = Counter(o for _ in range(800) for o in choose_objects(np.full(8, 9), 2, 1, g))
    assert all(130 < counts[o] < 270 for o in range(8))
    assert choose_objects(np.array([5, 0, 3]), 5, 3, g) == [0, 2]
    assert choose_objects(np.array([5, 0, 3]), 5, 6, g) == []


def test_samples_that_make_no_clip_are_refused():
    with pytest.raises(ValueError, match="2 frames with a mask, a clip needs 3"):
        choose_clip(record(np.ones((1, 2)), extra_frames=9), VIDEO, 0, rng())
    with pytest.raises(ValueError, match="no frame with an object"):
        choose_clip(record(np.zeros((2, 9))), VIDEO, 0, rng())
    with pytest.raises(ValueError, match="no frame with an object"):
        choose_clip(record(np.zeros((0, 9))), VIDEO, 0, rng())


# --- geometry -------------------------------------------------------------------------------------


def blobs(height, width, seed, length=3):
    """Three frames with two moving boxes and some void."""
    g = rng(seed)
    slots = np.zeros((length, height, width), np.uint8)
    for slot in (1, 2):
        h, w = g.integers(4, height // 3), g.integers(4, width // 3)
        y, x = g.integers(0, height - h, length), g.integers(0, width - w, length)
        for t in range(length):
            slots[t, y[t] : y[t] + h, x[t] : x[t] + w] = slot
    slots[:, :2, :2] = 255
    return slots


def look(slots, matrix, size):
    """Nearest pixels of (H, W) seen through the matrix, 255 outside: an independent warp."""
    centres = np.arange(size) + 0.5
    x, y = np.meshgrid(centres, centres)
    source = matrix @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
    column, row = np.floor(source[:2]).astype(int)
    inside = (row >= 0) & (row < slots.shape[0]) & (column >= 0) & (column < slots.shape[1])
    out = np.full(size * size, 255, np.uint8)
    out[inside] = slots[row[inside], column[inside]]
    return out.reshape(size, size)


@given(seeds, st.sampled_from([(480, 854), (360, 270), (200, 200)]), st.sampled_from([96, 384]))
@examples(40)
def test_the_first_frame_shows_an_object_after_every_warp(seed, shape, size):
    slots = blobs(*shape, seed % 50)
    if not (slots[0] == 1).any():  # hidden by the second
        slots[0, 10:20, 10:20] = 1
    matrices = draw_geometry(slots, 2, VIDEO, size, rng(seed))
    assert matrices.shape == (3, 3, 3)
    assert np.isfinite(matrices).all()
    assert np.allclose(matrices[:, 2], [0, 0, 1])
    seen = look(slots[0], matrices[0], size)
    assert np.isin(seen, (1, 2)).any()


@pytest.mark.parametrize("corner", [(0, 0), (0, 834), (460, 0), (460, 834)])
def test_an_object_that_the_warp_moves_out_of_the_frame_is_followed(corner):
    slots = np.zeros((3, 480, 854), np.uint8)
    slots[:, corner[0] : corner[0] + 20, corner[1] : corner[1] + 20] = 1
    for seed in range(40):
        matrices = draw_geometry(slots, 1, replace(VIDEO, warp=1.0), 384, rng(seed))
        assert (look(slots[0], matrices[0], 384) == 1).any()


@given(seeds, st.sampled_from([(480, 854), (384, 384), (700, 400)]))
@examples(40)
def test_an_unwarped_crop_lies_in_the_frame_and_holds_the_objects(seed, shape):
    recipe = replace(VIDEO, warp=0.0, drift=0.0)
    slots = np.zeros((3, *shape), np.uint8)
    g = rng(seed)
    y, x = g.integers(0, shape[0] - 100), g.integers(0, shape[1] - 100)
    for t in range(3):
        slots[t, y + 20 * t : y + 20 * t + 60, x + 10 * t : x + 10 * t + 60] = 1
    matrices = draw_geometry(slots, 1, recipe, 384, g)
    corners = matrices @ np.array([[0, 384, 0, 384], [0, 0, 384, 384], [1, 1, 1, 1]])
    assert corners[:, 0].min() > -1e-6
    assert corners[:, 0].max() < shape[1] + 1e-6
    assert corners[:, 1].min() > -1e-6
    assert corners[:, 1].max() < shape[0] + 1e-6
    scale = abs(matrices[0, 0, 0])
    for t in range(3):  # all of the object is seen, in every frame
        seen = int((look(slots[t], matrices[t], 384) == 1).sum())
        assert abs(seen * scale**2 / 3600 - 1) < 0.05


def test_a_packed_clip_of_the_right_size_is_left_alone_or_flipped():
    slots = blobs(64, 64, 1)
    kinds = set()
    for seed in range(20):
        matrices = draw_geometry(slots, 2, PSEUDO, 64, rng(seed))
        flipped = matrices[0, 0, 0] < 0
        expected = [[-1, 0, 64], [0, 1, 0], [0, 0, 1]] if flipped else np.eye(3)
        assert np.array_equal(matrices, np.broadcast_to(expected, (3, 3, 3)))
        kinds.add(bool(flipped))
    assert kinds == {True, False}


def test_lengths_scale_with_the_crop():
    """The same draw at half the size shows the same content."""
    slots = blobs(480, 640, 2)
    large = draw_geometry(slots, 2, VIDEO, 384, rng(5))
    small = draw_geometry(slots, 2, VIDEO, 192, rng(5))
    assert np.allclose(large @ np.diag([2.0, 2.0, 1.0]), small)


def test_warps_stay_in_their_ranges_and_flips_are_common():
    recipe = replace(VIDEO, scale=(1.0, 1.0), rescale=(1.0, 1.0), shear=0.0)
    slots = blobs(480, 640, 3)
    signs = set()
    for seed in range(60):
        matrices = draw_geometry(slots, 2, recipe, 384, rng(seed))
        turns = np.sign(np.linalg.det(matrices[:, :2, :2]))
        assert len(set(turns)) == 1  # all frames are flipped, or none
        signs.add(turns[0])
        assert np.allclose(abs(np.linalg.det(matrices[:, :2, :2])), 1)
        assert (abs(matrices[:, 0, 0]) >= np.cos(np.radians(30)) - 1e-9).all()
    assert signs == {1, -1}


def test_a_record_that_lists_an_object_the_mask_lacks_is_refused():
    slots = blobs(480, 640, 4)
    slots[0][slots[0] < 255] = 0
    with pytest.raises(ValueError, match="lacks an object that its record lists"):
        draw_geometry(slots, 2, VIDEO, 384, rng())


@given(st.integers(1, 9000), st.floats(0.01, 1), seeds)
def test_the_nth_pixel_is_found(length, share, seed):
    flags = rng(seed).random(length) < share
    flags[seed % length] = True
    places = np.flatnonzero(flags)
    n = seed % len(places)
    assert _nth_true(flags, n) == places[n]


# --- colours --------------------------------------------------------------------------------------


@given(seeds)
def test_grey_stays_grey(seed):
    recipe = replace(VIDEO, brightness=0.4, contrast=0.4, saturation=0.9, hue=90, frame_jitter=0.2)
    matrices = draw_colours(recipe, rng(seed))
    assert matrices.shape == (3, 3, 4)
    grey = matrices @ [0.3, 0.3, 0.3, 1.0]
    assert np.allclose(grey, grey[:, :1])


@given(st.integers(1, 5), seeds)
@examples(20)
def test_many_clips_are_coloured_as_each_alone(count, seed):
    recipe = replace(VIDEO, hue=90, greyscale=0.5)
    numbers = rng(seed).random((count, colour_numbers(recipe)))
    together = colour_matrices(recipe, numbers)
    alone = rng(seed)
    assert all(np.array_equal(clip, draw_colours(recipe, alone)) for clip in together)


def test_no_jitter_is_exactly_nothing():
    recipe = replace(VIDEO, brightness=0, contrast=0, saturation=0, frame_jitter=0, greyscale=0)
    assert np.array_equal(draw_colours(recipe, rng()), np.broadcast_to(np.eye(3, 4), (3, 3, 4)))


def test_each_colour_change_does_what_it_says():
    none = replace(VIDEO, brightness=0, contrast=0, saturation=0, frame_jitter=0, greyscale=0)
    rgb = np.array([0.8, 0.5, 0.2, 1.0])

    def changed(**fields):
        return draw_colours(replace(none, **fields), rng(7))[0] @ rgb

    bright = changed(brightness=0.5)
    assert np.allclose(bright / rgb[:3], bright[0] / 0.8)
    assert abs(bright[0] / 0.8 - 1) > 0.01
    contrast = changed(contrast=0.5) - 0.5
    assert np.allclose(contrast, (rgb[:3] - 0.5) * contrast[0] / 0.3)
    assert np.allclose(changed(greyscale=1.0), 0.299 * 0.8 + 0.587 * 0.5 + 0.114 * 0.2)
    turned = changed(hue=60.0)
    assert np.isclose(turned.mean(), 0.5)  # along the grey axis nothing moves
    assert np.isclose(((turned - 0.5) ** 2).sum(), 0.18)  # and saturation stays
    assert not np.allclose(turned, rgb[:3])


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [VIDEO, PSEUDO])
def test_recipes_survive_text(recipe):
    assert from_mapping(ClipRecipe, tomllib.loads(to_toml(recipe)), "here") == recipe


@pytest.mark.parametrize(
    "text",
    ["flip = 1.5", "scale = [1.2, 0.8]", "frames = 0", "rotate = -3.0", "max_objects = 255"],
)
def test_recipes_that_cannot_be_drawn_are_refused(text):
    with pytest.raises(UsageError, match=f"here: .*{text.split()[0]}"):
        from_mapping(ClipRecipe, tomllib.loads(text), "here")


# --- max_skip counts frames of the video ----------------------------------------------------------


def video(names, mask_names=None):
    mask_names = mask_names or names
    areas = ((9000,) * len(mask_names),)
    return SampleRecord("v", 480, 854, names, mask_names, (1,), areas, (480, 854))


def numbers(first, stop, step):
    return tuple(f"{number:05d}" for number in range(first, stop, step))


@pytest.mark.parametrize(
    ("record", "stride"),
    [
        (video(numbers(0, 80, 1)), 1),  # DAVIS
        (video(numbers(0, 180, 5)), 5),  # YouTube-VOS: only the frames with masks
        (video(numbers(0, 180, 1), numbers(0, 180, 5)), 5),  # ... or all of them
        (video(("00000", "00005", "00009", "00015", "00020", "00060")), 5),  # some are missing
        (video(("a", "b", "c", "d", "e"), ("a", "c", "e")), 2),
        (video(("7",)), 1),
    ],
)
def test_mask_stride(record, stride):
    assert mask_stride(record) == stride


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("max_skip", [0, 3, 4, 8, 9, 25])
def test_max_skip_counts_frames_not_masks(step, max_skip):
    record = video(numbers(0, 100 * step, step))
    gaps = Counter()
    for seed in range(300):
        choice = choose_clip(record, VIDEO, max_skip, rng(seed))
        gaps.update(np.diff([int(name) for name in choice.frames]).tolist())
    widest = max(step, (1 + max_skip) // step * step)  # neighbouring masks are always allowed
    assert set(gaps) == set(range(step, widest + 1, step))


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_the_focus_is_a_pixel_of_an_object(seed, count):
    """Rings and dust too, so that a wrong row or column shows."""
    g = rng(seed)
    slots = np.zeros((1, 40, 57), np.uint8)
    for slot in range(1, count + 1):
        slots[0, g.integers(40, size=9), g.integers(57, size=9)] = slot
    slots[0, 5, 11 : 11 + count] = range(1, count + 1)
    boxes, (x, y) = _locate(slots, count, g)
    assert slots[0, int(y), int(x)] > 0
    assert (x % 1, y % 1) == (0.5, 0.5)
    rows, columns = np.nonzero(slots[0])
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes[0].tolist() == box
