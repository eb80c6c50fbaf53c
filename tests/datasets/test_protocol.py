"""Which frames are exported and scored."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stmtrain.datasets.protocol import DAVIS, LATE_OBJECTS, YOUTUBE_VOS, given_ids
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError
from stmtrain.images.encode import encode_mask
from tests.datasets.trees import box

NAMES = ("a", "b", "c", "d", "e")
Draw = Callable[..., Video]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Makes a video of five frames; ``masks`` names those that have a mask, of objects 3 and 7."""

    def video(masks: str = "abcde", **more: object) -> Video:
        for name in masks:
            (tmp_path / f"{name}.png").write_bytes(encode_mask(box(3, 4) + box(7, 30)))
        files = {name: tmp_path / f"{name}.png" for name in masks}
        return Video("v", dict.fromkeys(NAMES, tmp_path), files, **more)  # type: ignore[arg-type]

    return video


def test_davis_scores_all_frames_but_the_first_and_the_last(draw: Draw) -> None:
    video = draw()
    assert DAVIS.scored_frames(video) == {3: ("b", "c", "d"), 7: ("b", "c", "d")}
    assert DAVIS.exported(video) == NAMES
    assert DAVIS.has_truth(video)
    assert DAVIS.frames_excluded == ("first", "last")
    assert given_ids(draw(binary=True)) == [1]


def test_late_objects_are_scored_after_the_frame_that_gives_them(draw: Draw) -> None:
    required = {3: ("a", "c"), 7: ("c", "d", "e"), 9: ("e",)}
    first_seen = {i: names[0] for i, names in required.items()}
    video = draw("acde", first_seen=first_seen, required=required)
    for protocol in (LATE_OBJECTS, YOUTUBE_VOS):
        assert protocol.scored_frames(video) == {3: ("c",), 7: ("d", "e")}
        assert protocol.has_truth(video)
        assert protocol.frames_excluded == ("each object's first",)
    assert LATE_OBJECTS.exported(video) == NAMES
    assert YOUTUBE_VOS.exported(video) == ("a", "c", "d", "e")
    assert given_ids(video) == [3, 7, 9]


@pytest.mark.parametrize("protocol", [DAVIS, YOUTUBE_VOS])
def test_a_scored_frame_without_ground_truth_is_named(draw: Draw, protocol: object) -> None:
    required = {3: ("a", "b", "d")}
    video = draw("abc", first_seen={3: "a"}, required=required)
    assert not protocol.has_truth(video)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"'v': .* found none for .*'d'.* server"):
        protocol.scored_frames(video)  # type: ignore[attr-defined]


def test_nothing_to_score_is_no_ground_truth(draw: Draw) -> None:
    once = draw(first_seen={3: "a"}, required={3: ("a",)})
    assert not YOUTUBE_VOS.has_truth(once)
    assert YOUTUBE_VOS.scored_frames(once) == {}
