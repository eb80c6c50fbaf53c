"""Drawn data sets: the content of the trees; equal seeds give equal trees; motion to learn from."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from stmdata.drawn.scenes import draw_scene, draw_video
from stmdata.drawn.trees import _run_lengths, draw_coco, draw_davis, draw_youtube_vos
from stmtrain.images.decode import decode_mask

# pycocotools itself is not yet written for NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = {"size": (48, 64)}


def jaccard(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [f"{p.relative_to(root)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in files]


def read_mask(path):
    return decode_mask(path.read_bytes(), str(path))


def coco_mask_of(annotation, size):
    segmentation = annotation["segmentation"]
    if isinstance(segmentation, list):
        rles = coco_mask.frPyObjects(segmentation, *size)
        return coco_mask.decode(coco_mask.merge(rles)) > 0
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.decode(segmentation) > 0


@pytest.mark.parametrize(
    ("draw", "options"),
    [(draw_coco, {"images": 6}), (draw_davis, {"frames": 3}), (draw_youtube_vos, {"frames": 6})],
)
def test_same_seed_same_bytes(tmp_path, draw, options):
    first, second, other = (
        digest(draw(tmp_path / name, seed=seed, **SMALL, **options))
        for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    assert first == second
    assert first != other


def test_a_video_of_a_set_does_not_depend_on_how_many_there_are(tmp_path):
    few = digest(draw_davis(tmp_path / "few", videos=2, frames=3, **SMALL))
    many = digest(draw_davis(tmp_path / "many", videos=3, frames=3, **SMALL))
    pictures = [line for line in few if "drawn-01" in line]
    assert len(pictures) == 6
    assert set(pictures) <= set(many)


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_the_first_mask_is_a_poor_guess_and_neighbours_are_alike(objects):
    repeated, neighbours = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        _, masks = draw_video(rng, frames=12, size=(64, 64), objects=objects)
        for number in range(1, objects + 1):
            own = masks == number
            repeated += [jaccard(own[0], own[t]) for t in range(1, 12)]
            neighbours += [jaccard(own[t - 1], own[t]) for t in range(1, 12)]
    assert np.mean(repeated) < 0.4
    assert np.mean(neighbours) > 0.6


@pytest.mark.parametrize("size", [(96, 96), (96, 128), (128, 96)])
def test_objects_are_large_and_all_seen_at_the_start(size):
    for seed in range(10):
        scene = draw_scene(np.random.default_rng(seed), size, 1 + seed % 3)
        frame, mask = scene.render(size)
        assert frame.shape == (*size, 3)
        assert set(np.unique(mask)) == set(range(2 + seed % 3))
        for number in range(1, 2 + seed % 3):
            assert (mask == number).sum() > 0.4 * np.pi * (0.15 * 96) ** 2


def test_colours_of_an_object_last():
    frames, masks = draw_video(np.random.default_rng(0), frames=10, size=(96, 96), objects=2)
    means = np.array(
        [[f[m == i].mean(axis=0) for f, m in zip(frames, masks, strict=True)] for i in (1, 2)]
    )
    assert means.std(axis=1).max() < 25
    assert np.abs(means[0].mean(axis=0) - means[1].mean(axis=0)).max() > 50


def test_coco_kinds(coco_tree):
    value = json.loads((coco_tree / "annotations/instances_train2017.json").read_text())
    by_image = {r["id"]: [] for r in value["images"]}
    for annotation in value["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    kinds = list(by_image.values())
    assert all(isinstance(a["segmentation"], list) for a in kinds[0])
    assert len(kinds[1][0]["segmentation"]) == 2
    assert isinstance(kinds[2][0]["segmentation"]["counts"], str)
    crowds = [a for a in kinds[3] if a["iscrowd"]]
    assert [isinstance(a["segmentation"]["counts"], list) for a in crowds] == [True]
    assert kinds[5] == []
    modes = {}
    for record in value["images"]:
        with Image.open(coco_tree / "train2017" / record["file_name"]) as image:
            assert image.size == (record["width"], record["height"])
            modes[record["id"]] = image.mode
    assert list(modes.values())[:6] == ["RGB"] * 4 + ["L", "RGB"]
    ids = [a["id"] for a in value["annotations"]]
    assert len(set(ids)) == len(ids)
    assert {a["category_id"] for a in value["annotations"]} <= {
        c["id"] for c in value["categories"]
    }


def test_coco_annotations_agree_with_pycocotools_and_the_picture(coco_tree):
    value = json.loads((coco_tree / "annotations/instances_train2017.json").read_text())
    for record in value["images"]:
        with Image.open(coco_tree / "train2017" / record["file_name"]) as image:
            picture = np.asarray(image.convert("RGB")).astype(float)
        for annotation in (a for a in value["annotations"] if a["image_id"] == record["id"]):
            mask = coco_mask_of(annotation, (record["height"], record["width"]))
            assert abs(mask.sum() - annotation["area"]) < 0.06 * annotation["area"]
            if not isinstance(annotation["segmentation"], list):
                assert mask.sum() == annotation["area"]
            ys, xs = np.nonzero(mask)
            x, y, w, h = annotation["bbox"]
            found = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            assert np.abs(np.array(found) - (x, y, x + w, y + h)).max() <= 2
            if picture.std(axis=2).any():
                assert np.abs(picture[mask].mean(0) - picture[~mask].mean(0)).max() > 8


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 30)])
def test_run_lengths_are_cocos(shape):
    for seed in range(20):
        mask = np.random.default_rng(seed).uniform(size=shape) < seed / 19
        mask = np.repeat(np.repeat(mask, 9, axis=0), 40, axis=1)
        rle = {"counts": _run_lengths(mask), "size": list(mask.shape)}
        compressed = coco_mask.frPyObjects(rle, *mask.shape)
        assert np.array_equal(coco_mask.decode(compressed) > 0, mask)


def test_davis_2017_tree(davis_tree):
    lists = davis_tree / "ImageSets/2017"
    assert (lists / "train.txt").read_text().split() == ["drawn-00", "drawn-01"]
    assert (lists / "val.txt").read_text().split() == ["drawn-02"]
    for i, name in enumerate(("drawn-00", "drawn-01", "drawn-02")):
        frames = sorted(p.stem for p in (davis_tree / "JPEGImages/480p" / name).iterdir())
        masks = sorted((davis_tree / "Annotations/480p" / name).iterdir())
        assert frames == [p.stem for p in masks] == [f"{t:05d}" for t in range(8)]
        with Image.open(masks[0]) as image:
            assert image.mode == "P"
        assert set(np.unique(read_mask(masks[0]))) == {0, *(1, 3, 4)[: i + 1]}


def test_davis_void_lies_between_labels(tmp_path):
    plain = draw_davis(tmp_path / "plain", frames=2, **SMALL)
    void = draw_davis(tmp_path / "void", frames=2, void=True, **SMALL)
    for path in sorted((plain / "Annotations").rglob("*.png")):
        before, after = read_mask(path), read_mask(void / path.relative_to(plain))
        hidden = after == 255
        assert 0 < hidden.mean() < 0.3
        assert np.array_equal(before[~hidden], after[~hidden])


def test_davis_2016_tree(davis2016_tree):
    modes = {}
    for path in sorted((davis2016_tree / "Annotations").rglob("*.png")):
        with Image.open(path) as image:
            modes[f"{path.parent.name}/{path.stem}"] = image.mode
        assert set(np.unique(read_mask(path))) == {0, 255}
    assert [name for name, mode in modes.items() if mode == "LA"] == ["drawn-00/00007"]
    assert set(modes.values()) == {"L", "LA"}
    assert (davis2016_tree / "ImageSets/2016/val.txt").read_text() == "drawn-02\n"


@pytest.mark.parametrize("split", ["train", "valid"])
def test_youtube_vos_tree(youtube_vos_tree, split):
    root = youtube_vos_tree / split
    record = json.loads((root / "meta.json").read_text())["videos"]
    assert len(record) == {"train": 2, "valid": 1}[split]
    for name, entry in record.items():
        assert len(list((root / "JPEGImages" / name).iterdir())) == 13
        masks = {p.stem: read_mask(p) for p in sorted((root / "Annotations" / name).iterdir())}
        shown = {
            number: [t for t, mask in masks.items() if (mask == int(number)).any()]
            for number in entry["objects"]
        }
        assert set(shown) in ({"1", "3", "4"}, {"1", "3"})
        last = max(shown)
        assert shown[last][0] in ("00005", "00010")
        for number, frames in shown.items():
            listed = entry["objects"][number]["frames"]
            if split == "train":
                assert frames == listed
                assert list(masks) == ["00000", "00005", "00010"]
            else:
                assert frames == listed[:1]
                assert listed[-1] == "00010"


def test_a_tree_is_not_drawn_over_another(tmp_path):
    draw_davis(tmp_path, videos=1, val=0, frames=1, **SMALL)
    with pytest.raises(FileExistsError):
        draw_davis(tmp_path, videos=1, val=0, frames=1, **SMALL)
