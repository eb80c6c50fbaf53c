"""Evaluation end to end: the protocols, late objects, resampled masks, shards like trees."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stmtrain.datasets.packed import packed_set
from stmtrain.datasets.protocol import YOUTUBE_VOS
from stmtrain.datasets.video_set import given_objects
from stmtrain.errors import DataError
from stmtrain.images.encode import encode_mask
from stmtrain.inference.evaluate import Timing, predict_video
from stmtrain.inference.options import Inference
from stmtrain.model import STM
from tests.datasets.trees import SIZE, box, draw_folder, open_folder
from tests.inference.evaluating import DAVIS_2016, DAVIS_2017, YOUTUBE, ids_in, pngs, run
from tests.paths import REAL, real_data
from tests.sets import pack_davis, pack_youtube_vos

pytestmark = pytest.mark.usefixtures("loaded_once")


def test_davis_from_shards_is_the_same_to_the_byte(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    tree = run(checkpoint, DAVIS_2017.open(davis, "val"), tmp_path / "tree")
    pack_davis(davis, 2017, "val", tmp_path / "shards", workers=1)
    packed = run(checkpoint, packed_set(tmp_path / "shards"), tmp_path / "packed", workers=2)
    assert len(pngs(tmp_path / "tree")) == 8
    assert pngs(tmp_path / "tree") == pngs(tmp_path / "packed")
    assert tree.scores is not None
    assert packed.scores is not None
    assert tree.scores.to_mapping() == packed.scores.to_mapping()
    assert tree.protocol["frames_excluded"] == "first and last frame not scored"
    assert DAVIS_2017.open(davis, "val").identity() == packed_set(tmp_path / "shards").identity()


def test_davis_2016_has_one_object(checkpoint: Path, davis2016: Path, tmp_path: Path) -> None:
    videos = DAVIS_2016.open(davis2016, "val")
    evaluation = run(checkpoint, videos, tmp_path / "tree")
    assert evaluation.scores is not None
    assert [score.object_id for score in evaluation.scores.objects] == [1]
    pack_davis(davis2016, 2016, "val", tmp_path / "shards", workers=1)
    packed = run(checkpoint, packed_set(tmp_path / "shards"), tmp_path / "packed")
    assert pngs(tmp_path / "tree") == pngs(tmp_path / "packed")
    assert packed.scores is not None
    assert packed.scores.to_mapping() == evaluation.scores.to_mapping()


def test_youtube_vos_exports_the_required_frames_with_the_original_ids(
    checkpoint: Path, youtube: Path, tmp_path: Path
) -> None:
    videos = YOUTUBE.open(youtube, "valid")
    (video,) = videos.videos
    wanted = {name for names in video.required.values() for name in names}
    evaluation = run(checkpoint, videos, tmp_path / "tree")
    names = {Path(name).stem for name in pngs(tmp_path / "tree")}
    assert names == wanted
    assert evaluation.scores is None
    assert "no ground truth" in evaluation.protocol["frames_excluded"]
    for object_id, first in video.first_seen.items():
        assert object_id in ids_in(tmp_path / "tree" / video.name / f"{first}.png")
    pack_youtube_vos(youtube, "valid", tmp_path / "shards", workers=1)
    packed = packed_set(tmp_path / "shards")
    assert packed.protocol == YOUTUBE_VOS
    run(checkpoint, packed, tmp_path / "packed")
    assert pngs(tmp_path / "tree") == pngs(tmp_path / "packed")


def test_resized_shards_give_masks_of_the_original_size(
    checkpoint: Path, youtube: Path, tmp_path: Path
) -> None:
    pack_youtube_vos(youtube, "valid", tmp_path / "shards", 32, workers=1)
    evaluation = run(checkpoint, packed_set(tmp_path / "shards"), tmp_path / "out")
    assert "resized" in evaluation.protocol["notes"][0]
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == SIZE[::-1]


def test_an_object_is_given_by_the_first_mask_that_shows_it(model: STM, tmp_path: Path) -> None:
    late = box(5, 40)
    late[box(1, 4) > 0] = 1
    root = draw_folder(tmp_path / "t", {"00000": box(1, 4), "00002": late, "00004": box(200, 20)})
    (video,) = open_folder(root).videos
    assert dict(video.first_seen) == {1: "00000", 5: "00002", 200: "00004"}
    assert given_objects(video) == ({0: (1,), 2: (5,), 4: (200,)}, [])
    masks = dict(predict_video(model, video))
    assert list(masks) == [f"{t:05d}" for t in range(6)]
    assert (masks["00000"] == box(1, 4)).all()
    assert ((masks["00002"] == 5) == (late == 5)).all()
    assert ((masks["00004"] == 200) == (box(200, 20) == 200)).all()
    assert not np.isin(masks["00003"], [200]).any()


def test_masks_that_a_method_may_not_see_change_nothing(model: STM, tmp_path: Path) -> None:
    """Ground truth of later frames, and objects before ``meta.json`` gives them, stay unseen."""
    few = draw_folder(tmp_path / "few", {"00000": box(1, 4)})
    all_of_them = {f"{t:05d}": box(1, 4 + 6 * t) for t in range(6)}
    many = draw_folder(tmp_path / "many", all_of_them)
    results = [
        [mask for _, mask in predict_video(model, open_folder(root).videos[0])]
        for root in (few, many)
    ]
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def test_a_fully_annotated_plain_tree_is_scored(checkpoint: Path, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "t", {f"{t:05d}": box(3, 4 + t) for t in range(6)})
    scored = run(checkpoint, open_folder(root), tmp_path / "a").scores
    assert scored is not None
    assert [(s.object_id, len(s.frames)) for s in scored.objects] == [(3, 4)]
    late = {f"{t:05d}": box(3, 4) + box(8, 30) * (t > 2) for t in range(6)}
    root = draw_folder(tmp_path / "u", late)
    scored = run(checkpoint, open_folder(root), tmp_path / "b").scores
    assert scored is not None
    assert [(s.object_id, len(s.frames)) for s in scored.objects] == [(3, 5), (8, 2)]
    assert len(pngs(tmp_path / "b")) == 6


@pytest.mark.parametrize("cut", [(0, 1), (2, 0), (-1, 2)])
def test_a_mask_a_pixel_off_is_mended_and_named(
    checkpoint: Path, tmp_path: Path, cut: tuple[int, int]
) -> None:
    off = box(2, 40, (SIZE[0] - cut[0], SIZE[1] - cut[1]))
    root = draw_folder(tmp_path / "t", {"00000": box(1, 4), "00003": off})
    evaluation = run(checkpoint, open_folder(root), tmp_path / "out")
    assert "clip/00003" in evaluation.warnings[0]
    assert "warning: 1 masks differ" in evaluation.summary()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["protocol"]["masks_mended"] == ["clip/00003"]
    assert results["warnings"] == list(evaluation.warnings)
    assert 2 in ids_in(tmp_path / "out" / "clip" / "00003.png")


def test_an_object_is_not_given_before_meta_json_says_so(
    model: STM, youtube: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(youtube, tmp_path / "tree"))
    (video,) = YOUTUBE.open(root, "valid").videos
    names = sorted(set(video.first_seen.values()))
    assert len(names) > 1
    late = max(i for i, name in video.first_seen.items() if name == names[-1])
    path = root / "valid" / "Annotations" / video.name / f"{names[0]}.png"
    with Image.open(path) as image:
        mask = np.array(image)
    mask[:12, :12] = late
    path.write_bytes(encode_mask(mask))
    (changed,) = YOUTUBE.open(root, "valid").videos
    assert given_objects(changed) == given_objects(video)
    for name, predicted in predict_video(model, changed):
        assert late not in predicted or name >= names[-1]


def test_an_object_without_a_mask_is_reported(
    checkpoint: Path, youtube: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(youtube, tmp_path / "tree"))
    (video,) = YOUTUBE.open(root, "valid").videos
    object_id, first = max(video.first_seen.items())
    path = root / "valid" / "Annotations" / video.name / f"{first}.png"
    with Image.open(path) as image:
        mask = np.array(image)
    mask[mask == object_id] = 0
    path.write_bytes(encode_mask(mask))
    evaluation = run(checkpoint, YOUTUBE.open(root, "valid"), tmp_path / "out")
    assert evaluation.warnings == (
        f"video {video.name}: object {object_id} is in no mask; it stays background",
    )


def test_frames_of_two_sizes_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "t", {"00000": box(1, 4)})
    odd = root / "JPEGImages" / "clip" / "00002.jpg"
    Image.new("RGB", (60, 48)).save(odd)
    with pytest.raises(DataError, match=r"00002.jpg: expected 64x48 .* found 60x48"):
        run(checkpoint, open_folder(root), tmp_path / "out")
    assert not (tmp_path / "out" / "clip").exists()
    assert not list((tmp_path / "out").glob(".*"))


def test_waiting_for_frames_is_not_the_networks_time(model: STM, tmp_path: Path) -> None:
    (video,) = open_folder(draw_folder(tmp_path / "t", {"00000": box(1, 4)})).videos

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(video, name)

        def read_frame(self, name: str) -> NDArray[np.uint8]:
            time.sleep(0.3)
            return video.read_frame(name)

    timing = Timing()
    began = time.perf_counter()
    assert len(list(predict_video(model, Slow(), timing=timing))) == 6  # type: ignore[arg-type]
    elapsed = time.perf_counter() - began
    assert timing.network > 0
    assert timing.waiting > 0.3
    assert timing.waiting + timing.network < elapsed


@real_data
def test_real_late_objects(checkpoint: Path, tmp_path: Path) -> None:
    videos = open_folder(REAL / "late_objects")
    assert videos.misfits == ("judo/00005",)
    evaluation = run(checkpoint, videos, tmp_path / "out", options=Inference(size=32))
    assert evaluation.protocol["videos_with_late_objects"] == 1
    for t, given in ((0, 1), (5, 2), (8, 3), (13, 4)):
        with Image.open(tmp_path / "out" / "judo" / f"{t:05d}.png") as image:
            assert image.size == (854, 480)
            found = np.asarray(image)
        assert set(np.unique(found)) <= set(range(given + 1))
        assert (found == given).any()
