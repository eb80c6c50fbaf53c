import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stmdata.packing.clips import ClipMaker, ClipOptions, prepare_masks, split_into_jobs
from stmdata.packing.pack import pack
from stmdata.stills.mask_files import find_stills
from stmdata.stills.source import CocoSource, MaskSource, Picture
from stmdata.synthesis.appearance_policy import NONE
from stmdata.synthesis.layers import Cutout
from stmdata.synthesis.recipe import CLASSIC, DEFAULT
from stmtrain.errors import DataError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.manifest import Manifest, Sidecar
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, Skipped
from tests.sets import pack_coco

SMALL = ClipOptions(replace(DEFAULT, appearance="none", min_instance_area=100.0), size=64)


@pytest.fixture
def coco(coco_tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(coco_tree, tmp_path / "coco"))


def prepare(tree: Path, out: Path, options: ClipOptions = SMALL, **more) -> Manifest:
    return pack_coco(tree, out, options, **more)


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def test_a_set_holds_every_image_in_every_variant(coco: Path, tmp_path: Path) -> None:
    options = replace(SMALL, variants=3, frames=4, clips_per_shard=7)
    manifest = prepare(coco, tmp_path / "out", options)
    shards = ShardSet.open(tmp_path / "out")
    keys = [shards.record(i).sample_key for i in range(len(shards))]
    skipped = [s for s in manifest.skipped if "object of real size" in s]
    assert len(set(keys)) == len(keys) == 36 - sum(manifest.skipped[s] for s in skipped)
    for i in range(len(shards)):
        sample = shards.read(i)
        record = sample.record
        frames = [decode_frame(sample.frames[name], name) for name in record.frames]
        masks = np.stack([decode_mask(sample.masks[name], name) for name in record.frames])
        assert record.frames == ("00000", "00001", "00002", "00003") == record.mask_frames
        assert {frame.shape for frame in frames} == {(64, 64, 3)}
        assert (record.height, record.width) == masks.shape[1:] == (64, 64)
        assert record.object_ids == tuple(range(1, masks[0].max() + 1))
        for object_id, areas in zip(record.object_ids, record.areas, strict=True):
            assert areas == tuple((masks == object_id).sum(axis=(1, 2)).tolist())
            assert areas[0] > 0
        variant = int(record.sample_key[-3:])
        assert record.origin["variant"] == variant < 3
        assert record.sample_key == f"coco_{record.origin['image_id']:012d}_v{variant:03d}"
        with Image.open(coco / "train2017" / record.origin["image"]) as image:
            assert record.original_size == image.size[::-1]


def test_neighbours_in_a_shard_are_different_images() -> None:
    jobs = split_into_jobs("coco", 50, replace(SMALL, variants=4, clips_per_shard=25))
    tasks = [task for job in jobs for task in job.items]
    assert sorted((t.image, t.variant) for t in tasks) == sorted(
        (i, v) for i in range(50) for v in range(4)
    )
    for number, job in enumerate(jobs):
        assert job.name == f"coco-{number:06d}"
        assert [(t.shard, t.sample) for t in job.items] == [(number, i) for i in range(25)]
        assert len({t.image for t in job.items}) == 25
    order = [t.image for t in tasks[:50]]
    assert order != sorted(order)
    assert order != [t.image for t in tasks[50:100]]


def test_the_bytes_depend_on_the_seed_alone(coco: Path, tmp_path: Path) -> None:
    options = replace(SMALL, recipe=replace(SMALL.recipe, appearance="light"), clips_per_shard=5)
    prepare(coco, tmp_path / "one", options, workers=1)
    prepare(coco, tmp_path / "two", options, workers=2)
    prepare(coco, tmp_path / "other", replace(options, seed=1))
    one, two, other = (bytes_of(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    tars = [name for name in one if name.endswith(".tar")]
    assert len(tars) == 3
    assert all(one[name] != other[name] for name in tars)


def test_a_maker_is_pickled_small_and_makes_one_shard_alone(coco: Path) -> None:
    source = CocoSource(coco / "train2017", coco / "annotations" / "instances_train2017.json")
    options = replace(SMALL, clips_per_shard=5)
    make = ClipMaker(source, options, NONE)
    jobs = split_into_jobs("coco", len(source), options)
    data = pickle.dumps(make)
    assert len(data) < 10_000
    first, again = (list(pickle.loads(data)(jobs[2])) for _ in range(2))
    assert first == again
    assert [type(s) for s in first].count(Sample) + [type(s) for s in first].count(Skipped) > 0


def edit(coco: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    path = coco / "annotations" / "instances_train2017.json"
    data: dict[str, Any] = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return data


def test_crowd_regions_are_never_objects_and_never_pasted(coco: Path, tmp_path: Path) -> None:
    def keep_crowded(data: dict[str, Any]) -> None:
        data["annotations"] = [a for a in data["annotations"] if a["iscrowd"]]
        ids = {a["image_id"] for a in data["annotations"]}
        data["images"] = [i for i in data["images"] if i["id"] in ids]

    count = len(edit(coco, keep_crowded)["annotations"])
    assert count
    with pytest.raises(DataError, match=rf"crowd region \({count} times\).*CVAT.*set iscrowd to 0"):
        prepare(coco, tmp_path / "out")


def test_a_set_without_a_sample_is_an_error_and_leaves_nothing(coco: Path, tmp_path: Path) -> None:
    def without_masks(data: dict[str, Any]) -> None:
        data["annotations"] = [a | {"segmentation": []} for a in data["annotations"]]

    before = json.loads((coco / "annotations" / "instances_train2017.json").read_text())
    edit(coco, without_masks)
    with pytest.raises(DataError, match=r"annotation without a segmentation \(\d+ times\)"):
        prepare(coco, tmp_path / "out", replace(SMALL, clips_per_shard=5), workers=2)
    assert not list((tmp_path / "out").iterdir())
    edit(coco, lambda data: data.update(before))
    assert prepare(coco, tmp_path / "out").totals["samples"]


def test_a_file_without_annotations_is_named(coco: Path, tmp_path: Path) -> None:
    edit(coco, lambda data: data.update(annotations=[]))
    with pytest.raises(DataError, match=r"instances_train2017\.json: expected annotated objects"):
        prepare(coco, tmp_path / "out")


@pytest.mark.parametrize("limit", [None, 5])
def test_every_annotation_is_used_or_skipped(coco: Path, tmp_path: Path, limit: int | None) -> None:
    """Used: an object of the label map. Images beyond the limit are not counted either way."""
    spoils = [
        {"segmentation": []},
        {"segmentation": [[1, 1, 9, 9]]},
        {"segmentation": [[1, 1, 9, 1, 9, 9, 5]]},
        {"segmentation": {"size": [160, 120], "counts": [19200]}},
        {"segmentation": {"size": [120, 160], "counts": [19]}},
        {"segmentation": "none"},
        {"segmentation": [[3, 3, 4, 3, 4, 4]], "area": 1e6},
        {"iscrowd": 1},
        {},
    ]

    def spoil(data: dict[str, Any]) -> None:
        more = [a | {"id": f"again {k}"} for k, a in enumerate(data["annotations"])]
        data["annotations"] += [a | spoils[k % len(spoils)] for k, a in enumerate(more)]

    data = edit(coco, spoil)
    options = replace(SMALL, variants=2, clips_per_shard=7)
    prepare(coco, tmp_path / "out", options, limit=limit)
    skipped = [item for item in read_skipped(tmp_path / "out") if " annotation " in item.input]
    source = CocoSource(
        coco / "train2017", coco / "annotations" / "instances_train2017.json", limit
    )
    recipe = SMALL.recipe
    used = sum(
        int(source.read(i, recipe.min_instance_area).labels.max()) for i in range(len(source))
    )
    ids = {image["id"] for image in data["images"][:limit]}
    assert used + len(skipped) == sum(a["image_id"] in ids for a in data["annotations"])
    assert len({item.input for item in skipped}) == len(skipped)
    assert len({item.reason for item in skipped}) >= 8


def read_skipped(out: Path) -> list[Skipped]:
    sidecars = [path for path in out.glob("*.json") if path.stem[-1].isdigit()]
    return [s for path in sidecars for s in Sidecar.from_json(path.read_bytes(), "").skipped]


def test_the_annotated_area_decides_nothing(coco: Path, tmp_path: Path) -> None:
    prepare(coco, tmp_path / "one")
    edit(coco, lambda data: [a.update(area=0) for a in data["annotations"]])
    prepare(coco, tmp_path / "two")
    one, two = (bytes_of(tmp_path / name) for name in ("one", "two"))
    assert all(one[name] == two[name] for name in one if name.endswith(".tar"))


def test_small_instances_are_counted_once_whatever_the_variants(coco: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL.recipe, min_instance_area=1500.0)
    manifest = prepare(coco, tmp_path / "out", replace(SMALL, recipe=recipe, variants=2))
    annotations = json.loads((coco / "annotations" / "instances_train2017.json").read_text())
    areas = [a["area"] for a in annotations["annotations"] if not a["iscrowd"]]
    small = sum(area < 1500 for area in areas)
    assert 0 < small < len(areas)
    assert manifest.skipped["instance smaller than 1500 px"] == small


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "size"])
def test_a_bad_image_stops_or_is_counted(coco: Path, tmp_path: Path, damage: str) -> None:
    path = sorted((coco / "train2017").iterdir())[3]
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("no image")
    else:
        Image.new("RGB", (20, 30)).save(path)
    with pytest.raises(DataError) as caught:
        prepare(coco, tmp_path / "stopped")
    assert str(path) in str(caught.value)
    assert "--on-bad-image skip" in str(caught.value)
    assert not list((tmp_path / "stopped").iterdir())
    manifest = prepare(coco, tmp_path / "stopped", replace(SMALL, on_bad_image="skip"))
    assert manifest.skipped["unreadable image"] == 1
    assert manifest.totals["samples"] >= 8


def test_skipping_bad_images_after_shards_are_finished_is_what_the_message_says(
    coco: Path, tmp_path: Path
) -> None:
    """The set states how bad images are treated, so that skipping them makes another set."""
    options = replace(SMALL, clips_per_shard=1)
    sorted((coco / "train2017").iterdir())[3].unlink()
    with pytest.raises(DataError, match="--on-bad-image skip --overwrite"):
        prepare(coco, tmp_path / "out", options)
    assert list((tmp_path / "out").glob("*.tar"))
    skipping = replace(options, on_bad_image="skip")
    with pytest.raises(UsageError, match="another configuration"):
        prepare(coco, tmp_path / "out", skipping)
    assert prepare(coco, tmp_path / "out", skipping, overwrite=True).totals["samples"]


def test_a_set_is_not_mixed_with_another(coco: Path, tmp_path: Path) -> None:
    prepare(coco, tmp_path / "out", limit=3)
    with pytest.raises(UsageError, match="limit"):
        prepare(coco, tmp_path / "out", limit=4)
    with pytest.raises(UsageError, match="recipe"):
        prepare(coco, tmp_path / "out", replace(SMALL, recipe=CLASSIC), limit=3)
    assert prepare(coco, tmp_path / "out", limit=4, overwrite=True).totals["samples"] <= 4


def test_the_limit_holds_for_cutouts_too(coco: Path) -> None:
    for path in sorted((coco / "train2017").iterdir())[2:]:
        path.unlink()
    annotations = coco / "annotations" / "instances_train2017.json"
    source = CocoSource(coco / "train2017", annotations, limit=2)
    cutouts = list(source.cutouts(20, 50, np.random.default_rng(0)))
    assert len(source) == 2
    assert len(cutouts) == 20
    assert all(isinstance(cutout, Cutout) for cutout in cutouts)


def test_masks_beside_images_become_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("images/a b", "masks/a b"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(4):
        mask = np.zeros((90, 120), np.uint8)
        mask[20:70, 20 + 5 * i : 90] = 255
        image = rng.integers(0, 256, (90, 120, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/a b/{i}.jpg")
        Image.fromarray(mask).save(tmp_path / f"masks/a b/{i}.png")
    Image.fromarray(mask * 0).save(tmp_path / "masks/a b/3.png")
    options = replace(SMALL, frames=5)
    plan = prepare_masks(tmp_path / "images", tmp_path / "masks", options)
    manifest = pack(plan, tmp_path / "out")
    assert manifest.skipped["mask without an object"] == 1
    assert manifest.totals["samples"] == 4  # the empty one shows what was pasted
    record = ShardSet.open(tmp_path / "out").record(0)
    assert record.sample_key.startswith("masks_a_b_")
    assert record.origin["image"].startswith("a b/")
    assert len(record.frames) == 5
    shutil.copy(tmp_path / "images/a b/0.jpg", tmp_path / "images/a b/9.jpg")
    with pytest.raises(DataError, match=r"9\.jpg"):
        prepare_masks(tmp_path / "images", tmp_path / "masks", options)


def test_keys_of_masks_differ_and_fit(tmp_path: Path) -> None:
    names = ["x/1", "x_1", "x 1", "y" * 90, "y" * 91]
    for name in names:
        for folder in ("images", "masks"):
            path = tmp_path / folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 255).save(path)
    source = MaskSource(tuple(find_stills(tmp_path / "images", tmp_path / "masks")))
    keys = [source.key(i) + "_v000" for i in range(len(source))]
    assert len(set(keys)) == len(names)
    assert max(map(len, keys)) <= 64
    picture = source.read(0, 1)
    assert isinstance(picture, Picture)
    assert (picture.labels == 1).all()


@pytest.mark.parametrize(
    "wrong", [{"frames": 1}, {"frames": 17}, {"size": 8}, {"quality": 0}, {"variants": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}: expected"):
        replace(SMALL, **wrong)
