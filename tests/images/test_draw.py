"""Pictures of clips: masks land where they are, nothing is lost, files are whole."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmtrain.errors import StmError
from stmtrain.images.draw import (
    COLOURS,
    ClipView,
    area_texts,
    label_places,
    overlay,
    scale,
    strip,
)
from stmtrain.images.sheet import animation, contact_sheet, save_gif, save_png
from tests.profiles import examples


def square(height=60, width=80, number=1):
    mask = np.zeros((height, width), np.uint8)
    mask[10:40, 20:60] = number
    return mask


def view(frames=3, size=(60, 80), caption="clip", masked=True, number=1):
    mask = square(*size, number) if masked else None
    pictures = [np.full((*size, 3), 20 * i, np.uint8) for i in range(frames)]
    return ClipView(caption, [f"{i:05d}" for i in range(frames)], pictures, [mask] * frames, [1])


def test_colours_are_distinct_and_visible():
    assert len({tuple(c) for c in COLOURS[:64].tolist()}) == 64
    assert COLOURS[1:].max(axis=1).min() >= 85
    assert COLOURS[1].argmax() == 0
    assert COLOURS[2].argmax() == 1


def test_overlay_touches_the_object_only():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 80, 3), np.uint8)
    mask = square()
    before = frame.copy()
    out = overlay(frame, mask, ids=False)
    assert np.array_equal(frame, before)
    assert np.array_equal(out[mask == 0], frame[mask == 0])
    assert np.array_equal(out[10, 20:60], np.broadcast_to(COLOURS[1], (40, 3)))
    inner = np.zeros(mask.shape, bool)
    inner[12:38, 22:58] = True
    expected = 0.55 * frame[inner] + 0.45 * COLOURS[1]
    assert np.abs(out[inner] - expected).max() <= 0.5001


def test_overlay_draws_a_contour_between_touching_objects():
    mask = np.ones((20, 20), np.uint8)
    mask[:, 10:] = 2
    out = overlay(np.zeros((20, 20, 3), np.uint8), mask, ids=False)
    assert np.array_equal(out[:, 9], np.broadcast_to(COLOURS[1], (20, 3)))
    assert np.array_equal(out[:, 10], np.broadcast_to(COLOURS[2], (20, 3)))
    assert not np.array_equal(out[:, 0], out[:, 9])


def test_overlay_writes_ids_on_objects_and_not_on_void():
    frame = np.zeros((60, 80, 3), np.uint8)
    written = (overlay(frame, square()) != overlay(frame, square(), ids=False)).any(axis=2)
    assert written.any()
    assert not written[square() == 0].any()
    void = square(number=255)
    assert np.array_equal(overlay(frame, void), overlay(frame, void, ids=False))


def test_overlay_without_a_mask_and_with_an_empty_one_is_the_frame():
    frame = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    assert np.array_equal(overlay(frame, None), frame)
    assert np.array_equal(overlay(frame, np.zeros((9, 7), np.uint8)), frame)
    with pytest.raises(ValueError, match=r"expected a mask of \(9, 7\), found \(9, 8\)"):
        overlay(frame, np.zeros((9, 8), np.uint8))


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.02, 0.5, 1.0]),
)
@examples(60)
def test_every_id_gets_a_place_on_itself(height, width, seed, share):
    rng = np.random.default_rng(seed)
    ids = rng.choice([1, 2, 9, 254, 255], (height, width))
    mask = np.where(rng.uniform(size=(height, width)) < share, ids, 0).astype(np.uint8)
    places = label_places(mask)
    assert set(places) == set(np.unique(mask).tolist()) - {0, 255}
    assert all(mask[place] == number for number, place in places.items())


def test_a_place_is_in_the_middle_of_the_larger_part():
    mask = np.zeros((60, 100), np.uint8)
    mask[5:45, 50:90] = 3
    mask[5:15, 5:15] = 3
    row, column = label_places(mask)[3]
    assert abs(row - 25) <= 2
    assert abs(column - 70) <= 2


def test_scaling_keeps_every_object_and_its_share():
    mask = square(number=7)
    mask[1, 1] = 9
    frame, small = scale(np.zeros((60, 80, 3), np.uint8), mask, (30, 40))
    assert frame.shape == (30, 40, 3)
    assert set(np.unique(small)) == {0, 7, 9}
    assert abs((small > 0).mean() - (mask > 0).mean()) < 0.02
    assert scale(frame, None, (5, 5))[1] is None


def test_areas_are_stated_as_ranges():
    small = square()
    small[10:20] = 0
    assert area_texts([1, 2], [square(), None, small]) == ["800 to 1200 px", "0 px"]
    assert area_texts([1], [square()]) == ["1200 px"]
    assert area_texts([1], [None]) == ["0 px"]


def test_strip_puts_pictures_beside_each_other():
    a, b = np.full((4, 3, 3), 200, np.uint8), np.full((6, 5, 3), 100, np.uint8)
    out = strip([a, b], gap=2)
    assert out.shape == (6, 10, 3)
    assert np.array_equal(out[:4, :3], a)
    assert np.array_equal(out[:, 5:], b)
    assert out[4:, :3].max() < 50


def test_contact_sheet_shows_every_frame_and_wraps_long_clips():
    long, short = view(frames=8), view(frames=2, masked=False)
    sheet = contact_sheet([long, short], height=60, columns=6)
    one_line = contact_sheet([view(frames=6)], height=60, columns=6)
    assert sheet.shape[1] == one_line.shape[1]
    assert sheet.shape[0] > 3 * 60
    grey = [20 * i for i in range(8)]
    found = [((sheet == value).all(axis=2)).sum() for value in grey[1:]]
    assert min(found) > 60 * 80 * 0.5


def test_a_long_caption_and_many_ids_fit_on_the_sheet():
    wide = ClipView("x" * 64, ["0"], [np.zeros((20, 20, 3), np.uint8)], [None], list(range(1, 40)))
    sheet = contact_sheet([wide], height=20)
    legend_end = np.flatnonzero((sheet[:24].max(axis=2) > 60).any(axis=0)).max()
    assert legend_end < sheet.shape[1] - 2


def test_animation_has_one_size_and_repeats_shorter_clips():
    steps = list(animation([[view(frames=4)], [view(frames=2, size=(80, 60))]], height=40))
    assert len(steps) == 4
    assert len({s.shape for s in steps}) == 1
    right = [s[:, s.shape[1] // 2 + 20 :] for s in steps]
    assert np.array_equal(right[0], right[2])
    assert not np.array_equal(right[0], right[1])


def test_views_of_a_clip_are_side_by_side_and_clips_below_each_other():
    clip = [view(frames=1), view(frames=1)]
    (one,), (two,) = animation([clip], height=40), animation([clip, clip], height=40)
    assert two.shape == (2 * one.shape[0], one.shape[1], 3)
    (alone,) = animation([clip[:1]], height=40)
    assert one.shape == (alone.shape[0], 2 * alone.shape[1], 3)


def test_a_sheet_states_where_clips_come_from():
    plain = contact_sheet([view()], height=60)
    stated = contact_sheet([replace(view(), about=["set/a.tar", *["image b"] * 40])], height=60)
    assert stated.shape[1] == plain.shape[1]
    assert stated.shape[0] > plain.shape[0] + 3 * 18


def test_saved_files_read_back(tmp_path):
    steps = list(animation([[view(frames=4)]], height=40))
    save_gif(tmp_path / "new" / "clip.gif", steps, milliseconds=80)
    save_png(tmp_path / "sheet.png", steps[0])
    with Image.open(tmp_path / "sheet.png") as image:
        assert np.array_equal(np.asarray(image), steps[0])
    with Image.open(tmp_path / "new" / "clip.gif") as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (4, 80, 0)
        for i, step in enumerate(steps):
            image.seek(i)
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - step).mean() < 6
    assert sorted(p.name for p in tmp_path.rglob("*.*")) == ["clip.gif", "sheet.png"]


def test_equal_gif_steps_are_all_kept(tmp_path):
    picture = contact_sheet([view(frames=1)], height=20)
    save_gif(tmp_path / "still.gif", [picture] * 3)
    with Image.open(io.BytesIO((tmp_path / "still.gif").read_bytes())) as image:
        total = 0
        for i in range(image.n_frames):
            image.seek(i)
            total += image.info["duration"]
    assert total == 3 * 120


def test_a_target_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StmError, match=r"a\.png: cannot be written"):
        save_png(tmp_path / "file" / "a.png", np.zeros((2, 2, 3), np.uint8))
