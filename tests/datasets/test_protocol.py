"""Which frames are exported and scored."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.datasets.protocol import (
    DAVIS,
    LATE_OBJECTS,
    OWN_VIDEOS,
    YOUTUBE_VOS,
    Protocol,
    given_ids,
)
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import NOTHING_COUNTS, VideoSet, why_not_scored
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
    assert why_not_scored(DAVIS, video) is None
    assert DAVIS.frames_excluded == ("first", "last")
    assert given_ids(draw(binary=True)) == [1]


def test_late_objects_are_scored_after_the_frame_that_gives_them(draw: Draw) -> None:
    required = {3: ("a", "c"), 7: ("c", "d", "e"), 9: ("e",)}
    first_seen = {i: names[0] for i, names in required.items()}
    video = draw("acde", first_seen=first_seen, required=required)
    for protocol, last, excluded in (
        (LATE_OBJECTS, ("e",), ("each object's first",)),
        (YOUTUBE_VOS, (), ("each object's first", "last")),
    ):
        scored = {3: ("c", "d", *last), 7: ("d", *last)}
        assert protocol.scored_frames(video) == scored, "frame b is asked of no object"
        assert why_not_scored(protocol, video) is None
        assert protocol.frames_excluded == excluded
    assert LATE_OBJECTS.exported(video) == NAMES
    assert YOUTUBE_VOS.exported(video) == ("a", "c", "d", "e")
    assert given_ids(video) == [3, 7, 9]


@pytest.mark.parametrize("protocol", [DAVIS, YOUTUBE_VOS])
def test_a_strict_protocol_needs_every_frame_that_counts(draw: Draw, protocol: Protocol) -> None:
    required = {3: ("a", "b", "d", "e")}
    why = why_not_scored(protocol, draw("abc", first_seen={3: "a"}, required=required))
    assert why is not None
    assert "no ground truth for 1 of " in why
    assert "'d'; add the missing masks" in why
    why = why_not_scored(protocol, draw("a", first_seen={3: "a"}, required=required))
    assert why is not None
    assert why.endswith("submit the results to its server")


@given(
    masked=st.sets(st.sampled_from(NAMES)),
    first=st.sampled_from(["", *NAMES]),
    frames=st.integers(1, 5),
)
def test_of_sparse_masks_those_of_frames_that_count_are_scored(
    masked: set[str], first: str, frames: int
) -> None:
    names = NAMES[:frames]
    given = first if first in names else ""
    path = Path("unused")
    masks = {name: path for name in names if name in masked or name == (given or names[0])}
    video = Video("v", dict.fromkeys(names, path), masks, first_seen={3: given} if given else {})
    if not given:
        video = replace(video, binary=True)  # its one object is known without reading a mask
    for protocol in (OWN_VIDEOS, LATE_OBJECTS):
        if given and protocol is OWN_VIDEOS:
            continue
        counted = names[names.index(given or names[0]) + 1 :]
        expected = tuple(n for n in counted if n in masks)
        if protocol is OWN_VIDEOS:
            expected = tuple(n for n in expected if n != names[-1])
        found = protocol.scored_frames(video)
        assert list(found.values()) == ([expected] if expected else [])
        why = why_not_scored(protocol, video)
        assert (why is None) == bool(expected), "a reason exactly where nothing is scored"
        assert why is None or "server" not in why


def test_nothing_to_score_is_no_missing_ground_truth(draw: Draw) -> None:
    once = draw("a", first_seen={3: "a"}, required={3: ("a",)})
    assert why_not_scored(YOUTUBE_VOS, once) == NOTHING_COUNTS
    assert YOUTUBE_VOS.scored_frames(once) == {}
    rest = draw("abc", first_seen={3: "a"}, required={3: ("a", "b", "c")})
    assert VideoSet("s", (once, rest), YOUTUBE_VOS).why_not_scored() is None
