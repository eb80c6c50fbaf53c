"""Evaluation end to end: the protocols, late objects, mended masks, shards as trees, resuming."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

import cli
from stmdata.drawn.trees import draw_davis, draw_youtube_vos
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.folder import folder_set
from stmtrain.datasets.packed import ShardVideo, packed_set
from stmtrain.datasets.protocol import YOUTUBE_VOS
from stmtrain.datasets.video_set import VideoSet, given_objects
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.inference import evaluate as evaluate_module
from stmtrain.inference.evaluate import Timing, evaluate, predict_video
from stmtrain.inference.options import Inference
from stmtrain.inference.results import STATE_NAME
from stmtrain.inference.summary import Evaluation
from stmtrain.model import STM
from stmtrain.shards.sample import SampleRecord
from tests.paths import REAL, real_data
from tests.sets import pack_davis, pack_youtube_vos

SIZE = (48, 64)
DAVIS_2016, DAVIS_2017, YOUTUBE = map(find_dataset, ("davis2016", "davis2017", "youtube-vos"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "r18.pth"
    torch.save(STM("resnet18").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def model() -> STM:
    torch.manual_seed(0)
    return STM("resnet18").eval()


@pytest.fixture(autouse=True)
def _loaded_once(model: STM, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = {"file": "r18.pth", "backbone": "resnet18", "recipe": None, "trained": "nothing"}
    monkeypatch.setattr(evaluate_module, "load_model_and_origin", lambda _: (model, origin))
    monkeypatch.setattr(evaluate_module, "_sha256", lambda path: path.name)


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_davis(
        tmp_path_factory.mktemp("davis"), videos=3, val=2, frames=4, size=SIZE, ids=(2, 7, 9)
    )


@pytest.fixture(scope="module")
def davis2016(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("davis2016")
    return draw_davis(root, 2016, videos=2, val=1, frames=4, size=SIZE)


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_youtube_vos(tmp_path_factory.mktemp("youtube"), frames=11, size=SIZE)


def draw_plain(root: Path, masks: dict[str, NDArray[np.uint8]], frames: int = 6) -> Path:
    """A tree of one video, ``clip``, with the given masks."""
    rng = np.random.default_rng(0)
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "clip").mkdir(parents=True)
    for t in range(frames):
        pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "JPEGImages" / "clip" / f"{t:05d}.jpg")
    for name, mask in masks.items():
        (root / "Annotations" / "clip" / f"{name}.png").write_bytes(encode_mask(mask))
    return root


def box(object_id: int, left: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    mask[10:40, left : left + 16] = object_id
    return mask


def run(checkpoint: Path, videos: VideoSet, out: Path, **more: object) -> Evaluation:
    return evaluate(checkpoint, videos, out, device=CPU, **more)  # type: ignore[arg-type]


def pngs(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.png"))}


def ids_in(path: Path) -> set[int]:
    with Image.open(path) as image:
        assert image.mode == "P"
        return set(np.unique(np.asarray(image)).tolist())


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


def test_youtube_vos_reads_all_frames_where_they_are(youtube: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(youtube, tmp_path / "tree"))
    assert YOUTUBE.open(root, "valid").notes == ("frames from valid; there is no valid_all_frames",)
    (sparse,) = YOUTUBE.open(root, "valid").videos
    folder = root / "valid_all_frames" / "JPEGImages" / sparse.name
    first = root / "valid" / "JPEGImages" / sparse.name / f"{next(iter(sparse.frames))}.jpg"
    folder.mkdir(parents=True)
    for t in range(int(max(sparse.frames)) + 1):
        shutil.copy(first, folder / f"{t:05d}.jpg")
    for split in ("valid", "valid_all_frames"):
        videos = YOUTUBE.open(root, split)
        assert videos.notes == ("frames from valid_all_frames",)
        assert videos.dataset == "YouTube-VOS valid"
        (video,) = videos.videos
        assert len(video.frames) == int(max(sparse.frames)) + 1
        assert YOUTUBE_VOS.exported(video) == YOUTUBE_VOS.exported(sparse)


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
    root = draw_plain(tmp_path / "t", {"00000": box(1, 4), "00002": late, "00004": box(200, 20)})
    (video,) = folder_set(root).videos
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
    few = draw_plain(tmp_path / "few", {"00000": box(1, 4)})
    all_of_them = {f"{t:05d}": box(1, 4 + 6 * t) for t in range(6)}
    many = draw_plain(tmp_path / "many", all_of_them)
    results = [
        [mask for _, mask in predict_video(model, folder_set(root).videos[0])]
        for root in (few, many)
    ]
    assert all((a == b).all() for a, b in zip(*results, strict=True))


def test_a_fully_annotated_plain_tree_is_scored(checkpoint: Path, tmp_path: Path) -> None:
    root = draw_plain(tmp_path / "t", {f"{t:05d}": box(3, 4 + t) for t in range(6)})
    scored = run(checkpoint, folder_set(root), tmp_path / "a").scores
    assert scored is not None
    assert [(s.object_id, len(s.frames)) for s in scored.objects] == [(3, 4)]
    late = {f"{t:05d}": box(3, 4) + box(8, 30) * (t > 2) for t in range(6)}
    root = draw_plain(tmp_path / "u", late)
    scored = run(checkpoint, folder_set(root), tmp_path / "b").scores
    assert scored is not None
    assert [(s.object_id, len(s.frames)) for s in scored.objects] == [(3, 5), (8, 2)]
    assert len(pngs(tmp_path / "b")) == 6


def test_masks_of_0_and_255_are_one_object(tmp_path: Path) -> None:
    root = draw_plain(tmp_path / "t", {"00001": box(255, 4)})
    (video,) = folder_set(root).videos
    assert video.binary
    assert given_objects(video) == ({1: (1,)}, [])


@pytest.mark.parametrize("cut", [(0, 1), (2, 0), (-1, 2)])
def test_a_mask_a_pixel_off_is_mended_and_named(
    checkpoint: Path, tmp_path: Path, cut: tuple[int, int]
) -> None:
    off = box(2, 40, (SIZE[0] - cut[0], SIZE[1] - cut[1]))
    root = draw_plain(tmp_path / "t", {"00000": box(1, 4), "00003": off})
    evaluation = run(checkpoint, folder_set(root), tmp_path / "out")
    assert "clip/00003" in evaluation.warnings[0]
    assert "warning: 1 masks differ" in evaluation.summary()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["protocol"]["masks_mended"] == ["clip/00003"]
    assert results["warnings"] == list(evaluation.warnings)
    assert 2 in ids_in(tmp_path / "out" / "clip" / "00003.png")


def test_a_mask_further_off_is_refused(tmp_path: Path) -> None:
    off = box(2, 40, (SIZE[0], SIZE[1] - 3))
    root = draw_plain(tmp_path / "t", {"00000": box(1, 4), "00003": off})
    with pytest.raises(DataError, match=r"clip/00003.png: expected a mask of 64x48 .*found 61x48"):
        folder_set(root)


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
    root = draw_plain(tmp_path / "t", {"00000": box(1, 4)})
    odd = root / "JPEGImages" / "clip" / "00002.jpg"
    Image.new("RGB", (60, 48)).save(odd)
    with pytest.raises(DataError, match=r"'clip', frame '00002': expected 64x48 .* found 60x48"):
        run(checkpoint, folder_set(root), tmp_path / "out")
    assert not (tmp_path / "out" / "clip").exists()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("stop_at", [0, 2, 5, 7])
def test_a_stopped_evaluation_is_continued(
    checkpoint: Path, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    run(checkpoint, videos, tmp_path / "whole")

    def stop(done: int, *_: object) -> None:
        if done == stop_at + 1:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, videos, out, progress=stop)
    finished = stop_at // 4
    assert len(list(out.rglob("*.png"))) == 4 * finished
    assert not (out / "results.json").exists()
    segmented = []

    def spy(model: STM, video: object, *more: object) -> object:
        segmented.append(video.name)  # type: ignore[attr-defined]
        return predict_video(model, video, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate_module, "predict_video", spy)
    evaluation = run(checkpoint, videos, out)
    assert segmented == [video.name for video in videos.videos][finished:]
    assert evaluation.kept == finished
    assert pngs(out) == pngs(tmp_path / "whole")


def test_a_finished_evaluation_keeps_its_numbers(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    first = run(checkpoint, videos, tmp_path / "out")
    again = run(checkpoint, videos, tmp_path / "out")
    assert again.kept == 2
    assert again.frames_per_second == first.frames_per_second
    assert again.peak_memory == first.peak_memory
    assert "2 of 2 videos kept" in again.summary()


def test_a_video_that_is_not_recorded_is_made_again(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    out = tmp_path / "out"
    run(checkpoint, videos, out)
    before = pngs(out)
    record = json.loads((out / STATE_NAME).read_text())
    name = videos.videos[0].name
    del record["done"][name]
    (out / STATE_NAME).write_text(json.dumps(record))
    for path in (out / name).iterdir():
        path.write_bytes(encode_mask(box(2, 20)))
    assert run(checkpoint, videos, out).kept == 1
    assert pngs(out) == before


def test_waiting_for_frames_is_not_the_networks_time(model: STM, tmp_path: Path) -> None:
    (video,) = folder_set(draw_plain(tmp_path / "t", {"00000": box(1, 4)})).videos

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


@pytest.mark.parametrize(("dataset", "seen"), [("own", {4: "b", 9: "c"}), ("davis2017", {})])
def test_shards_say_when_objects_appear(dataset: str, seen: dict[int, str]) -> None:
    """In DAVIS the first frame gives all objects; elsewhere the first mask that shows them."""
    origin = {"dataset": dataset}
    areas = ((0, 5, 5), (0, 0, 7))
    record = SampleRecord(
        "x", 8, 8, ("a", "b", "c"), ("a", "b", "c"), (4, 9), areas, (8, 8), origin
    )
    video = ShardVideo(Path(), 0, record, None)  # type: ignore[arg-type]
    assert video.first_seen == seen
    first = SampleRecord("x", 8, 8, ("a", "b"), ("a",), (4,), ((5,),), (8, 8), origin)
    assert ShardVideo(Path(), 0, first, None).first_seen == {}  # type: ignore[arg-type]


def test_a_torn_png_is_made_again(checkpoint: Path, davis: Path, tmp_path: Path) -> None:
    videos = DAVIS_2017.open(davis, "val")
    run(checkpoint, videos, tmp_path / "out")
    before = pngs(tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*.png"))
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    paths[-1].unlink()
    assert run(checkpoint, videos, tmp_path / "out").kept == 0
    assert pngs(tmp_path / "out") == before


def test_other_settings_are_refused_unless_overwritten(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(checkpoint, DAVIS_2017.open(davis, "trainval"), out)
    kept = pngs(out)
    with pytest.raises(UsageError, match=r"other settings \(dataset DAVIS 2017 trainval -> "):
        run(checkpoint, DAVIS_2017.open(davis, "val"), out)
    options = Inference(memory_every=2)
    with pytest.raises(UsageError, match=r"memory_every 5 -> 2.*--overwrite"):
        run(checkpoint, DAVIS_2017.open(davis, "trainval"), out, options=options)
    assert pngs(out) == kept
    (out / "notes.txt").write_text("mine")
    run(checkpoint, DAVIS_2017.open(davis, "val"), out, options=options, overwrite=True)
    assert len(pngs(out)) == 8
    assert (out / "notes.txt").read_text() == "mine"


def test_masks_of_unknown_origin_are_not_mixed_in(
    checkpoint: Path, davis: Path, tmp_path: Path
) -> None:
    videos = DAVIS_2017.open(davis, "val")
    folder = tmp_path / "out" / videos.videos[0].name
    folder.mkdir(parents=True)
    (folder / "00000.png").write_bytes(encode_mask(box(1, 4)))
    with pytest.raises(UsageError, match=r"masks .* of unknown settings"):
        run(checkpoint, videos, tmp_path / "out")
    (tmp_path / "out" / STATE_NAME).write_text('{"format": "stm-evaluation"}')
    with pytest.raises(DataError, match="expected the state of an evaluation"):
        run(checkpoint, videos, tmp_path / "out")


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_the_command_says_how_the_numbers_came_about(
    checkpoint: Path, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    out = tmp_path / "out"
    base = ("eval", "--checkpoint", checkpoint, "--davis", davis, "--out", out, "--device", "cpu")
    more = ("--memory-every", 2, "--memory-frames", 3, "--top-k", 4, "--flip", "--scales", "1,1.5")
    done = stm(*base, *more, "--workers", 1)
    assert done.exit_code == 0, done.output
    for words in (
        "memory every 2 frames, at most 3 frames in it, the best 4 positions read",
        "scale 1 + scale 1.5 + mirrored, float32",
        "first and last frame not scored",
        "resnet18 after unknown training",
        "frames/s in the network",
        "GiB peak of the process (no GPU)",
    ):
        assert words in done.output
    protocol = json.loads((out / "results.json").read_text())["protocol"]
    assert protocol["memory_every"] == 2
    assert protocol["scales"] == [1.0, 1.5]
    assert protocol["masks_mended"] == []


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        ((), 2, ("expected one of --davis", "found none of them")),
        (("--davis", "{davis}", "--videos", "x"), 2, ("--davis and --videos",)),
        (("--videos", "missing"), 1, ("missing/JPEGImages", "expected a folder")),
        (("--shards", "missing"), 1, ("missing", "expected a folder of shards")),
        (("--shards", "ftp://host/x"), 2, ("ftp://host/x",)),
        (("--videos", "x", "--split", "val"), 2, ("--split", "--videos has no splits")),
        (("--youtube-vos", "missing"), 1, ("missing/valid/JPEGImages",)),
        (("--davis", "{davis}", "--split", "test-dev"), 1, ("2017/test-dev.txt",)),
        (("--davis", "{davis}", "--memory-every", "0"), 2, ("--memory-every", "at least 1")),
        (("--davis", "{davis}", "--scales", "1,x"), 2, ("--scales", "'1,x'")),
        (("--davis", "{davis}", "--scales", "0"), 2, ("--scales", "above 0")),
        (("--davis", "{davis}", "--precision", "half"), 2, ("--precision", "bfloat16")),
        (("--davis", "{davis}", "--export", "x.tar"), 2, ("x.tar", "ends in .zip")),
    ],
)
def test_wrong_usage_is_one_line(
    checkpoint: Path,
    davis: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
) -> None:
    given = [word.replace("{davis}", str(davis)) for word in words]
    result = stm("eval", "--checkpoint", checkpoint, "--out", tmp_path / "o", *given)
    lines = [line for line in result.output.splitlines() if line.startswith("stm: ")]
    assert result.exit_code == code, result.output
    assert len(lines) == 1
    for part in parts:
        assert part in lines[0]
    assert not (tmp_path / "o").exists()


@real_data
def test_real_late_objects(checkpoint: Path, tmp_path: Path) -> None:
    videos = folder_set(REAL / "late_objects")
    assert videos.misfits == ("judo/00005",)
    evaluation = run(checkpoint, videos, tmp_path / "out", options=Inference(size=32))
    assert evaluation.protocol["videos_with_late_objects"] == 1
    for t, given in ((0, 1), (5, 2), (8, 3), (13, 4)):
        with Image.open(tmp_path / "out" / "judo" / f"{t:05d}.png") as image:
            assert image.size == (854, 480)
            found = np.asarray(image)
        assert set(np.unique(found)) <= set(range(given + 1))
        assert (found == given).any()
