"""DAVIS trees: what is listed, how files are paired, and what each broken tree reports."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.davis import split_names
from stmtrain.errors import DataError, UsageError
from tests.datasets.trees import numbered, touch
from tests.paths import REAL, real_data

VIDEOS = {"bear": 4, "car-turn": 3, "dog_1": 12}
DAVIS_2016, DAVIS_2017 = find_dataset("davis2016"), find_dataset("davis2017")


@pytest.fixture
def davis(tmp_path):
    for name, count in VIDEOS.items():
        touch(tmp_path / "JPEGImages/480p" / name, numbered(count, "jpg"))
        touch(tmp_path / "Annotations/480p" / name, numbered(count, "png"))
    for year in ("2016", "2017"):
        lists = tmp_path / "ImageSets" / year
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("dog_1\nbear\n")
        (lists / "val.txt").write_text("car-turn\r\n\r\n")
    return tmp_path


@pytest.mark.parametrize("year", [2016, 2017])
def test_davis_lists_videos_in_order_with_all_masks(davis, year):
    videos = find_dataset(f"davis{year}").videos(davis, "trainval")
    assert [v.name for v in videos] == ["dog_1", "bear", "car-turn"]
    assert [v.name for v in find_dataset(f"davis{year}").videos(davis, "val")] == ["car-turn"]
    for video in videos:
        assert (
            list(video.frames)
            == list(video.masks)
            == [f"{i:05d}" for i in range(len(video.frames))]
        )
        assert video.binary == (year == 2016)
        assert not video.first_seen
        assert not video.required
        assert pickle.loads(pickle.dumps(video)) == video


def test_davis_reads_the_lists_of_paths_of_2016(davis):
    lines = [
        f"/JPEGImages/480p/{name}/{i:05d}.jpg /Annotations/480p/{name}/{i:05d}.png \n"
        for name in ("car-turn", "bear")
        for i in range(3)
    ]
    (davis / "ImageSets/480p").mkdir()
    (davis / "ImageSets/480p/val.txt").write_text("".join(lines))
    (davis / "ImageSets/2016/val.txt").unlink()
    assert [v.name for v in DAVIS_2016.videos(davis, "val")] == ["car-turn", "bear"]
    with pytest.raises(DataError, match=r"expected 2017/test-dev.txt, found 2016/train.txt, 2017/"):
        DAVIS_2017.videos(davis, "test-dev")


@pytest.mark.parametrize(
    "line",
    [
        "bear",
        " bear/ ",
        "480p/bear",
        "JPEGImages/480p/bear",
        "/JPEGImages/480p/bear/00000.jpg",
        "/JPEGImages/480p/bear/00000.JPG\t/Annotations/480p/bear/00000.png",
        "\\JPEGImages\\480p\\bear\\00000.jpg \\Annotations\\480p\\bear\\00000.png",
    ],
)
def test_a_list_names_a_sequence_in_any_of_these_ways(davis, line):
    (davis / "ImageSets/2017/val.txt").write_text(f"\ufeff{line}\n\n", encoding="utf-8")
    assert [v.name for v in DAVIS_2017.videos(davis, "val")] == ["bear"]


@pytest.mark.parametrize(
    "line", ["bear walk", "/JPEGImages/480p/bear walk/00000.jpg", "../bear/.."]
)
def test_a_name_that_is_no_key_is_named_completely(davis, line):
    (davis / "ImageSets/2017/val.txt").write_text(line)
    with pytest.raises(DataError, match=r"found '(bear walk|\.\.)'; rename"):
        DAVIS_2017.videos(davis, "val")


def test_frames_of_another_format_are_named(davis):
    for path in (davis / "JPEGImages/480p/bear").iterdir():
        path.rename(path.with_suffix(".png"))
    with pytest.raises(DataError, match=r"expected .jpg, .jpeg files, found only .png; convert"):
        DAVIS_2017.videos(davis, "train")


def test_davis_test_splits_need_the_first_mask_only(davis):
    (davis / "ImageSets/2017/test-dev.txt").write_text("bear")
    masks = davis / "Annotations/480p/bear"
    for name in numbered(4, "png")[1:]:
        (masks / name).unlink()
    (video,) = DAVIS_2017.videos(davis, "test-dev")
    assert list(video.masks) == ["00000"]
    assert len(video.frames) == 4
    (masks / "00000.png").rename(masks / "00001.png")
    with pytest.raises(DataError, match="none for 00000"):
        DAVIS_2017.videos(davis, "test-dev")


def test_frames_without_leading_zeros_are_in_time_order(davis):
    for folder in ("JPEGImages/480p/bear", "Annotations/480p/bear"):
        for path in (davis / folder).iterdir():
            path.unlink()
    touch(
        davis / "JPEGImages/480p/bear", [f"{i}.JPG" for i in range(12)] + ["._3.jpg", "notes.txt"]
    )
    touch(davis / "Annotations/480p/bear", [f"{i}.png" for i in range(12)])
    assert list(DAVIS_2017.videos(davis, "train")[1].frames) == [str(i) for i in range(12)]


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda r: (r / "Annotations/480p/bear/00002.png").unlink(),
            "4 frames, found none for 00002",
        ),
        (
            lambda r: (r / "JPEGImages/480p/bear/00002.jpg").unlink(),
            "masks without a frame .*: 00002",
        ),
        (
            lambda r: (r / "JPEGImages/480p/bear").rename(r / "bear"),
            "bear: expected a folder of .jpg",
        ),
        (
            lambda r: (r / "Annotations/480p/bear").rename(r / "bear"),
            "bear: expected a folder of .png",
        ),
        (lambda r: touch(r / "JPEGImages/480p/bear", ["00001.jpeg"]), "have one name"),
        (lambda r: (r / "Annotations").rename(r / "x"), "Annotations/480p: expected a folder"),
        (lambda r: (r / "ImageSets/2017").rename(r / "x"), "2017/train.txt, found 2016/train.txt"),
        (
            lambda r: (r / "ImageSets/2017/train.txt").write_text("\n"),
            "train.txt: .* an empty list",
        ),
        (lambda r: (r / "ImageSets/2017/train.txt").write_text("..\n"), r"found '\.\.'"),
        (
            lambda r: (r / "ImageSets/2017/train.txt").write_bytes(b"\xff"),
            "train.txt: expected text",
        ),
        (lambda r: [p.unlink() for p in (r / "JPEGImages/480p/bear").iterdir()], "found none"),
    ],
)
def test_broken_davis_trees_say_what_is_missing(davis, breakage, message):
    breakage(davis)
    with pytest.raises(DataError, match=message) as caught:
        DAVIS_2017.videos(davis, "train")
    assert "\n" not in str(caught.value)


def test_davis_points_at_the_nested_folder(davis):
    nested = davis.parent / "outer"
    nested.mkdir()
    davis.rename(nested / "DAVIS")
    with pytest.raises(
        DataError, match=r"ImageSets.*: expected a folder, found none; pass .*DAVIS$"
    ):
        DAVIS_2017.videos(nested, "val")
    with pytest.raises(DataError, match=r"JPEGImages has 480p; use one of these"):
        DAVIS_2017.videos(nested / "DAVIS", "val", options={"resolution": "1080p"})


def test_davis_years_and_splits_are_named(davis):
    with pytest.raises(UsageError, match=r"davis2016, davis2017.* found 'davis2018'"):
        find_dataset("davis2018")
    with pytest.raises(UsageError, match="train, val, trainval of DAVIS 2016, found 'test-dev'"):
        DAVIS_2016.videos(davis, "test-dev")


@real_data
def test_real_davis():
    videos = DAVIS_2016.videos(REAL / "davis2016", "trainval")
    assert len(videos) == 17
    bear = videos[0]
    assert (bear.name, len(bear.frames)) == ("bear", 82)
    assert set(np.unique(bear.read_mask("00077"))) == {0, 1}, "the file with an alpha channel"
    assert bear.read_frame("00000").shape == (480, 854, 3)


def test_a_tree_without_resolutions_is_sent_to_the_option_that_reads_it(tmp_path):
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/val.txt").write_text("cat\n")
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / kind / "cat").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"480p: expected a folder, found .*cat .* --layout own-frames-and-masks"
    ):
        DAVIS_2017.videos(tmp_path, "val")


def test_the_faults_of_all_videos_are_reported_at_once(davis):
    (davis / "Annotations/480p/bear/00001.png").unlink()
    (davis / "JPEGImages/480p/dog_1/00003.jpg").unlink()
    with pytest.raises(
        DataError, match=r"2 videos cannot be used: .*frame.* 00003.*none for 00001"
    ):
        DAVIS_2017.videos(davis, "train")


def test_a_folder_of_the_other_year_is_not_suggested(tmp_path: Path) -> None:
    for name, lists in (("a", "480p"), ("b", "2017")):
        (tmp_path / name / "ImageSets" / lists).mkdir(parents=True)
    with pytest.raises(DataError, match=rf"pass {tmp_path / 'b'}$"):
        split_names(tmp_path, 2017, "val")
    with pytest.raises(DataError, match=rf"pass {tmp_path / 'a'}$"):
        split_names(tmp_path, 2016, "val")
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(DataError, match="add what is missing"):
        split_names(tmp_path, 2017, "val")
