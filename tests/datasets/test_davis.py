"""Dataset trees: what is listed, how files are paired, and what each broken tree says."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from stmtrain.datasets.davis import Video, davis_videos, youtube_vos_videos
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from tests.paths import REAL, real_data

VIDEOS = {"bear": 4, "car-turn": 3, "dog_1": 12}


def touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def numbered(count, suffix, step=1):
    return [f"{step * i:05d}.{suffix}" for i in range(count)]


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


@pytest.fixture
def youtube(tmp_path):
    split = tmp_path / "valid"
    for name in ("0a1b", "ff-_"):
        touch(split / "JPEGImages" / name, numbered(4, "jpg", 5))
        touch(split / "Annotations" / name, ["00000.png", "00010.png"])
    objects = {
        "1": {"category": "ape", "frames": ["00000", "00005", "00010", "00015"]},
        "10": {"category": "car", "frames": ["00015", "00010"]},
    }
    write_meta(split, {name: {"objects": objects} for name in ("ff-_", "0a1b")})
    return tmp_path


def write_meta(split, videos):
    (split / "meta.json").write_text(json.dumps({"videos": videos}))


@pytest.mark.parametrize("year", [2016, 2017])
def test_davis_lists_videos_in_order_with_all_masks(davis, year):
    videos = davis_videos(davis, year, "trainval")
    assert [v.name for v in videos] == ["dog_1", "bear", "car-turn"]
    assert [v.name for v in davis_videos(davis, year, "val")] == ["car-turn"]
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
    assert [v.name for v in davis_videos(davis, 2016, "val")] == ["car-turn", "bear"]
    with pytest.raises(DataError, match=r"expected 2017/test-dev.txt, found 2016/train.txt, 2017/"):
        davis_videos(davis, 2017, "test-dev")


def test_davis_test_splits_need_the_first_mask_only(davis):
    (davis / "ImageSets/2017/test-dev.txt").write_text("bear")
    masks = davis / "Annotations/480p/bear"
    for name in numbered(4, "png")[1:]:
        (masks / name).unlink()
    (video,) = davis_videos(davis, 2017, "test-dev")
    assert list(video.masks) == ["00000"]
    assert len(video.frames) == 4
    (masks / "00000.png").rename(masks / "00001.png")
    with pytest.raises(DataError, match="none for 00000"):
        davis_videos(davis, 2017, "test-dev")


def test_frames_without_leading_zeros_are_in_time_order(davis):
    for folder in ("JPEGImages/480p/bear", "Annotations/480p/bear"):
        for path in (davis / folder).iterdir():
            path.unlink()
    touch(
        davis / "JPEGImages/480p/bear", [f"{i}.JPG" for i in range(12)] + ["._3.jpg", "notes.txt"]
    )
    touch(davis / "Annotations/480p/bear", [f"{i}.png" for i in range(12)])
    assert list(davis_videos(davis, 2017, "train")[1].frames) == [str(i) for i in range(12)]


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
        (lambda r: touch(r / "JPEGImages/480p/bear", ["00001.jpeg"]), "share one name"),
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
        davis_videos(davis, 2017, "train")
    assert "\n" not in str(caught.value)


def test_davis_points_at_the_nested_folder(davis):
    nested = davis.parent / "outer"
    nested.mkdir()
    davis.rename(nested / "DAVIS")
    with pytest.raises(DataError, match=r"ImageSets: expected a folder, found none; pass .*DAVIS$"):
        davis_videos(nested, 2017, "val")
    with pytest.raises(DataError, match=r"JPEGImages has 480p; pass"):
        davis_videos(nested / "DAVIS", 2017, "val", resolution="1080p")


def test_davis_years_and_splits_are_named(davis):
    with pytest.raises(UsageError, match="one of 2016, 2017, found 2018"):
        davis_videos(davis, 2018, "val")
    with pytest.raises(UsageError, match="2016 has train, val, trainval, found 'test-dev'"):
        davis_videos(davis, 2016, "test-dev")


def test_youtube_knows_objects_and_required_frames(youtube):
    videos = youtube_vos_videos(youtube, "valid")
    assert [v.name for v in videos] == ["0a1b", "ff-_"]
    for video in videos:
        assert list(video.frames) == ["00000", "00005", "00010", "00015"]
        assert list(video.masks) == ["00000", "00010"]
        assert video.first_seen == {1: "00000", 10: "00010"}
        assert video.required[10] == ("00010", "00015")
        assert not video.binary


def test_youtube_required_frames_are_in_time_order(tmp_path):
    split = tmp_path / "train"
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        touch(split / folder / "v", [f"{i}.{suffix}" for i in (9, 10, 100)])
    write_meta(split, {"v": {"objects": {"1": {"frames": ["100", "10", "9"]}}}})
    (video,) = youtube_vos_videos(tmp_path, "train")
    assert video.required == {1: ("9", "10", "100")}
    assert video.first_seen == {1: "9"}


def test_youtube_all_frames_borrow_masks_and_meta(youtube):
    for name in ("0a1b", "ff-_"):
        touch(youtube / "valid_all_frames/JPEGImages" / name, numbered(16, "jpg"))
    videos = youtube_vos_videos(youtube, "valid_all_frames")
    assert [len(v.frames) for v in videos] == [16, 16]
    assert videos[0].masks == youtube_vos_videos(youtube, "valid")[0].masks


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda s: (s / "Annotations/0a1b/00010.png").unlink(),
            "object 10: expected a mask in '00010'",
        ),
        (lambda s: (s / "JPEGImages/0a1b/00015.jpg").unlink(), "object 1: lists frames .* 00015"),
        (lambda s: (s / "JPEGImages/0a1b").rename(s / "x"), "0a1b: expected a folder of .jpg"),
        (lambda s: touch(s / "JPEGImages/new", ["00000.jpg"]), "found new beside them"),
        (lambda s: (s / "meta.json").unlink(), "meta.json: cannot be read"),
        (lambda s: (s / "meta.json").write_text("[]"), 'expected a JSON object with "videos"'),
        (lambda s: (s / "meta.json").write_text("{"), "expected JSON"),
        (lambda s: write_meta(s, {"0a1b": {}}), "video '0a1b': expected"),
        (lambda s: write_meta(s, {"..": {"objects": {}}}), r"found '\.\.'"),
        (
            lambda s: write_meta(s, {"0a1b": {"objects": {"255": {"frames": ["00000"]}}}}),
            "found 255",
        ),
        (
            lambda s: write_meta(s, {"0a1b": {"objects": {"1": {"frames": []}}}}),
            "expected frame names",
        ),
        (lambda s: s.rename(s.parent / "val"), "valid/JPEGImages: expected a folder.* has val;"),
    ],
)
def test_broken_youtube_trees_say_what_is_missing(youtube, breakage, message):
    breakage(youtube / "valid")
    with pytest.raises(DataError, match=message) as caught:
        youtube_vos_videos(youtube, "valid")
    assert "\n" not in str(caught.value)


def test_pixels_are_read_by_name(tmp_path):
    ids = np.array([[0, 3, 255], [7, 0, 0]], np.uint8)
    (tmp_path / "palette.png").write_bytes(encode_mask(ids))
    Image.fromarray(ids).convert("LA").save(tmp_path / "alpha.png")
    Image.fromarray(np.full((8, 9, 3), 100, np.uint8)).save(tmp_path / "0.jpg")
    masks = {"0": tmp_path / "palette.png", "1": tmp_path / "alpha.png", "2": tmp_path / "gone.png"}
    video = Video("v", {"0": tmp_path / "0.jpg"}, masks)
    for name in ("0", "1"):
        assert np.array_equal(video.read_mask(name), ids)
        binary = Video("v", {}, masks, binary=True).read_mask(name)
        assert binary.dtype == np.uint8
        assert np.array_equal(binary, ids > 0)
    assert video.read_frame("0").shape == (8, 9, 3)
    with pytest.raises(DataError, match=r"gone.png: cannot be read"):
        video.read_mask("2")
    with pytest.raises(
        DataError, match=r"'v': expected a mask for frame '9', found none; .*0, 1, 2"
    ):
        video.read_mask("9")


@real_data
def test_real_davis():
    videos = davis_videos(REAL / "davis2016", 2016, "trainval")
    assert len(videos) == 17
    bear = videos[0]
    assert (bear.name, len(bear.frames)) == ("bear", 82)
    assert set(np.unique(bear.read_mask("00077"))) == {0, 1}, "the file with an alpha channel"
    assert bear.read_frame("00000").shape == (480, 854, 3)
