"""The zip for the server: what is written, and that every fault of a wrong one is named."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cli
from stmdata.drawn.trees import draw_davis, draw_youtube_vos
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.video_set import VideoSet
from stmtrain.errors import DataError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.scoring import submission
from stmtrain.scoring.submission import check_export_path, check_submission, write_submission

SIZE = (48, 64)
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = draw_davis(
        tmp_path_factory.mktemp("davis"), videos=3, val=2, frames=4, size=SIZE, ids=(2, 7, 9)
    )
    lists = root / "ImageSets" / "2017"
    shutil.copy(lists / "val.txt", lists / "test-dev.txt")
    return root


@pytest.fixture(scope="module")
def test_dev(davis: Path) -> VideoSet:
    return find_dataset("davis2017").open(davis, "test-dev")


@pytest.fixture(scope="module")
def youtube(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    root = draw_youtube_vos(tmp_path_factory.mktemp("youtube"), frames=11, size=SIZE)
    return find_dataset("youtube-vos").open(root, "valid")


def write_results(folder: Path, videos: VideoSet) -> Path:
    """Results that repeat each video's first mask."""
    for video in videos.videos:
        mask = encode_mask(video.read_mask(next(iter(video.masks))))
        (folder / video.name).mkdir(parents=True)
        for name in videos.protocol.exported(video):
            (folder / video.name / f"{name}.png").write_bytes(mask)
    return folder


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(path: Path, files: Members) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def right(test_dev: VideoSet, tmp_path: Path) -> Members:
    """The members of a zip without a fault."""
    path = tmp_path / "right.zip"
    write_submission(path, write_results(tmp_path / "right", test_dev), test_dev)
    assert check_submission(path, test_dev) == []
    return members(path)


def test_davis_has_videos_at_the_top(right: Members, test_dev: VideoSet) -> None:
    assert list(right) == [
        f"{video.name}/{name}.png" for video in test_dev.videos for name in video.frames
    ]


def test_youtube_vos_has_required_frames_under_annotations(
    youtube: VideoSet, tmp_path: Path
) -> None:
    path = tmp_path / "x.zip"
    write_submission(path, write_results(tmp_path / "results", youtube), youtube)
    assert check_submission(path, youtube) == []
    (video,) = youtube.videos
    assert list(members(path)) == [
        f"Annotations/{video.name}/{name}.png" for name in youtube.protocol.exported(video)
    ]


def test_equal_results_give_equal_bytes(test_dev: VideoSet, tmp_path: Path) -> None:
    paths = [tmp_path / "a.zip", tmp_path / "deep" / "b.zip"]
    for path in paths:
        results = write_results(tmp_path / f"results-{path.stem}", test_dev)
        (results / "notes.txt").write_text(path.stem)
        write_submission(path, results, test_dev)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert [p.name for p in paths[1].parent.iterdir()] == ["b.zip"]


def test_a_missing_mask_leaves_the_old_zip(test_dev: VideoSet, tmp_path: Path) -> None:
    results = write_results(tmp_path / "results", test_dev)
    path = tmp_path / "a.zip"
    path.write_text("old")
    gone = results / test_dev.videos[1].name / "00002.png"
    gone.unlink()
    with pytest.raises(DataError, match=r"00002.png: cannot be read"):
        write_submission(path, results, test_dev)
    assert path.read_text() == "old"
    assert not list(tmp_path.glob("*.tmp"))


def test_a_path_that_cannot_be_a_zip_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "x.tar", tmp_path):
        with pytest.raises(UsageError):
            check_export_path(path)


def png(mode: str, size: tuple[int, int] = SIZE[::-1], value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value).save(out, "png")
    return out.getvalue()


def _drop(name: str) -> Callable[[Members], Members]:
    return lambda files: {key: data for key, data in files.items() if key != name}


def _put(name: str, data: bytes) -> Callable[[Members], Members]:
    return lambda files: {**files, name: data}


def _under(prefix: str) -> Callable[[Members], Members]:
    return lambda files: {prefix + name: data for name, data in files.items()}


FAULTS: dict[str, tuple[Callable[[Members], Members], str]] = {
    "missing frame": (
        _drop("drawn-01/00002.png"),
        "drawn-01: 1 frames are missing: 00002; add them",
    ),
    "missing video": (
        lambda files: {k: v for k, v in files.items() if not k.startswith("drawn-02/")},
        "drawn-02: is missing, with 4 frames",
    ),
    "extra video": (
        _put("other/00000.png", png("P")),
        "other: 1 masks of a video that DAVIS 2017 test-dev does not have",
    ),
    "extra frame": (
        _put("drawn-01/00009.png", png("P")),
        "drawn-01/00009.png: is a frame that the server does not ask for",
    ),
    "wrapped": (
        _under("results/"),
        "results/...: found 8 masks here, expected <video>/<frame>.png",
    ),
    "annotations": (
        _under("Annotations/480p/"),
        "Annotations/480p/...: found 8 masks here, expected <video>/<frame>.png",
    ),
    "size": (
        _put("drawn-01/00001.png", png("P", (32, 24))),
        "drawn-01/00001.png: has 32x24 pixels, expected 64x48",
    ),
    "rgb": (
        _put("drawn-01/00001.png", png("RGB")),
        "drawn-01/00001.png: is not a palette PNG",
    ),
    "grey": (
        _put("drawn-01/00001.png", png("L")),
        "drawn-01/00001.png: is not a palette PNG",
    ),
    "ids": (
        _put("drawn-01/00001.png", encode_mask(np.full(SIZE, 1, np.uint8))),
        "drawn-01/00001.png: has ids 1, expected those of the given masks: 0, ",
    ),
    "jpeg": (
        _put("drawn-01/00001.png", b"\xff\xd8\xff\xe0" + b"x" * 99),
        "drawn-01/00001.png: is not a PNG",
    ),
    "cut": (
        lambda files: {**files, "drawn-01/00001.png": files["drawn-01/00001.png"][:-20]},
        "drawn-01/00001.png: expected a mask PNG",
    ),
    "macosx": (
        _put("__MACOSX/drawn-01/._00001.png", b"x"),
        "__MACOSX/drawn-01/._00001.png: is a file of the operating system",
    ),
    "ds_store": (_put("drawn-01/.DS_Store", b"x"), "drawn-01/.DS_Store: is a file of the op"),
    "other file": (_put("results.json", b"{}"), "results.json: is not a mask of a video"),
    "outside": (_put("../drawn-01/00001.png", png("P")), "is a path that leads outside"),
    "absolute": (_put("/drawn-01/00001.png", png("P")), "is a path that leads outside"),
    "large": (
        _put("drawn-01/00001.png", b"\0" * (2 << 20)),
        "drawn-01/00001.png: has 2097152 bytes, too many for a mask of this video",
    ),
    "large by its header": (
        _put("drawn-01/00001.png", encode_mask(np.zeros((4000, 4000), np.uint8))),
        "drawn-01/00001.png: has 4000x4000 pixels, expected 64x48",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(
    right: Members, test_dev: VideoSet, tmp_path: Path, fault: str
) -> None:
    damage, message = FAULTS[fault]
    before = sorted(tmp_path.rglob("*"))
    path = zipped(tmp_path / "wrong.zip", damage(right))
    found = check_submission(path, test_dev)
    assert len(found) == 1, found
    assert message in found[0]
    assert sorted(tmp_path.rglob("*")) == [*before, path]


def test_all_faults_are_named_at_once(right: Members, test_dev: VideoSet, tmp_path: Path) -> None:
    files = right
    kinds = ("missing frame", "extra video", "macosx", "other file")
    for kind in kinds:
        files = FAULTS[kind][0](files)
    found = "\n".join(check_submission(zipped(tmp_path / "w.zip", files), test_dev))
    for kind in kinds:
        assert FAULTS[kind][1] in found
    assert found.count("\n") == len(kinds) - 1


def test_a_file_twice(right: Members, test_dev: VideoSet, tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.zip", right)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("drawn-01/00001.png", png("P"))
    (found,) = check_submission(path, test_dev)
    assert "drawn-01/00001.png is in the zip twice" in found


def test_folders_are_no_fault(right: Members, test_dev: VideoSet, tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.zip", {"drawn-01/": b"", **right})
    assert check_submission(path, test_dev) == []


def test_an_encrypted_member_is_named(right: Members, test_dev: VideoSet, tmp_path: Path) -> None:
    path = zipped(tmp_path / "w.zip", right)
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)
    (found,) = check_submission(path, test_dev)
    assert "is encrypted" in found


def test_a_member_with_a_wrong_checksum_is_named(
    right: Members, test_dev: VideoSet, tmp_path: Path
) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in right.items():
            archive.writestr(name, data)
    data = path.read_bytes()
    at = data.index(right["drawn-01/00001.png"])
    path.write_bytes(data[: at + 60] + bytes([data[at + 60] ^ 1]) + data[at + 61 :])
    assert any("cannot be read (Bad CRC" in fault for fault in check_submission(path, test_dev))


def test_what_is_no_zip_is_refused(
    test_dev: VideoSet, right: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.zip").write_text("no zip")
    with pytest.raises(DataError, match=r"x.zip: expected a zip"):
        check_submission(tmp_path / "x.zip", test_dev)
    with pytest.raises(DataError, match=r"y.zip: expected a zip \(No such file"):
        check_submission(tmp_path / "y.zip", test_dev)
    monkeypatch.setattr(submission, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="expected at most 3 files, found 8"):
        check_submission(zipped(tmp_path / "z.zip", right), test_dev)


def test_youtube_vos_ids_and_depth(youtube: VideoSet, tmp_path: Path) -> None:
    write_submission(tmp_path / "a.zip", write_results(tmp_path / "results", youtube), youtube)
    flat = {
        name.removeprefix("Annotations/"): data
        for name, data in members(tmp_path / "a.zip").items()
    }
    (found,) = check_submission(zipped(tmp_path / "b.zip", flat), youtube)
    assert "expected Annotations/<video>/<frame>.png" in found
    extra = json.dumps({})
    (found,) = check_submission(
        zipped(tmp_path / "c.zip", {**members(tmp_path / "a.zip"), "meta.json": extra.encode()}),
        youtube,
    )
    assert found.startswith("meta.json: is not a mask")


def test_the_command_lists_faults_and_ends_with_1(
    davis: Path, right: Members, tmp_path: Path
) -> None:
    base = ("score", "--davis", davis, "--split", "test-dev", "--check-submission")

    def check(files: Members) -> tuple[int, str]:
        path = zipped(tmp_path / "w.zip", files)
        done = CliRunner().invoke(cli.app, [*map(str, base), str(path)])
        return done.exit_code, done.output

    code, output = check(right)
    assert code == 0, output
    assert "8 masks of 2 videos" in output
    code, output = check(FAULTS["macosx"][0](FAULTS["missing frame"][0](right)))
    assert code == 1
    assert FAULTS["macosx"][1] in output
    assert FAULTS["missing frame"][1] in output
    assert "2 faults" in output.splitlines()[-1]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_limit_are_refused(
    right: Members, test_dev: VideoSet, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in right.items():
            archive.writestr(name, data)
    found = check_submission(path, test_dev)
    assert len(found) == len(right)
    assert all("another method than deflate" in line for line in found)


def test_a_pipe_is_no_zip(test_dev: VideoSet, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(DataError, match=r"x.zip: expected a zip \(Is a pipe"):
        check_submission(tmp_path / "x.zip", test_dev)


def with_frames(root: Path, folder: str, names: list[str]) -> None:
    """Draw a video's frames."""
    (root / folder).mkdir(parents=True)
    frame = Image.new("RGB", (SIZE[1], SIZE[0]))
    for name in names:
        frame.save(root / folder / f"{name}.jpg")


@pytest.mark.parametrize(
    ("layout", "protocol", "prefix"),
    [
        ("lvos-v2", "lvos", "Annotations/"),
        ("mose-v2", "mose2", ""),
        ("lvos-v1", None, "Annotations/"),
    ],
)
def test_the_zip_of_each_server(
    layout: str, protocol: str | None, prefix: str, tmp_path: Path
) -> None:
    root = tmp_path / "tree"
    split = "val" if layout.startswith("lvos") else "valid"
    names = [f"{i:08d}" for i in (1, 6, 11)]
    for video in ("0a1b2c3d", "ffff0000"):
        with_frames(root, f"{split}/JPEGImages/{video}", names)
        mask = np.zeros(SIZE, np.uint8)
        mask[5:20, 5:20] = 3
        (root / split / "Annotations" / video).mkdir(parents=True)
        (root / split / "Annotations" / video / f"{names[0]}.png").write_bytes(encode_mask(mask))
    videos = find_dataset(layout).open(root, split)
    right = tmp_path / "right.zip"
    write_submission(right, write_results(tmp_path / "results", videos), videos)
    assert set(members(right)) == {
        f"{prefix}{video}/{name}.png" for video in ("0a1b2c3d", "ffff0000") for name in names
    }
    words = ["score", "--videos", str(root), "--layout", layout, "--split", split]
    words += ["--protocol", protocol] if protocol else []
    check = [*words, "--check-submission"]
    done = CliRunner().invoke(cli.app, [*check, str(right)])
    assert done.exit_code == 0, done.output
    wrong = zipped(tmp_path / "wrong.zip", {f"x/{n}": data for n, data in members(right).items()})
    assert CliRunner().invoke(cli.app, [*check, str(wrong)]).exit_code == 1


def test_objects_of_sav_have_a_folder_each(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    with_frames(root, "sav_val/JPEGImages_24fps/sav_1", [f"{i:05d}" for i in range(9)])
    label = np.zeros(SIZE, np.uint8)
    label[5:20, 5:20], label[5:20, 30:40] = 2, 4
    for folder, object_id in (("001", 1), ("003", 3)):
        own = root / "sav_val/Annotations_6fps/sav_1" / folder
        own.mkdir(parents=True)
        for name in ("00000", "00004", "00008"):
            (own / f"{name}.png").write_bytes(encode_mask((label == object_id + 1).view(np.uint8)))
    videos = find_dataset("sav-val").open(root, "val")
    (video,) = videos.videos
    ids = {folder: video.id_map[folder] for folder in ("001", "003")}  # type: ignore[attr-defined]
    results = tmp_path / "results"
    (results / "sav_1").mkdir(parents=True)
    for name in video.frames:
        mask = sum(i * (label == int(folder) + 1) for folder, i in ids.items())
        (results / "sav_1" / f"{name}.png").write_bytes(encode_mask(mask.astype(np.uint8)))
    path = tmp_path / "sav.zip"
    write_submission(path, results, videos)
    found = members(path)
    assert set(found) == {
        f"sav_1/{folder}/{name}.png"
        for folder in ("001", "003")
        for name in ("00000", "00004", "00008")
    }
    truth = root / "sav_val/Annotations_6fps"
    for name, data in found.items():
        np.testing.assert_array_equal(
            np.array(Image.open(io.BytesIO(data))), np.array(Image.open(truth / name))
        )
    assert check_submission(path, videos) == []
    two = encode_mask(np.where(label == 2, 1, label))
    wrong = zipped(tmp_path / "wrong.zip", {**found, "sav_1/003/00004.png": two})
    (fault,) = check_submission(wrong, videos)
    assert (
        fault
        == "sav_1/003/00004.png: has several values, expected one object; write one file for each"
    )
    del found["sav_1/001/00004.png"]
    (fault,) = check_submission(zipped(wrong, found), videos)
    assert fault.startswith("sav_1/001: 1 frames are missing: 00004")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unzipped")
    for folder in (tmp_path / "unzipped", results):
        words = ["score", "--videos", str(root), "--protocol", "sav", "--results", str(folder)]
        done = CliRunner().invoke(cli.app, [*words, "--json", str(tmp_path / "s.json")])
        assert done.exit_code == 0, done.output
        scores = json.loads((tmp_path / "s.json").read_text())
        assert scores["global"]["J&F"] == 1
        assert [one["object_id"] for one in scores["objects"]] == ["001", "003"]
        assert ("sav_1/003: is id 3 in masks of all" in "\n".join(scores["notes"])) == (
            folder == results
        )
