"""Videos that show the same frames: all are found, and no others."""

import io

import numpy as np
import pytest
from PIL import Image

from stmdata.auditing.duplicates import MAX_FRAMES, Pair, evenly, find_pairs
from stmdata.auditing.fingerprint import jpeg_thumb
from tests.paths import REAL, real_data


def thumbs(seed, count=8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 16, 16), dtype=np.uint8)


def test_shared_frames_are_counted_on_both_sides():
    first, second = thumbs(0), thumbs(1, 5)
    second[[1, 3]] = first[[2, 2]]
    noisy = np.clip(first.astype(int) + 5, 0, 255).astype(np.uint8)
    videos = [first, second, thumbs(2), noisy]
    assert find_pairs(videos, [""] * 4) == [Pair(0, 1, (1, 2)), Pair(0, 3, (8, 8)),
                                            Pair(1, 3, (2, 1))]  # fmt: skip


def test_clips_of_one_image_are_not_duplicates():
    videos = [thumbs(0), thumbs(0), thumbs(0)]
    assert [(p.first, p.second) for p in find_pairs(videos, ["a", "a", ""])] == [(0, 2), (1, 2)]


def test_many_copies_are_all_found():
    videos = [thumbs(0, 2) for _ in range(40)]
    found = {place for pair in find_pairs(videos, [""] * 40) for place in (pair.first, pair.second)}
    assert found == set(range(40))


def test_nothing_or_flat_frames_have_no_duplicates():
    flat = np.zeros((3, 16, 16), np.uint8)
    assert find_pairs([], []) == []
    assert find_pairs([flat, flat, flat[:0]], [""] * 3) == []


@pytest.mark.parametrize("count", [0, 1, 7, MAX_FRAMES, 500])
def test_compared_frames_are_spread_over_the_video(count):
    places = evenly(count)
    assert len(places) == len(set(places.tolist())) == min(count, MAX_FRAMES)
    if count:
        assert (places[0], places[-1]) == (0, count - 1)


@real_data
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_real_frames_are_found_at_half_size_and_quality_50(step):
    paths = sorted(REAL.glob("davis2016/JPEGImages/480p/*/*.jpg"))
    paths += sorted(REAL.glob("coco/*2017/*.jpg")) + sorted(REAL.glob("ecssd/images/*.jpg"))
    paths = paths[::step]
    groups = [path.parent.name if "davis" in str(path) else str(path) for path in paths]
    originals, copies = [], []
    for path in paths:
        image = Image.open(path).convert("RGB")
        out = io.BytesIO()
        image.resize((image.width // 2, image.height // 2)).save(out, "JPEG", quality=50)
        originals.append(jpeg_thumb(path.read_bytes(), "")[1][None])
        copies.append(jpeg_thumb(out.getvalue(), "")[1][None])
    count = len(paths)
    pairs = find_pairs(originals + copies, [""] * (2 * count))
    found = sum(pair.second - pair.first == count for pair in pairs)
    assert found >= 0.99 * count
    assert all(groups[pair.first % count] == groups[pair.second % count] for pair in pairs)
