"""The hardest clips come first, by what makes them hard."""

import numpy as np
import pytest

from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.images.masks import areas
from stmtrain.preview.stored import in_order, stored_clips
from stmtrain.preview.worst import MOST_MEASURED, Worst, parse_worst, worst_places
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from tests.drawn_samples import write

BOX = (20, 10, 30, 60)
"""Top, left, height, width of a calm object in a frame of 80x100."""
CLIPS = {
    "calm": [BOX, BOX, BOX],
    "small": [(20, 20, 3, 4), (20, 20, 3, 4), (20, 20, 3, 4)],
    "fast": [BOX, (49, 30, 30, 60), BOX],
    "hidden": [BOX, (20, 10, 30, 6), BOX],
    "leaving": [BOX, (20, 98, 30, 2), (20, 98, 30, 2)],
    "gone": [BOX, None, None],
    "empty": [None, None, None],
}


def drawn(key: str) -> Sample:
    masks = {}
    for t, box in enumerate(CLIPS[key]):
        mask = masks[f"{t:05d}"] = np.zeros((80, 100), np.uint8)
        if box is not None:
            top, left, height, width = box
            mask[top : top + height, left : left + width] = 3
    counts = {name: areas(mask) for name, mask in masks.items()}
    size = (80, 100)
    record = SampleRecord.of(key, list(masks), counts, size=size, original_size=size, origin={})
    frame = encode_frame(np.zeros((*size, 3), np.uint8), 90)
    return Sample(
        record, dict.fromkeys(masks, frame), {n: encode_mask(m) for n, m in masks.items()}
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    folder = tmp_path_factory.mktemp("worst") / "set"
    return ShardSet.open(write(folder, [drawn(key) for key in CLIPS]))


@pytest.mark.parametrize(
    ("worst", "first", "text"),
    [
        (Worst.SMALL, "small", "covers 0.150% of a frame"),
        (Worst.MOTION, "leaving", "moves by 0.74 short sides"),
        (Worst.OCCLUSION, "hidden", "changes by 90%"),
        (Worst.VANISH, "gone", "absent in 100% of the masks"),
    ],
)
def test_each_measure_finds_its_clip(shards: ShardSet, worst: Worst, first: str, text: str) -> None:
    counted: list[tuple[int, int]] = []
    places = in_order([shards])
    found = worst_places(
        [shards], places, worst, lambda done, total, _: counted.append((done, total))
    )
    keys = [list(CLIPS)[index] for _, index in found]
    assert keys[0] == first
    assert "empty" not in keys
    assert counted[-1] == (7, 7)
    (view,) = stored_clips([shards], list(found), None, notes=found)[0]
    assert view.caption == first
    assert text in view.about[0]
    values = worst_places([shards], places[::-1], worst, lambda *_: None)
    assert values == found


def test_an_object_that_leaves_the_frame_is_not_occluded(shards: ShardSet) -> None:
    found = worst_places([shards], in_order([shards]), Worst.OCCLUSION, lambda *_: None)
    assert (0, list(CLIPS).index("leaving")) not in found


def test_large_sets_are_measured_in_part(shards: ShardSet) -> None:
    many = [(0, 0)] * MOST_MEASURED + [(0, 1)]
    counted: list[int] = []
    worst_places([shards], many, Worst.SMALL, lambda done, *_: counted.append(done))
    assert counted[-1] == MOST_MEASURED


def test_a_set_without_objects_and_other_names_are_refused(shards: ShardSet) -> None:
    empty = [(0, list(CLIPS).index("empty"))]
    with pytest.raises(DataError, match="--worst small: none of 1 clips has an object"):
        worst_places([shards], empty, Worst.SMALL, lambda *_: None)
    with pytest.raises(UsageError, match=r"--worst: expected one of small, .* found 'x'"):
        parse_worst("x")
