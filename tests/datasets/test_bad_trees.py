"""Trees that are incomplete, damaged or of another kind: one line that names the file and a cure.

What cannot be used is left out on request, counted and named, and nothing is half-written.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stmdata.drawn.trees import draw_coco
from stmdata.packing.videos import prepare_videos
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.davis import DavisTree
from stmtrain.datasets.tree import open_dataset
from stmtrain.errors import DataError, StmError, UsageError
from stmtrain.shards.reader import ShardSet
from tests.datasets.drawn import draw, rle, save_film
from tests.sets import pack_videos

Damage = Callable[[Path], object]


def edit(pattern: str, change: Callable[[Any], object]) -> Damage:
    """Change the JSON of the one file that matches."""

    def damage(root: Path) -> None:
        (path,) = root.glob(pattern)
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return damage


def write(pattern: str, data: bytes) -> Damage:
    return lambda root: next(root.glob(pattern)).write_bytes(data)


def unlink(pattern: str) -> Damage:
    return lambda root: next(iter(sorted(root.glob(pattern)))).unlink()


SMALL = rle(np.zeros((48, 64), bool)) | {"size": [24, 128]}
BAD: dict[str, tuple[str, Damage, str]] = {
    "annotations null": (
        "ovis",
        edit("annotations_train.json", lambda v: v.update(annotations=None)),
        r"masks, found none: annotations_train.json .*ground truth is hidden.*pass another folder",
    ),
    "a video twice": (
        "ovis",
        edit("annotations_train.json", lambda v: v["videos"].append(v["videos"][0])),
        r"annotations_train.json: states video '3Zf4NFzn' a second time; remove one",
    ),
    "no annotations": (
        "ytvis-2019",
        edit("train.json", lambda v: v.pop("annotations")),
        r"ground truth is hidden .*3Zf4NFzn",
    ),
    "annotations of another kind": (
        "ytvis-2021",
        edit("train/instances.json", lambda v: v.update(annotations={})),
        r"instances.json: expected a list \"annotations\"",
    ),
    "no json": ("uvo", write("VideoDenseSet/*.json", b"{"), r"dense.json: expected JSON"),
    "rle of another size": (
        "ytvis-2021",
        edit(
            "train/instances.json",
            lambda v: v["annotations"][0]["segmentations"].__setitem__(1, SMALL),
        ),
        r"instances.json: video '3Zf4NFzn', frame 'frame_000001', object 41: RLE of 128x24",
    ),
    "runs that do not fill": (
        "burst",
        edit(
            "annotations/train/train.json",
            lambda v: v["sequences"][0]["segmentations"][0]["1"].update(rle="0"),
        ),
        r"train.json: video 'LaSOT/3Zf4NFzn', frame 'frame_000000', object 1: ",
    ),
    "a track without frames": (
        "ytvis-2019",
        edit("train.json", lambda v: v["annotations"][1].update(segmentations=[])),
        r"train.json: video '3Zf4NFzn': .*annotation 42 has 0 segmentations for 6 frames",
    ),
    "a frame outside": (
        "ytvis-2019",
        edit("train.json", lambda v: v["videos"][0]["file_names"].__setitem__(0, "../x.jpg")),
        r"video '\.\.': expected names of files, found '\.\./x.jpg'",
    ),
    "a missing frame": (
        "ytvis-2019",
        unlink("train/JPEGImages/*/frame_000003.jpg"),
        r"video '3Zf4NFzn': expected 6 frames in .*none for frame_000003; add",
    ),
    "a mask without a frame": (
        "own-object-folders",
        unlink("JPEGImages/*/frame_000002.jpg"),
        r"frame_000002.png: expected a frame of this name",
    ),
    "a mask of another size": (
        "sav-val",
        lambda root: Image.new("L", (9, 9)).save(next(root.glob("*/Ann*/*/001/*02.png"))),
        r"001/frame_000002.png: expected a mask of 64x48 pixels like its frame, found 9x9",
    ),
    "a missing list": (
        "vost",
        unlink("ImageSets/train.txt"),
        r"ImageSets/train.txt: expected the list of a split",
    ),
    "a damaged film": (
        "sav-train",
        write("sav_000/*.mp4", b"no film"),
        r"3Zf4NFzn.mp4: expected a video that FFmpeg can read",
    ),
    "a short film": (
        "sav-train",
        lambda root: save_film(next(root.glob("*/*.mp4")), 10),
        r"3Zf4NFzn.mp4: expected frame 10, which its annotation names, found 10 frames",
    ),
    "a missing film": (
        "sav-train",
        unlink("sav_000/*.mp4"),
        r"manual.json: expected its video .*3Zf4NFzn.mp4, found none",
    ),
    "more masks than frames": (
        "sav-train",
        edit("*/*_manual.json", lambda v: v.update(video_frame_count=9.0)),
        r"masks of 6 steps, the last in frame 00020, for a video of 9 frames",
    ),
    "no number of frames": (
        "supervisely",
        edit("ds0/ann/*.json", lambda v: v.pop("framesCount")),
        r"mp4.json: is not an annotation as expected \(KeyError\('framesCount'\)\)",
    ),
    "a mask beyond the film": (
        "supervisely",
        edit("ds0/ann/*.json", lambda v: v["frames"][-1].update(index=999)),
        r"mp4.json: has masks in frame 00999, for a video of \d+ frames",
    ),
    "a mask before the film": (
        "supervisely",
        edit("ds0/ann/*.json", lambda v: v["frames"][0].update(index=-1)),
        r"mp4.json: has masks in frame -0001, for a video of",
    ),
    "a bitmap that is none": (
        "supervisely",
        edit(
            "ds0/ann/*.json",
            lambda v: v["frames"][0]["figures"][0]["geometry"]["bitmap"].update(data="eJwA"),
        ),
        r"mp4.json: video '3Zf4NFzn', frame '00000', object 'key1': bitmap ",
    ),
    "no xml": (
        "cvat-video-xml",
        write("annotations.xml", b"<a>"),
        r"annotations.xml: expected XML",
    ),
    "xml with entities": (
        "cvat-video-xml",
        write("annotations.xml", b"<!DOCTYPE a []><a/>"),
        r"annotations.xml: expected XML of CVAT, found entities",
    ),
    "tracks of boxes": (
        "cvat-video-xml",
        write("annotations.xml", b'<a><track id="0"><box frame="0"/></track></a>'),
        r"annotations.xml: expected tracks of masks, found 1 other shapes; convert",
    ),
    "no tracks": (
        "cvat-video-xml",
        write("annotations.xml", b'<a><image id="0"><mask/></image></a>'),
        r"annotations.xml: expected tracks of masks, found none; annotate tracks",
    ),
    "colours as ids": (
        "mose-v2",
        lambda root: Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        ).save(next(root.glob("train/Ann*/*/*02.png"))),
        r"frame_000002.png: expected a palette or grey mask",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_tree_is_one_line_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    layout, damage, expected = BAD[case]
    draw(find_dataset(layout), tmp_path / "tree")
    damage(tmp_path / "tree")
    with pytest.raises(DataError, match=expected) as caught:
        pack_videos(layout, tmp_path / "tree", None, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "tree") in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("layout", ["sav-train", "supervisely", "sav-val", "mose-v2"])
def test_a_bad_video_among_good_ones_is_left_out_on_request(tmp_path: Path, layout: str) -> None:
    for name in ("good", "worse"):
        draw(find_dataset(layout), tmp_path / "tree", name)
    for path in (tmp_path / "tree").rglob("*worse*"):
        if path.is_dir() and "Annotations" not in str(path):
            next(iter(sorted(path.iterdir()))).write_bytes(b"no image")
        elif path.suffix == ".mp4":
            path.write_bytes(path.read_bytes()[:300])
    arguments = (layout, tmp_path / "tree", None, tmp_path / "out")
    with pytest.raises(DataError, match=r"worse.*--on-bad-video skip"):
        pack_videos(*arguments)
    manifest = pack_videos(*arguments, on_bad_video="skip")
    assert manifest.totals["samples"] == 1
    assert manifest.skipped["unusable video, left out"] == 1
    (notes,) = ShardSet.open(tmp_path / "out").notes("unusable video, left out").values()
    assert "worse" in notes[0]


def test_annotations_of_a_video_that_is_not_there_are_counted_and_named(tmp_path: Path) -> None:
    draw(find_dataset("ovis"), tmp_path / "tree")
    lost = [{"id": 9, "video_id": 77}, {"id": 10, "video_id": [1]}]
    edit("annotations_train.json", lambda v: v["annotations"].extend(lost))(tmp_path / "tree")
    manifest = pack_videos("ovis", tmp_path / "tree", None, tmp_path / "out")
    assert manifest.skipped["annotations_train.json has no such video"] == 2
    notes = ShardSet.open(tmp_path / "out").notes("annotations_train.json has no such video")
    assert "1 annotations of video_id 77" in notes.popitem()[1]


@pytest.mark.parametrize("layout", ["vost", "davis2017"])
def test_a_video_that_no_list_names_is_counted(tmp_path: Path, layout: str) -> None:
    form, root = find_dataset(layout).form, tmp_path / "tree"
    for name in ("listed", "lost"):
        draw(find_dataset("vost"), root, name)
        if isinstance(form, DavisTree):
            for kind in ("JPEGImages", "Annotations"):
                shutil.move(root / kind / name, root / kind / form.resolution / name)
    (root / "ImageSets/2017").mkdir()
    for path in ("train.txt", "2017/train.txt"):
        (root / "ImageSets" / path).write_text("listed\n")
    assert find_dataset(layout).listing(root).left_out == {"lost": "in no list of a split"}
    assert not find_dataset(layout).listing(root, "train").left_out


@pytest.mark.parametrize("layout", ["mose-v2", "own-object-folders", "xmem2-workspace"])
def test_masks_without_a_folder_of_frames_are_counted(tmp_path: Path, layout: str) -> None:
    for name in ("good", "lost"):
        draw(find_dataset(layout), tmp_path / "tree", name)
    (frames,) = (p for p in (tmp_path / "tree").rglob("lost") if "Annotations" not in str(p))
    shutil.rmtree(frames / "JPEGImages" if layout == "xmem2-workspace" else frames)
    listing = find_dataset(layout).listing(tmp_path / "tree")
    assert [entry.name for entry in listing.entries] == ["good"]
    assert listing.left_out == {"lost": "has masks, and no folder of frames"}


@pytest.mark.parametrize("split", ["val", "../x", "*", ".."])
@pytest.mark.parametrize("layout", ["sav-train", "burst", "mose-v2"])
def test_a_split_that_is_not_there_packs_nothing(tmp_path: Path, layout: str, split: str) -> None:
    draw(find_dataset(layout), tmp_path / "tree")
    with pytest.raises(StmError, match=r"split|val/JPEGImages: expected a folder"):
        prepare_videos(layout, tmp_path / "tree", split)


def test_a_tree_of_another_layout_is_named(tmp_path: Path) -> None:
    draw(find_dataset("ovis"), tmp_path / "ovis")
    with pytest.raises(
        DataError, match=r"expected the layout mose-v1.*found ovis; use --layout ovis"
    ):
        open_dataset(tmp_path / "ovis", "mose-v1")
    with pytest.raises(DataError, match=r"ovis: pass that folder"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=rf"pass {tmp_path}/ovis"):
        open_dataset(tmp_path, "ovis")
    shutil.move(tmp_path / "ovis" / "train", tmp_path / "frames")
    (tmp_path / "other" / "x").mkdir(parents=True)
    with pytest.raises(DataError, match=r"expected a known data set of videos, found x"):
        open_dataset(tmp_path / "other")


def test_still_images_are_sent_to_their_own_command(tmp_path: Path) -> None:
    draw_coco(tmp_path, images=2, size=(40, 60))
    for layout in ("auto", "mose-v1", "ytvis-2019"):
        with pytest.raises(DataError, match=r"still images.*stm prepare-coco"):
            open_dataset(tmp_path, layout)


def test_a_level_too_deep_is_named(tmp_path: Path) -> None:
    draw(find_dataset("mose-v2"), tmp_path / "MOSE", "aabbccdd")
    for split in ("train", "train/JPEGImages"):
        with pytest.raises(StmError, match=r"MOSE"):
            open_dataset(tmp_path / "MOSE" / split)
    with pytest.raises(UsageError, match=r"could be mose-v1 or mose-v2"):
        open_dataset(tmp_path / "MOSE")
    (tmp_path / "MOSE" / "meta_valid.json").write_text("{}")
    tree = open_dataset(tmp_path / "MOSE")
    assert (tree.dataset.name, "train/JPEGImages/aabbccdd" in tree.why) == ("mose-v2", True)


@pytest.mark.parametrize(
    ("layout", "files"),
    [
        ("tao", ("annotations/train.json", "frames/train/LaSOT/a/0.jpg")),
        ("label-studio-png", ("masks/task-1-annotation-2-by-1-tag-cat-0.png",)),
        ("cvat-segmentation-mask", ("labelmap.txt", "SegmentationObject/0.png")),
    ],
)
def test_layouts_without_objects_to_follow_are_refused(
    tmp_path: Path, layout: str, files: tuple[str, ...]
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    for named in (layout, "auto", "mose-v1"):
        with pytest.raises(DataError, match=r"BURST|own-object-folders|MOTS"):
            prepare_videos(named, tmp_path)
