"""YouTube-VOS trees: what is listed, and what each broken tree reports."""

import json

import pytest

from stmtrain.datasets.dataset import find_dataset
from stmtrain.errors import DataError
from tests.datasets.trees import numbered, touch

YOUTUBE = find_dataset("youtube-vos")


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


def test_youtube_knows_objects_and_required_frames(youtube):
    videos = YOUTUBE.videos(youtube, "valid")
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
    (video,) = YOUTUBE.videos(tmp_path, "train")
    assert video.required == {1: ("9", "10", "100")}
    assert video.first_seen == {1: "9"}


def test_youtube_all_frames_borrow_masks_and_meta(youtube):
    for name in ("0a1b", "ff-_"):
        touch(youtube / "valid_all_frames/JPEGImages" / name, numbered(16, "jpg"))
    videos = YOUTUBE.videos(youtube, "valid_all_frames")
    assert [len(v.frames) for v in videos] == [16, 16]
    assert videos[0].masks == YOUTUBE.videos(youtube, "valid")[0].masks


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda s: (s / "Annotations/0a1b/00010.png").unlink(),
            "object 10: expected a mask in '00010'",
        ),
        (lambda s: (s / "JPEGImages/0a1b/00015.jpg").unlink(), "object 1: lists frames .* 00015"),
        (lambda s: (s / "JPEGImages/0a1b").rename(s / "x"), "0a1b: expected a folder of .jpg"),
        (
            lambda s: touch(s / "JPEGImages/new", ["00000.jpg"]),
            "new: expected only videos of",
        ),
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
        YOUTUBE.videos(youtube, "valid")
    assert "\n" not in str(caught.value)


def test_junk_and_empty_folders_between_the_videos_are_no_videos(youtube):
    for junk in ("__MACOSX/0a1b", ".git", "@eaDir/0a1b", "empty"):
        (youtube / "valid/JPEGImages" / junk).mkdir(parents=True)
    assert [v.name for v in YOUTUBE.videos(youtube, "valid")] == [
        "0a1b",
        "ff-_",
    ]


def test_without_meta_the_masks_say_all_and_the_videos_carry_a_note(youtube):
    (youtube / "valid/meta.json").unlink()
    (youtube / "valid/JPEGImages/__MACOSX").mkdir()
    videos = YOUTUBE.videos(youtube, "valid")
    assert [(v.name, v.first_seen, len(v.masks)) for v in videos] == [
        ("0a1b", {}, 2),
        ("ff-_", {}, 2),
    ]
    assert all("no meta.json" in v.notes[0] for v in videos)


def test_the_folder_of_a_split_is_told_from_the_folder_of_all(youtube):
    with pytest.raises(DataError, match=f"pass {youtube}$"):
        YOUTUBE.videos(youtube / "valid", "valid")
