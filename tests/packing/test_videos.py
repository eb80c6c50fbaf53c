"""DAVIS and YouTube-VOS trees to shards: the samples have the content of the tree."""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from stmdata.packing.videos import SHARD_BYTES, _group
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.video import Video
from stmtrain.errors import DataError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.encode import DAVIS_PALETTE, encode_mask
from stmtrain.images.upright import turn
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample
from tests.paths import REAL, real_data
from tests.profiles import examples
from tests.sets import pack_davis, pack_youtube_vos


def read_all(folder: Path) -> dict[str, Sample]:
    shards = ShardSet.open(folder)
    return {key: shards.read(i) for i, key in enumerate(shards.keys())}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    rows = [(x * 5 + seed * 40) % 256, (y * 7) % 256, (x + y) % 256]
    return np.stack(rows, axis=-1).astype(np.uint8)


def write_davis(
    root: Path, masks: Mapping[str, Mapping[str, np.ndarray]], year: int = 2017, mode: str = "P"
) -> Path:
    """Write a DAVIS tree around masks (video to frame to (H, W) ids), frames of the same size."""
    for video, by_frame in masks.items():
        frames_folder = root / "JPEGImages" / "480p" / video
        masks_folder = root / "Annotations" / "480p" / video
        frames_folder.mkdir(parents=True)
        masks_folder.mkdir(parents=True)
        for i, (name, mask) in enumerate(by_frame.items()):
            jpeg = simplejpeg.encode_jpeg(picture(*mask.shape, seed=i), 90, "RGB", "420")
            (frames_folder / f"{name}.jpg").write_bytes(jpeg)
            if mode == "P":
                (masks_folder / f"{name}.png").write_bytes(encode_mask(mask))
            else:
                Image.fromarray(mask).convert(mode).save(masks_folder / f"{name}.png")
    lists = root / "ImageSets" / str(year)
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{video}\n" for video in masks))
    return root


def small_davis(root: Path) -> Path:
    """One video, three frames of 20x24 pixels, one object."""
    mask = np.zeros((20, 24), np.uint8)
    mask[4:12, 5:15] = 1
    return write_davis(root, {"car": {f"{i:05d}": mask for i in range(3)}})


def check_against_tree(videos: list[Video], samples: Mapping[str, Sample]) -> None:
    """Assert that samples have the tree's own JPEG bytes, names, ids and mask pixels."""
    assert list(samples) == [video.name for video in videos]
    for video in videos:
        sample = samples[video.name]
        record = sample.record
        assert sample.frames == {name: path.read_bytes() for name, path in video.frames.items()}
        assert record.frames == tuple(video.frames)
        assert record.mask_frames == tuple(video.masks) == tuple(sample.masks)
        assert record.original_size == (record.height, record.width)
        masks = {name: video.read_mask(name) for name in video.masks}
        for name, mask in masks.items():
            np.testing.assert_array_equal(decode_mask(sample.masks[name], name), mask)
        present = set(np.unique(np.stack(list(masks.values()))).tolist()) - {0, 255}
        assert record.object_ids == tuple(sorted(present))
        for object_id, areas in zip(record.object_ids, record.areas, strict=True):
            assert list(areas) == [int((mask == object_id).sum()) for mask in masks.values()]


# --- what goes in comes out -----------------------------------------------------------------------

IDS = st.sampled_from([0, 0, 0, 1, 2, 7, 100, 254, 255])
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(st.data(), SIZES, st.integers(1, 3))
@examples(15)
def test_any_davis_masks_survive(tmp_path_factory, data, size, frames):
    tmp_path = tmp_path_factory.mktemp("davis")
    masks = {
        f"{10 * i:05d}": data.draw(hnp.arrays(np.uint8, size, elements=IDS)) for i in range(frames)
    }
    masks["00000"][0, 0] = 3  # void alone would be taken for DAVIS 2016
    root = write_davis(tmp_path / "tree", {"a-video": masks})
    pack_davis(root, 2017, "train", tmp_path / "out", workers=1)
    check_against_tree(find_dataset("davis2017").videos(root, "train"), read_all(tmp_path / "out"))


def test_davis_2017(davis_tree, tmp_path):
    manifest = pack_davis(davis_tree, 2017, "train", tmp_path, workers=1)
    videos = find_dataset("davis2017").videos(davis_tree, "train")
    check_against_tree(videos, read_all(tmp_path))
    assert manifest.totals["samples"] == len(videos)
    assert manifest.config["dataset"] == "davis2017"
    assert str(davis_tree) not in (tmp_path / "manifest.json").read_text()
    sample = read_all(tmp_path)[videos[0].name]
    assert sample.record.origin == {
        "dataset": "davis2017",
        "split": "train",
        "video": videos[0].name,
    }


def test_davis_2016_masks_become_object_1(davis2016_tree, tmp_path):
    pack_davis(davis2016_tree, 2016, "train", tmp_path, workers=1)
    samples = read_all(tmp_path)
    check_against_tree(find_dataset("davis2016").videos(davis2016_tree, "train"), samples)
    for sample in samples.values():
        assert sample.record.object_ids == (1,)


def test_masks_are_palette_images(tmp_path):
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    root = write_davis(tmp_path / "tree", {"v": {"00000": mask}}, mode="L")
    pack_davis(root, 2017, "train", tmp_path / "out", workers=1)
    (tmp_path / "mask.png").write_bytes(read_all(tmp_path / "out")["v"].masks["00000"])
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image.convert("RGB")), DAVIS_PALETTE[mask])


@pytest.mark.parametrize("split", ["train", "valid"])
def test_youtube_vos(youtube_vos_tree, tmp_path, split):
    pack_youtube_vos(youtube_vos_tree, split, tmp_path, workers=1)
    videos = find_dataset("youtube-vos").videos(youtube_vos_tree, split)
    samples = read_all(tmp_path)
    check_against_tree(videos, samples)
    meta = json.loads((youtube_vos_tree / split / "meta.json").read_text())["videos"]
    late = 0
    for video in videos:
        record = samples[video.name].record
        assert 0 < len(record.mask_frames) < len(record.frames)
        objects = meta[video.name]["objects"]
        assert record.origin["first_seen"] == {i: o["frames"][0] for i, o in objects.items()}
        assert record.origin["required"] == {i: o["frames"] for i, o in objects.items()}
        assert record.origin["categories"] == {i: o["category"] for i, o in objects.items()}
        assert record.object_ids == tuple(map(int, objects))
        late += sum(areas[0] == 0 for areas in record.areas)
    assert late  # an object that is not in the first mask was among them


def test_an_object_in_no_mask_is_noted(youtube_vos_tree, tmp_path):
    shutil.copytree(youtube_vos_tree, tmp_path / "tree")
    path = tmp_path / "tree" / "train" / "meta.json"
    meta = json.loads(path.read_text())
    name, video = next(iter(sorted(meta["videos"].items())))
    video["objects"]["77"] = {"frames": ["00000"]}  # and without a category
    path.write_text(json.dumps(meta))
    manifest = pack_youtube_vos(tmp_path / "tree", "train", tmp_path / "out", workers=1)
    assert manifest.skipped == {"object of meta.json is in no mask": 1}
    record = read_all(tmp_path / "out")[name].record
    assert 77 not in record.object_ids
    assert record.origin["first_seen"]["77"] == "00000"
    assert "77" not in record.origin["categories"]


# --- resize ---------------------------------------------------------------------------------------


@given(SIZES.map(lambda size: (size[0] + 20, size[1] + 20)), st.integers(16, 80))
@examples(15)
def test_resize_sets_the_short_side(tmp_path_factory, size, short_side):
    tmp_path = tmp_path_factory.mktemp("resize")
    mask = np.zeros(size, np.uint8)
    mask[: size[0] // 2, : size[1] // 2] = 5
    mask[-3:] = 255
    root = write_davis(tmp_path / "tree", {"v": {"00000": mask, "00001": mask}})
    pack_davis(root, 2017, "train", tmp_path / "out", short_side, workers=1)
    sample = read_all(tmp_path / "out")["v"]
    record = sample.record
    assert (min(record.height, record.width), record.original_size) == (short_side, size)
    aspect = (record.width / record.height) / (size[1] / size[0])
    assert abs(aspect - 1) < 0.6 / short_side + 0.01
    for name in record.frames:
        assert decode_frame(sample.frames[name], name).shape == (record.height, record.width, 3)
        small = decode_mask(sample.masks[name], name)
        assert small.shape == (record.height, record.width)
        assert set(np.unique(small)) <= {0, 5, 255}  # nearest: no label is invented
    if short_side == min(size):
        assert sample.frames == {
            p.stem: p.read_bytes() for p in (root / "JPEGImages/480p/v").iterdir()
        }


@pytest.mark.parametrize("short_side", [30, 75, 110])
def test_frame_and_mask_move_together(tmp_path, short_side):
    y, x = np.mgrid[:96, :120]  # a tilted ellipse, so that rounding evens out along its edge
    mask = ((y - 43 + 0.3 * (x - 60)) ** 2 / 24**2 + (x - 60) ** 2 / 35**2 < 1).astype(np.uint8)
    root = write_davis(tmp_path / "tree", {"v": {"00000": mask}})
    painted = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    (root / "JPEGImages/480p/v/00000.jpg").write_bytes(
        simplejpeg.encode_jpeg(painted, 100, "RGB", "444")
    )
    pack_davis(root, 2017, "train", tmp_path / "out", short_side, workers=1)
    sample = read_all(tmp_path / "out")["v"]
    frame = decode_frame(sample.frames["00000"], "") / 255
    small = decode_mask(sample.masks["00000"], "").astype(float)
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    for axis in (y, x):  # the centre of the painted shape and of the mask, pixels
        in_frame = (axis * frame[..., 0]).sum() / frame[..., 0].sum()
        assert abs(in_frame - (axis * small).sum() / small.sum()) < 0.2
    assert abs(frame[..., 0].sum() / small.sum() - 1) < 0.06


def test_shrinking_does_not_alias(tmp_path):
    mask = np.ones((64, 64), np.uint8)
    root = write_davis(tmp_path / "tree", {"v": {"00000": mask}})
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)  # single-pixel chequers: mean 127
    jpeg = simplejpeg.encode_jpeg(np.repeat(board[..., None].astype(np.uint8), 3, 2), 100)
    (root / "JPEGImages/480p/v/00000.jpg").write_bytes(jpeg)
    pack_davis(root, 2017, "train", tmp_path / "out", 32, workers=1)
    frame = decode_frame(read_all(tmp_path / "out")["v"].frames["00000"], "")
    assert abs(frame.astype(int) - 127).max() < 8


def test_an_object_lost_in_the_resize_is_noted(tmp_path):
    mask = np.zeros((96, 96), np.uint8)
    mask[10:60, 10:60] = 1
    mask[80, 81] = 4
    root = write_davis(tmp_path / "tree", {"v": dict.fromkeys(("0", "1", "2"), mask)})
    manifest = pack_davis(root, 2017, "train", tmp_path / "out", 16, workers=1)
    assert manifest.skipped == {"object vanished in the resize": 1}
    assert read_all(tmp_path / "out")["v"].record.object_ids == (1,)


@pytest.mark.parametrize("resize", [0, -1, 15, 8193])
def test_a_senseless_resize_is_refused(tmp_path, resize):
    root = small_davis(tmp_path / "tree")
    with pytest.raises(UsageError, match="--resize: expected a short side of 16 to 8192, found"):
        pack_davis(root, 2017, "train", tmp_path / "out", resize)
    assert not (tmp_path / "out").exists()


# --- shards ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 60))
def test_shards_take_whole_videos_in_order_up_to_their_size(sizes, limit):
    groups = _group(sizes, limit)
    assert [i for group in groups for i in group] == list(range(len(sizes)))
    for group, following in zip(groups, [*groups[1:], None], strict=True):
        total = sum(sizes[i] for i in group)
        assert total <= limit or len(group) == 1
        if following is not None:
            assert total + sizes[following[0]] > limit


def test_workers_and_interruptions_do_not_change_the_bytes(davis_tree, tmp_path):
    def run(name, **options):
        pack_davis(davis_tree, 2017, "train", tmp_path / name, shard_bytes=1, **options)
        return {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}

    once = run("a", workers=1)
    assert len([name for name in once if name.endswith(".tar")]) == 2
    assert run("b", workers=2) == once
    for name in ("davis2017-train-000001.tar", "manifest.json"):
        (tmp_path / "b" / name).unlink()
    assert run("b", workers=1) == once


def test_a_changed_tree_is_another_configuration(tmp_path):
    root = small_davis(tmp_path / "tree")
    pack_davis(root, 2017, "train", tmp_path / "out", workers=1)
    for path in (root / "JPEGImages/480p/car/00002.jpg", root / "Annotations/480p/car/00002.png"):
        path.unlink()
    with pytest.raises(UsageError, match=r"source\.frames: 3 there, 2 asked"):
        pack_davis(root, 2017, "train", tmp_path / "out", workers=1)
    with pytest.raises(UsageError, match="resize: null there, 32 asked"):
        pack_davis(root, 2017, "train", tmp_path / "out", 32, workers=1)
    manifest = pack_davis(root, 2017, "train", tmp_path / "out", workers=1, overwrite=True)
    assert manifest.totals["frames"] == 2


def test_the_tree_may_move(tmp_path):
    root = small_davis(tmp_path / "tree")
    first = pack_davis(root, 2017, "train", tmp_path / "out", workers=1)
    root.rename(tmp_path / "moved")
    assert pack_davis(tmp_path / "moved", 2017, "train", tmp_path / "out", workers=1) == first


# --- bad input ------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def shrink_mask(path: Path) -> None:
    path.write_bytes(encode_mask(np.ones((20, 23), np.uint8)))


def shrink_frame(path: Path) -> None:
    path.write_bytes(simplejpeg.encode_jpeg(picture(20, 22), 90))


def colour(path: Path) -> None:
    Image.fromarray(picture(20, 24)).save(path)


@pytest.mark.parametrize(
    ("folder", "damage", "message"),
    [
        ("JPEGImages", cut, "JPEG is damaged"),
        ("JPEGImages", lambda p: p.write_bytes(b""), "expected a JPEG image"),
        ("JPEGImages", lambda p: p.write_text("not an image"), "expected a JPEG image"),
        ("JPEGImages", colour, "expected a JPEG image"),  # a PNG that is called .jpg
        ("JPEGImages", shrink_frame, "expected 24x20 pixels like 00000.jpg, found 22x20"),
        ("Annotations", cut, "expected a mask PNG"),
        ("Annotations", colour, "found mode RGB; save the mask as a palette PNG"),
        ("Annotations", shrink_mask, "expected a mask of 24x20 pixels like its frame, found 23x20"),
        ("Annotations", lambda p: p.unlink(), "expected a mask for each of 3 frames"),
        ("JPEGImages", lambda p: p.unlink(), "found masks without a frame"),
    ],
)
@pytest.mark.parametrize("resize", [None, 16])
def test_bad_files_are_named_in_one_line(tmp_path, folder, damage, message, resize):
    root = small_davis(tmp_path / "tree")
    path = root / folder / "480p" / "car" / f"00001.{'jpg' if folder == 'JPEGImages' else 'png'}"
    if damage is colour:
        Image.fromarray(picture(20, 24)).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)
    else:
        damage(path)
    with pytest.raises(DataError) as caught:
        pack_davis(root, 2017, "train", tmp_path / "out", resize, workers=1)
    text = str(caught.value)
    assert message in text
    assert "car" in text
    assert "00001" in text
    assert "\n" not in text
    left = {p.name for p in (tmp_path / "out").iterdir()} if (tmp_path / "out").exists() else set()
    assert left <= {"config.json"}


def test_davis_2016_masks_packed_as_2017_are_refused(tmp_path):
    mask = np.zeros((20, 24), np.uint8)
    mask[3:9, 3:9] = 255
    root = write_davis(tmp_path / "tree", {"car": {"00000": mask}}, mode="L")
    with pytest.raises(DataError, match=r"only 0 and 255 .*--year 2016"):
        pack_davis(root, 2017, "train", tmp_path / "out", workers=1)


def test_an_error_in_a_worker_process_is_the_same_line(tmp_path):
    mask = np.ones((20, 24), np.uint8)
    root = write_davis(tmp_path / "tree", {"a": {"00000": mask}, "b": {"00000": mask}})
    cut(root / "JPEGImages" / "480p" / "b" / "00000.jpg")
    with pytest.raises(DataError, match=r"480p/b/00000\.jpg: JPEG is damaged"):
        pack_davis(root, 2017, "train", tmp_path / "out", workers=2, shard_bytes=1)


# --- real data ------------------------------------------------------------------------------------


@real_data
def test_real_davis_2016(tmp_path):
    root = REAL / "davis2016"
    lists = tmp_path / "tree" / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("bear\n")  # its mask 00077 has an alpha channel
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / "tree" / folder).symlink_to(root / folder)
    manifest = pack_davis(tmp_path / "tree", 2016, "train", tmp_path / "out", workers=1)
    check_against_tree(
        find_dataset("davis2016").videos(root, "train")[:1], read_all(tmp_path / "out")
    )
    assert manifest.totals["frames"] == 82


def test_videos_without_a_clip_are_packed_and_named(tmp_path):
    mask = np.zeros((20, 24), np.uint8)
    mask[4:12, 5:15] = 1
    frames = [f"{i:05d}" for i in range(3)]
    masks = {
        "short": dict.fromkeys(frames[:2], mask),
        "empty": dict.fromkeys(frames, mask * 0),
        "late": {frames[0]: mask * 0, frames[1]: mask, frames[2]: mask * 0},
        "fine": {frames[0]: mask * 0, frames[1]: mask * 0, frames[2]: mask},
    }
    manifest = pack_davis(write_davis(tmp_path / "tree", masks), 2017, "train", tmp_path / "out")
    assert manifest.totals["samples"] == 4
    assert ShardSet.open(tmp_path / "out").notes("no training clip") == {
        "no training clip: fewer than 3 frames with a mask": ["short"],
        "no training clip: no object in a frame that a clip can start with": ["empty", "late"],
    }


def test_smooth_masks_are_thresholded_and_noted(tmp_path):
    y, x = np.mgrid[:48, :64]
    disc = Image.fromarray(np.uint8(255 * ((y - 24) ** 2 + (x - 30) ** 2 < 200)).repeat(3, 0))
    soft = np.asarray(disc.resize((64, 48), Image.BICUBIC))
    tree = write_davis(tmp_path / "tree", {"a": dict.fromkeys("012", soft)}, 2016, mode="L")
    manifest = pack_davis(tree, 2016, "train", tmp_path / "out")
    assert manifest.skipped == {"smooth edges, thresholded at half": 1}
    sample = read_all(tmp_path / "out")["a"]
    np.testing.assert_array_equal(decode_mask(sample.masks["0"], ""), soft > 127)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("painted", ["upright", "stored"])
def test_frames_with_an_orientation_fit_their_masks(tmp_path, orientation, painted):
    """Upright where the masks fit that; as stored, but without the tag, where only that fits."""
    stored = picture(20, 24)
    upright = turn(stored, orientation)
    as_stored = painted == "stored" and orientation >= 5
    expected = stored if as_stored else upright
    mask = np.zeros(expected.shape[:2], np.uint8)
    mask[4:12, 5:15] = 1
    root = write_davis(tmp_path / "tree", {"v": dict.fromkeys(("0", "1", "2"), mask)})
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in (root / "JPEGImages/480p/v").iterdir():
        Image.fromarray(stored).save(path, quality=95, exif=exif)
    before = (root / "JPEGImages/480p/v/0.jpg").read_bytes()
    manifest = pack_davis(root, 2017, "train", tmp_path / "out")
    sample = read_all(tmp_path / "out")["v"]
    assert (sample.record.height, sample.record.width) == mask.shape
    assert Image.open(io.BytesIO(sample.frames["0"])).getexif().get(0x0112, 1) == 1
    found = decode_frame(sample.frames["0"], "")
    assert abs(found.astype(int) - expected).mean() < 3
    if orientation == 1:
        assert sample.frames["0"] == before
    elif as_stored:
        np.testing.assert_array_equal(found, decode_frame(before, ""))
    turned = orientation > 1 and not as_stored
    assert manifest.skipped == ({"turned upright, encoded anew": 1} if turned else {})
    video = find_dataset("davis2017").open(root, "train").videos[0]
    assert abs(video.read_frame("1").astype(int) - expected).mean() < 3


# --- unusable videos ------------------------------------------------------------------------------


def faulty_davis(root: Path, damage: Mapping[str, tuple[str, Callable[[Path], object]]]) -> Path:
    """Five videos a..e of two objects; ``damage`` gives a folder and what is done to frame 1."""
    mask = np.zeros((20, 24), np.uint8)
    mask[4:12, 5:15], mask[14:18, 2:8] = 1, 7
    write_davis(root, {name: dict.fromkeys(("0", "1", "2"), mask) for name in "abcde"})
    for name, (folder, change) in damage.items():
        suffix = "jpg" if folder == "JPEGImages" else "png"
        change(root / folder / "480p" / name / f"1.{suffix}")
    return root


FAULTS = {
    "incomplete": ("Annotations", Path.unlink, "none for 1"),
    "orphan": ("JPEGImages", Path.unlink, "masks without a frame"),
    "cut frame": ("JPEGImages", cut, "JPEG is damaged"),
    "cut mask": ("Annotations", cut, "expected a mask PNG"),
    "small mask": ("Annotations", shrink_mask, "found 23x20"),
    "dangling": ("Annotations", lambda p: (p.unlink(), p.symlink_to("no")), "cannot be read"),
}
FAULTS_OF_VIDEOS = st.dictionaries(
    st.sampled_from("abcde"), st.sampled_from(sorted(FAULTS)), min_size=1, max_size=4
)


@given(FAULTS_OF_VIDEOS, st.sampled_from([1, SHARD_BYTES]), st.sampled_from([None, 16]))
@examples(25)
def test_unusable_videos_are_left_out_counted_and_named(tmp_path_factory, kinds, limit, resize):
    """With skip, the set is that of the other videos; where the tree lies does not matter."""
    tmp_path = tmp_path_factory.mktemp("skip")
    damage = {name: FAULTS[kind][:2] for name, kind in kinds.items()}
    root = faulty_davis(tmp_path / "tree", damage)
    options = {"shard_bytes": limit, "on_bad_video": "skip"}
    manifest = pack_davis(root, 2017, "train", tmp_path / "out", resize, **options)
    assert manifest.skipped == {"unusable video, left out": len(kinds)}
    (named,) = ShardSet.open(tmp_path / "out").notes("unusable video").values()
    assert sorted(text.split(": ")[0] for text in named) == sorted(kinds)
    for text in named:
        assert FAULTS[kinds[text.split(": ")[0]]][2] in text
        assert str(tmp_path) not in text
    whole = pack_davis(faulty_davis(tmp_path / "whole", {}), 2017, "train", tmp_path / "w", resize)
    assert whole.totals["samples"] == 5
    samples, expected = read_all(tmp_path / "out"), read_all(tmp_path / "w")
    assert samples == {k: v for k, v in expected.items() if k not in kinds}
    root.rename(tmp_path / "moved")
    assert pack_davis(tmp_path / "moved", 2017, "train", tmp_path / "x", resize, **options) == (
        manifest
    )


@given(FAULTS_OF_VIDEOS, st.sampled_from([1, SHARD_BYTES]))
@examples(15)
def test_all_unusable_videos_are_reported_at_once_and_skip_resumes(tmp_path_factory, kinds, limit):
    """Incomplete videos are reported before anything is read; damaged ones all together."""
    tmp_path = tmp_path_factory.mktemp("raise")
    damage = {name: FAULTS[kind][:2] for name, kind in kinds.items()}
    root = faulty_davis(tmp_path / "tree", damage)
    incomplete = {n: k for n, k in kinds.items() if k in ("incomplete", "orphan", "dangling")}
    with pytest.raises(DataError, match=r"or leave .*--on-bad-video skip$") as caught:
        pack_davis(root, 2017, "train", tmp_path / "out", shard_bytes=limit)
    for name in kinds:
        assert (f"480p/{name}" in str(caught.value)) == (name in (incomplete or kinds))
    pack_davis(root, 2017, "train", tmp_path / "out", shard_bytes=limit, on_bad_video="skip")
    assert set(read_all(tmp_path / "out")) == set("abcde") - set(kinds)


def test_faults_of_several_processes_are_one_line_and_good_shards_are_kept(tmp_path):
    root = faulty_davis(tmp_path / "tree", dict.fromkeys("bd", ("JPEGImages", cut)))
    with pytest.raises(DataError, match=r"2 videos .*480p/b/1\.jpg.*480p/d/1\.jpg"):
        pack_davis(root, 2017, "train", tmp_path / "out", shard_bytes=1, workers=2)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tar")}
    assert len(kept) == 3
    manifest = pack_davis(root, 2017, "train", tmp_path / "out", shard_bytes=1, on_bad_video="skip")
    assert manifest.totals["samples"] == 3
    assert (
        kept.items()
        <= {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tar")}.items()
    )


@pytest.mark.parametrize("change", [cut, Path.unlink])
def test_a_set_without_a_usable_video_says_why(tmp_path, change):
    root = faulty_davis(tmp_path / "tree", dict.fromkeys("abcde", ("JPEGImages", change)))
    reason = "JPEG is damaged" if change is cut else "masks without a frame"
    with pytest.raises(DataError, match=reason):
        pack_davis(root, 2017, "train", tmp_path / "out", on_bad_video="skip")
    assert not list((tmp_path / "out").glob("*"))
