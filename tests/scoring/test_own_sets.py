"""Scoring of sets of one's own: kinds of masks mixed, ground truth of some frames, short videos."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmtrain.errors import DataError
from stmtrain.images.encode import encode_frame
from stmtrain.report.comparison import compare
from stmtrain.scoring.score import score_results
from tests.datasets.trees import open_folder
from tests.profiles import examples

SIZE = (24, 32)


def boxes(t: int, ids: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for k, object_id in enumerate(ids):
        mask[3 + 7 * k : 8 + 7 * k, 4 + 2 * t : 12 + 2 * t] = object_id
    return mask


def draw(
    root: Path, name: str, ids: tuple[int, ...], frames: int, masked: set[int]
) -> dict[str, np.ndarray]:
    """Draw a video whose frames in ``masked`` have a mask, and results of every frame."""
    folders = [root / kind / name for kind in ("JPEGImages", "Annotations", "results")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for t in range(frames):
        jpeg = encode_frame(np.full((*SIZE, 3), 90, np.uint8), 90)
        (folders[0] / f"{t:05d}.jpg").write_bytes(jpeg)
        mask = boxes(t, ids)
        if t in masked:
            Image.fromarray(mask).save(folders[1] / f"{t:05d}.png")
        Image.fromarray(np.roll(mask, 1, axis=1)).save(folders[2] / f"{t:05d}.png")
    return {f"{t:05d}": boxes(t, ids) for t in masked}


KINDS = st.sampled_from([(255,), (1, 2), (7,)])
VIDEOS = st.lists(
    st.tuples(KINDS, st.integers(1, 5), st.sets(st.integers(0, 4))),
    min_size=1,
    max_size=3,
)


@given(drawn=VIDEOS)
@examples(25)
def test_every_video_is_scored_or_named_with_a_reason(
    drawn: list[tuple[tuple[int, ...], int, set[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("own")
    late = expected = 0
    for number, (ids, frames, masked) in enumerate(drawn):
        masked = {t for t in masked if t < frames} or {0}
        late |= min(masked) > 0
        draw(root, f"v{number}", ids, frames, masked)
    names = set()
    for number, (ids, frames, masked) in enumerate(drawn):
        masked = {t for t in masked if t < frames} or {0}
        counted = [t for t in masked if t > min(masked) and (late or t < frames - 1)]
        if counted and (late or frames > 2):
            names.add(f"v{number}")
            expected += len(ids)
    if not names:
        with pytest.raises(DataError, match=r"of \d videos cannot be scored; v\d: ") as caught:
            score_results(root / "results", open_folder(root))
        assert "server" not in str(caught.value)
        return
    scores = score_results(root / "results", open_folder(root))
    assert set(scores.videos()) == names
    assert len(scores.objects) == expected
    assert set(scores.unscored) == {f"v{i}" for i in range(len(drawn))} - names
    assert scores.j.mean == pytest.approx(7 / 9), "the same shift everywhere"
    assert f"{len(names)} of {len(drawn)} videos scored, {expected} objects" in scores.extent()
    assert sum(": not scored, " in note for note in scores.notes) == len(scores.unscored)
    assert scores.protocol()["videos_not_scored"] == dict(scores.unscored)
    report = compare({"r": root / "results"}, open_folder(root))
    assert {video.name for video in report.videos} == names


def test_what_cannot_be_scored_says_why(tmp_path: Path) -> None:
    draw(tmp_path, "short", (1,), 2, {0, 1})
    draw(tmp_path, "bare", (1,), 5, {0})
    draw(tmp_path, "blank", (), 5, {0})
    with pytest.raises(
        DataError, match=r"3 of 3 .* cannot be scored; blank: .*; bare: .*; short: "
    ):
        score_results(tmp_path / "results", open_folder(tmp_path))
    draw(tmp_path, "long", (3, 4), 5, {0, 2, 4})
    scores = score_results(tmp_path / "results", open_folder(tmp_path))
    assert scores.objects[0].frames == ("00002",)
    assert dict(scores.unscored) == {
        "blank": "no mask shows an object",
        "bare": "no ground truth for 3 of 3 frames that count, the first is '00001'; "
        "add the missing masks",
        "short": "expected 3 frames or more, found 2; first and last do not count",
    }


def test_results_that_are_the_ground_truth_are_pointed_out(tmp_path: Path) -> None:
    draw(tmp_path, "v", (1, 2), 5, set(range(5)))
    scores = score_results(tmp_path / "Annotations", open_folder(tmp_path))
    assert scores.j_and_f == 1
    assert "equals the ground truth; check that" in scores.notes[0]
    assert not score_results(tmp_path / "results", open_folder(tmp_path)).notes


def test_ground_truth_with_smooth_edges_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "a", (255,), 4, {0, 1, 2, 3})
    draw(tmp_path, "b", (255,), 4, {0, 1, 2, 3})
    for file in (tmp_path / "Annotations/b").iterdir():
        big = Image.open(file).resize((2 * SIZE[1], 2 * SIZE[0]), Image.NEAREST)
        shifted = np.roll(np.asarray(big), 1, axis=(0, 1))
        Image.fromarray(shifted).resize(SIZE[::-1], Image.BOX).save(file)
    notes = score_results(tmp_path / "results", open_folder(tmp_path)).notes
    assert [n for n in notes if "smooth" in n] == [
        "ground truth with smooth edges, thresholded at half: b"
    ]
