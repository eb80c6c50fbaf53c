"""Frames and objects of a clip: in order, near each other, and visible at the start."""

import doctest
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, to_toml
from stmtrain.shards.sample import SampleRecord
from stmtrain.streaming import clips
from stmtrain.streaming.clips import (
    NO_CLIP,
    PSEUDO,
    VIDEO,
    ClipRecipe,
    NoClipError,
    choose_clip,
    choose_objects,
    mask_stride,
    median_stride,
    sample_frames,
    why_no_clip,
)
from tests.known import agrees
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
        assert why_no_clip(record) == f"{NO_CLIP}: no object in a frame that a clip can start with"
        with pytest.raises(NoClipError, match="no object"):
            choose_clip(record, recipe, max_skip, rng(seed))
        return
    assert why_no_clip(record) is None
    choice = choose_clip(record, recipe, max_skip, rng(seed))
    assert choice == choose_clip(record, recipe, max_skip, rng(seed))
    places = [record.mask_frames.index(name) for name in choice.frames]  # only frames with masks
    assert sorted(places) in (places, places[::-1])
    assert len(set(places)) == 3
    assert 1 <= len(choice.object_ids) <= 5
    assert list(choice.object_ids) == sorted(choice.object_ids)
    for object_id in choice.object_ids:
        assert areas[record.object_ids.index(object_id), places[0]] > 0


@pytest.mark.parametrize("name", ["VIDEO", "PSEUDO"])
def test_choices_are_those_of_earlier_revisions(name):
    recipe, made = {"VIDEO": VIDEO, "PSEUDO": PSEUDO}[name], []
    for seed in range(40):
        generator = rng(seed)
        areas = generator.choice([0] * 9 + [3, 99, 100, 349, 350, 5000], (7, 20))
        areas[0, 5] = 100 + 250 * (seed % 2)
        choice = choose_clip(record(areas), recipe, seed % 4, generator)
        ids = [*choice.object_ids, *[0] * (recipe.max_objects - len(choice.object_ids))]
        made.append([*map(int, choice.frames), *ids])
    assert agrees(Path(__file__).with_name("known.json"), f"choices {name}", made, 0)


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
    with pytest.raises(ValueError, match="fewer than 3 frames with a mask"):
        choose_clip(record(np.ones((1, 2)), extra_frames=9), VIDEO, 0, rng())
    with pytest.raises(ValueError, match="no object in a frame"):
        choose_clip(record(np.zeros((2, 9))), VIDEO, 0, rng())
    with pytest.raises(ValueError, match="no object in a frame"):
        choose_clip(record(np.zeros((0, 9))), VIDEO, 0, rng())


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


def test_the_examples_are_true():
    result = doctest.testmod(clips, extraglobs={"np": np})
    assert result.attempted
    assert not result.failed


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


@pytest.mark.parametrize(
    ("names", "stride"),
    [
        (["frame00000", "frame00006", "frame00012"], 6),
        (["P01_01_frame_0000000140", "P01_01_frame_0000000262"], 122),
        (["a1", "b9", "c20"], 1),  # positions: the names are not numbers of one series
        ([f"ring_{315971768012624488 + 33333333 * t}" for t in range(3)], 1),  # time stamps
    ],
)
def test_the_stride_of_names_that_end_in_a_number(names, stride):
    assert median_stride(names, names) == stride


@pytest.mark.parametrize(("stated", "stride"), [(4, 4), (None, 1), ("x", 1), (0, 1)])
def test_a_stated_stride_is_that_of_the_complete_video(stated, stride):
    record = video(("a", "b", "c"))
    assert mask_stride(replace(record, origin={"mask_stride": stated})) == stride


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
