"""Scoring of result folders: protocol, formats, errors, reports."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from stmdata.drawn.trees import draw_youtube_vos
from stmtrain.commands.console import SafeConsole
from stmtrain.datasets.dataset import Dataset, find_dataset
from stmtrain.datasets.protocol import DAVIS, YOUTUBE_VOS
from stmtrain.datasets.video import Video
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.scoring.metrics import j_and_f
from stmtrain.scoring.score import score_results, score_video
from stmtrain.scoring.scores import GLOBAL_COLUMNS
from tests.paths import GOLDEN, REAL, real_data

HEIGHT, WIDTH = 48, 64
VIDEOS = ("long", "short")


def discs(shift=0, ids=(1, 2), frames=6):
    """Label maps of discs that move right; ``shift`` pixels further down is a worse result."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    maps = []
    for t in range(frames):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for k, object_id in enumerate(ids):
            mask[(y - 14 - 18 * k - shift) ** 2 + (x - 12 - 5 * t - 9 * k) ** 2 < 64] = object_id
        maps.append(mask)
    return maps


def write(folder, masks, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks, start):
        (folder / f"{t:05d}.png").write_bytes(encode_mask(mask))


def video_set(videos, protocol=DAVIS, dataset=""):
    return VideoSet(dataset, tuple(videos), protocol)


def split_of(dataset: Dataset, root, split):
    """A split of a tree whose frames hold no picture, which ``Dataset.open`` would look at."""
    return video_set(dataset.videos(root, split), dataset.protocol, dataset.title_of(split))


def score_davis(results, root, year, split, **more):
    return score_results(results, split_of(find_dataset(f"davis{year}"), root, split), **more)


@pytest.fixture
def davis(tmp_path):
    """A DAVIS tree of two videos; ``long`` is binary in 2016 and has two objects in 2017."""
    root = tmp_path / "DAVIS"
    for name, masks in {"long": discs(frames=8), "short": discs(ids=(1,))}.items():
        write(root / "Annotations/480p" / name, masks)
        frames = root / "JPEGImages/480p" / name
        frames.mkdir(parents=True)
        for t in range(len(masks)):
            (frames / f"{t:05d}.jpg").write_bytes(b"")
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("long\nshort\n")
    return root


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    write(folder / "long", discs(2, frames=8))
    write(folder / "short", discs(3, ids=(1,)))
    return folder


def test_perfect_results_score_one_in_both_protocols(davis):
    for year, objects in ((2016, 2), (2017, 3)):
        scores = score_davis(davis / "Annotations/480p", davis, year, "val")
        assert len(scores.objects) == objects
        assert scores.j == scores.f == (1, 1, 0)
        assert scores.j_and_f == 1


def test_numbers_are_those_of_the_measures_without_first_and_last_frame(davis, results):
    scores = score_davis(results, davis, 2017, "val")
    assert [(s.video, s.object_id) for s in scores.objects] == [
        ("long", 1),
        ("long", 2),
        ("short", 1),
    ]
    second = scores.objects[1]
    assert second.frames == tuple(f"{t:05d}" for t in range(1, 7))
    expected = [
        j_and_f(got == 2, true == 2)
        for got, true in zip(discs(2, frames=8), discs(frames=8), strict=True)
    ][1:-1]
    assert list(zip(second.j_values, second.f_values, strict=True)) == expected
    assert scores.j.mean == np.mean([np.mean(s.j_values) for s in scores.objects])
    assert scores.j_and_f == (scores.j.mean + scores.f.mean) / 2
    assert scores.videos()["long"].objects == scores.objects[:2]


def test_first_and_last_frame_and_strange_ids_change_nothing(davis, results):
    before = score_davis(results, davis, 2017, "val")
    (results / "long/00000.png").unlink()
    (results / "long/00007.png").write_bytes(b"not an image")
    (results / "long/00008.png").write_bytes(b"of no frame")
    for path in (results / "long").glob("0000[1-6].png"):
        mask = np.array(Image.open(path))
        mask[0, :9] = 9
        mask[0, 9:12] = 255
        path.write_bytes(encode_mask(mask))
    after = score_davis(results, davis, 2017, "val")
    assert after == before
    assert after.notes == (
        "long: 9, 255 in up to 6 frames are none of its object ids (1, 2) and count as background",
        "long: 1 PNG files belong to no frame, the first is 00008.png",
    )
    assert after.to_mapping()["notes"] == list(after.notes)
    assert before.notes == ()


def test_masks_of_0_and_255_for_several_objects_are_noted(davis, results):
    for path in (results / "long").iterdir():
        Image.fromarray(255 * (np.array(Image.open(path)) > 0).astype(np.uint8)).save(path)
    scores = score_davis(results, davis, 2017, "val")
    assert scores.videos()["long"].j.mean == 0
    assert scores.notes[0].startswith("long: 255 in up to 6 frames")
    assert score_davis(results, davis, 2016, "val").notes == ()


@pytest.mark.parametrize("kind", ["grey ids", "0/255", "one bit", "grey with alpha"])
@pytest.mark.parametrize("year", [2016, 2017])
def test_every_kind_of_png_gives_the_same_scores(davis, results, year, kind):
    (davis / "ImageSets" / str(year) / "val.txt").write_text("short")
    before = score_davis(results, davis, year, "val")
    for path in (results / "short").iterdir():
        mask = np.array(Image.open(path))
        image = Image.fromarray(mask if kind == "grey ids" else 255 * mask)
        modes = {"one bit": "1", "grey with alpha": "LA"}
        (image.convert(modes[kind]) if kind in modes else image).save(path)
    assert score_davis(results, davis, year, "val") == before
    assert 0.5 < before.j_and_f < 1


def test_void_is_background_and_the_rule_is_stated(davis, results):
    folder = davis / "Annotations/480p/long"
    for path in sorted(folder.iterdir()):
        mask = np.array(Image.open(path))
        mask[np.array(Image.open(results / "long" / path.name)) != mask] = 255
        path.write_bytes(encode_mask(mask))
    scores = score_davis(results, davis, 2017, "val")
    assert scores.notes[0].startswith(
        "void in 6 scored frames: ground-truth pixels of 255 are back"
    )
    assert scores.protocol()["void"] in scores.notes[0]
    second = scores.objects[1]
    masks = [np.array(Image.open(folder / f"{name}.png")) for name in second.frames]
    own = [np.array(Image.open(results / "long" / f"{name}.png")) for name in second.frames]
    expected = [j_and_f(o == 2, m == 2) for o, m in zip(own, masks, strict=True)]
    assert list(zip(second.j_values, second.f_values, strict=True)) == expected
    assert 0 < scores.videos()["long"].j.mean < 1


def test_workers_and_progress(davis, results):
    (davis / "ImageSets/2017/val.txt").write_text("short\nlong\n")  # the longer one starts first
    seen = []
    alone = score_davis(results, davis, 2017, "val", progress=lambda *now: seen.append(now))
    assert seen == [(1, 2, ""), (2, 2, "")]
    assert score_davis(results, davis, 2017, "val", workers=2) == alone
    (results / "short/00002.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"short/00002.png: expected a mask PNG"):
        score_davis(results, davis, 2017, "val", workers=2)


def rewrite(path, mask):
    path.write_bytes(encode_mask(np.ascontiguousarray(mask)))


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda r: (r / "long/00003.png").unlink(),
            "of 6 scored frames, found none for 1, .* 00003.png",
        ),
        (lambda r: shutil.rmtree(r / "short"), "short: expected the results of video 'short'"),
        (lambda r: shutil.rmtree(r), "results: expected the folder of results"),
        (
            lambda r: rewrite(r / "long/00002.png", discs()[0][:, :40]),
            r"00002.png: expected 64x48 pixels .* found 40x48",
        ),
        (
            lambda r: Image.new("RGB", (WIDTH, HEIGHT), "red").save(r / "long/00002.png"),
            "00002.png: expected a palette or grey mask",
        ),
        (
            lambda r: [p.rename(p.with_name(f"frame{p.name}")) for p in (r / "long").iterdir()],
            r"found none for 6, .* but 8 others beside them, such as frame00000.png",
        ),
        (
            lambda r: (r / "480p").mkdir() or [(r / v).rename(r / "480p" / v) for v in VIDEOS],
            "results/long: .* found no folder; pass .*results/480p",
        ),
        (
            lambda r: (r / "long/00004.png").write_bytes((r / "long/00004.png").read_bytes()[:60]),
            "long/00004.png: expected a mask PNG",
        ),
    ],
)
def test_bad_results_are_named(davis, results, breakage, message):
    breakage(results)
    with pytest.raises(DataError, match=message):
        score_davis(results, davis, 2017, "val")


def test_ground_truth_that_cannot_be_scored_is_named(davis, results):
    (davis / "ImageSets/2017/test-dev.txt").write_text("long")
    (davis / "Annotations/480p/long/00004.png").unlink()
    with pytest.raises(
        DataError, match=r"for 1 of 6 frames that count, .* '00004'; add the missing masks"
    ):
        score_davis(results, davis, 2017, "test-dev")
    masks = {f"{t:05d}": davis / f"Annotations/480p/short/{t:05d}.png" for t in range(2)}
    with pytest.raises(DataError, match="short: expected 3 frames or more, found 2"):
        score_results(results, video_set([Video("short", masks, masks)]))
    masks = {f"{t:05d}": davis / f"Annotations/480p/short/{t:05d}.png" for t in range(6)}
    short = Video("short", masks, masks)
    rewrite(short.masks["00000"], np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(DataError, match="expected objects in the first mask"):
        score_results(results, video_set([short]))


def test_arguments_are_checked(davis, results):
    one = find_dataset("davis2017").videos(davis, "val")[0]
    with pytest.raises(UsageError, match="videos: expected"):
        score_results(results, video_set([]))
    with pytest.raises(UsageError, match="workers: expected 1 or more, found 0"):
        score_results(results, video_set([one]), workers=0)


def test_reports_agree_and_state_the_protocol(davis, results, tmp_path):
    scores = score_davis(results, davis, 2017, "val")
    report = scores.to_mapping()
    assert report["protocol"]["frames_excluded"] == ["first", "last"]
    assert report["protocol"]["memory_every"] is None
    assert report["protocol"]["dataset"] == "DAVIS 2017 val"
    assert report["protocol"]["frames_scored"] == 10
    assert report["global"]["J&F-Mean"] == scores.j_and_f
    assert report["objects"][1]["J"] == list(scores.objects[1].j_values)
    assert report["objects"][1]["F-Decay"] == scores.objects[1].f.decay
    assert report["videos"]["short"]["F-Mean"] == scores.objects[2].f.mean
    assert report["videos"]["short"]["J-Recall"] == scores.objects[2].j.recall
    assert all(set(GLOBAL_COLUMNS) <= set(of) for of in report["objects"])
    assert all(set(GLOBAL_COLUMNS) == set(of) for of in report["videos"].values())
    assert report["global"].keys() == report["videos"]["long"].keys()

    scores.write_csv(tmp_path / "csv", "val")
    head, row = (tmp_path / "csv" / "global_results-val.csv").read_text().splitlines()
    assert head == "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    assert row.split(",")[0] == f"{scores.j_and_f:.3f}"
    lines = (tmp_path / "csv" / "per-sequence_results-val.csv").read_text().splitlines()
    assert lines[0] == "Sequence,J-Mean,F-Mean"
    assert [line.split(",")[0] for line in lines[1:]] == ["long_1", "long_2", "short_1"]

    console = SafeConsole(width=80, file=io.StringIO())
    console.print(scores.table())
    text = console.file.getvalue()
    assert f"{100 * scores.j_and_f:.1f}" in text
    assert "short_1" in text
    assert "…" not in text


def test_decay_of_a_video_of_more_than_256_frames(tmp_path):
    truth = np.zeros((12, 16), np.uint8)
    truth[2:10, 2:10] = 1
    half = truth.copy()
    half[2:6] = 0
    write(tmp_path / "truth", [truth] * 302)
    write(tmp_path / "results/one", [truth] * 226 + [half] * 76)
    masks = {f"{t:05d}": tmp_path / f"truth/{t:05d}.png" for t in range(302)}
    (score,) = score_video(tmp_path / "results", Video("one", masks, masks), DAVIS).objects
    assert len(score.frames) == 300
    # Frames 226..301 are half: of the 300 scored ones the last 75, which is the last quarter.
    assert score.j.decay == pytest.approx(1 - (75 * 0.5 + 1) / 76)


def test_youtube_vos_is_scored_where_its_masks_are_public(tmp_path):
    root = draw_youtube_vos(tmp_path, size=(80, 112), frames=31)
    truth = find_dataset("youtube-vos").open(root, "train")
    videos = truth.videos
    perfect = score_results(root / "train/Annotations", truth)
    assert perfect.j_and_f == 1
    late = [(v, i) for v in videos for i, first in v.first_seen.items() if first != min(v.frames)]
    assert late, "the drawn set has objects that appear late"
    for video in videos:
        for score in perfect.videos()[video.name].objects:
            assert score.frames == video.required[score.object_id][1:-1]
    assert perfect.protocol()["frames_excluded"] == ["each object's first", "last"]

    results = tmp_path / "results"
    shutil.copytree(root / "train/Annotations", results)
    video, object_id = next((v, i) for v, i in late if len(v.required[i]) > 2)
    path = results / video.name / f"{video.required[object_id][1]}.png"
    mask = np.array(Image.open(path))
    mask[mask == object_id] = 0
    path.write_bytes(encode_mask(mask))
    worse = score_results(results, truth)
    changed = [s for s, p in zip(worse.objects, perfect.objects, strict=True) if s != p]
    assert [(s.video, s.object_id) for s in changed] == [(video.name, object_id)]
    assert (changed[0].j_values[0], set(changed[0].j_values[1:])) == (0, {1})
    last = max(video.frames)
    entry = {"required": {object_id: (last,)}, "first_seen": {object_id: last}}
    brief = score_video(results, replace(video, **entry), YOUTUBE_VOS)
    assert brief.objects == ()
    assert f"{video.name}: object {object_id} is not scored" in "\n".join(brief.notes)
    with pytest.raises(
        DataError, match="cannot be scored locally, submit the results to its server"
    ):
        score_results(results, find_dataset("youtube-vos").open(root, "valid"))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("numbers", "folder", "name"),
    [("multi_object", "multi", "india"), ("void", "void", "draw_void")],
)
def test_official_numbers_of_several_objects(numbers, folder, name):
    golden = json.loads((GOLDEN / f"jf/{numbers}.json").read_text())[name]
    masks = {p.stem: p for p in sorted((GOLDEN / f"jf/{folder}/reference/{name}").iterdir())}
    scores = score_results(GOLDEN / f"jf/{folder}/result", video_set([Video(name, masks, masks)]))
    assert [score.object_id for score in scores.objects] == [1, 2, 3]
    for score in scores.objects:
        expected = golden[str(score.object_id)]
        np.testing.assert_allclose(score.j_values, expected["J"], atol=1e-6)
        np.testing.assert_allclose(score.f_values, expected["F"], atol=1e-6)
        assert score.j == pytest.approx([expected[f"J_{k}"] for k in score.j._fields], abs=1e-6)
        assert score.f == pytest.approx([expected[f"F_{k}"] for k in score.f._fields], abs=1e-6)


@real_data
@pytest.mark.golden
def test_official_numbers_of_one_object():
    golden = json.loads((GOLDEN / "jf/davis2016_single_object.json").read_text())
    truth = find_dataset("davis2016").open(REAL / "davis2016", "val")
    videos = tuple(video for video in truth.videos if video.name in golden)
    results = REAL / "davis2016_osvos_results"
    scores = score_results(results, replace(truth, videos=videos), workers=2)
    assert {score.video for score in scores.objects} == set(golden)
    for score in scores.objects:
        expected = golden[score.video]["1"]
        np.testing.assert_allclose(score.j_values, expected["J"], atol=1e-6)
        np.testing.assert_allclose(score.f_values, expected["F"], atol=1e-6)
        assert score.j == pytest.approx([expected[f"J_{k}"] for k in score.j._fields], abs=1e-6)
        assert score.f == pytest.approx([expected[f"F_{k}"] for k in score.f._fields], abs=1e-6)


@real_data
@pytest.mark.golden
def test_real_davis_results():
    scores = score_davis(REAL / "davis2016_stm_results", REAL / "davis2016", 2016, "val", workers=2)
    published = json.loads((GOLDEN / "jf/davis2016_stm_published.json").read_text())
    assert [score.video for score in scores.objects] == list(published)
    for score in scores.objects:
        got = np.transpose([score.j_values, score.f_values])
        expected = np.transpose([published[score.video]["J"], published[score.video]["F"]])
        np.testing.assert_allclose(got, expected, atol=0.0005 + 1e-9)
