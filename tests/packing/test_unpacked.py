"""Clips that are looked at before packing are those that packing writes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from stmdata.packing.clips import ClipOptions, prepare_coco, prepare_masks
from stmdata.packing.pack import SetPlan, pack
from stmdata.packing.unpacked import unpacked_clips
from stmdata.synthesis.recipe import CLASSIC, DEFAULT
from stmtrain.errors import UsageError
from stmtrain.images.decode import decode_mask
from stmtrain.preview.clips import captions
from stmtrain.preview.stored import origin_texts
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord

OPTIONS = ClipOptions(replace(DEFAULT, appearance="none"), size=64, variants=2, clips_per_shard=7)


def plan(tree: Path, options: ClipOptions = OPTIONS) -> SetPlan:
    annotations = tree / "annotations" / "instances_train2017.json"
    return prepare_coco(tree / "train2017", annotations, options)


def test_they_have_the_bytes_of_the_packed_set(coco_tree: Path, tmp_path: Path) -> None:
    made = plan(coco_tree)
    pack(made, tmp_path / "set", workers=1)
    packed = ShardSet.open(tmp_path / "set")
    stored = {packed.record(i).sample_key: packed.read(i) for i in range(len(packed))}
    clips = unpacked_clips({"default": made})
    assert len(clips) == 24
    shown = set()
    for place in (23, 0, 8, *range(5)):
        (view,) = clips[place]
        if view.jpegs:
            sample = stored[view.caption]
            assert list(view.jpegs) == list(sample.frames.values())
            for mask, data in zip(view.masks, sample.masks.values(), strict=True):
                np.testing.assert_array_equal(mask, decode_mask(data, "mask"))
            assert tuple(view.object_ids) == sample.record.object_ids
            shown.add(view.caption)
    assert len(shown) >= 5


def test_recipes_are_side_by_side_on_the_same_image(coco_tree: Path) -> None:
    recipes = {"classic": CLASSIC, "default": DEFAULT, "again": DEFAULT}
    plans = {name: plan(coco_tree, replace(OPTIONS, recipe=r)) for name, r in recipes.items()}
    clips = unpacked_clips(plans)
    for place in (0, 5):
        classic, default, again = clips[place]
        assert captions([classic, default, again])[1] == ["classic", "default", "again"]
        assert {f"recipe {name}" for name in recipes} == {
            part for view in clips[place] for part in view.about if part.startswith("recipe")
        }
        assert list(default.jpegs) == list(again.jpegs)
        assert list(default.jpegs) != list(classic.jpegs)


def test_an_image_without_a_clip_says_why(coco_tree: Path) -> None:
    strict = replace(OPTIONS, recipe=replace(DEFAULT, min_side=5000))
    (view,) = unpacked_clips({"strict": plan(coco_tree, strict)})[0]
    assert "skipped: image too small (1)" in view.about
    assert any(part.startswith("image ") for part in view.about)
    assert list(view.masks) == [None] * 3
    assert not view.object_ids


def test_clips_are_found_by_key(coco_tree: Path) -> None:
    made = plan(coco_tree)
    every = [view.caption for (view,) in unpacked_clips({"a": made})[:9]]
    found = unpacked_clips({"a": made}, [every[8], every[2]])
    assert [view.caption for (view,) in found] == [every[8], every[2]]
    with pytest.raises(UsageError, match=r"--key: no clip 'no'; keys look like 'coco_"):
        unpacked_clips({"a": made}, ["no"])


def preview(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["preview", *map(str, words)])
    return result.exit_code, result.output


def test_the_command_shows_and_compares(coco_tree: Path) -> None:
    images = ("--images", coco_tree / "train2017", "--size", 64)
    coco = (*images, "--annotations", coco_tree / "annotations/instances_train2017.json")
    code, shown = preview(*coco, "--compare", "classic", "default", "--limit", 2)
    assert code == 0
    assert shown.count("_v000 classic") == shown.count("_v000 default") == 2
    code, shown = preview(*coco, "--frames", 5, "--limit", 1, "--seed", 7)
    assert "00004" in shown
    assert "seed 7" in shown.replace("\n", " ")
    assert "64x64 px" in shown.replace("\n", " ")


def test_the_command_shows_images_with_mask_files(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(3):
        mask = np.zeros((120, 160), np.uint8)
        mask[30:100, 30:120] = 255
        pixels = rng.integers(0, 256, (120, 160, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
        Image.fromarray(mask).save(tmp_path / f"{number}.png")
    assert len(unpacked_clips({"default": prepare_masks(tmp_path, tmp_path, OPTIONS)})) == 6
    code, shown = preview("--images", tmp_path, "--masks", tmp_path, "--limit", 1)
    assert code == 0
    assert "masks_" in shown


def test_names_that_are_no_text_are_shown() -> None:
    record = SampleRecord("a", 9, 9, ("0",), (), (), (), (9, 9), {"image": "f\udcff\ud800.jpg"})
    (about, _) = origin_texts(record)
    assert about == "image f??.jpg"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--images", "a"], "--images: expected --annotations or --masks"),
        (["--images", "a", "--annotations", "b", "--masks", "c"], "one of the two"),
        (["--annotations", "b", "shards"], "--annotations: is not used with stored clips"),
        (["--images", "a", "--masks", "b", "shards"], "expected no shard set with --images"),
        (["--images", "a", "--masks", "b", "--compare", "classic", "--recipe", "x"], "--recipe"),
        (["--images", "a", "--masks", "b", "--random"], "which --seed changes"),
        (["--images", "a", "--masks", "b", "--beside"], "--beside: is not used with --images"),
        (["--images", "a", "--as-trained", "1"], "--images: is not used with --as-trained"),
        (["--images", "a", "--masks", "b", "--frames", "99"], "--frames: expected 2 to 16"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: list[str], message: str) -> None:
    code, output = preview(*words)
    assert code == 2
    assert message in output
