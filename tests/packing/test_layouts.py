"""Every data set of the table, packed: frames, masks, ids and names are those of the tree."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from stmdata.checking.repair import repair
from stmdata.checking.verify import verify
from stmdata.packing.pack import pack
from stmdata.packing.videos import prepare_videos
from stmtrain.datasets.annotation_files import AnnotationFiles
from stmtrain.datasets.dataset import DATASETS, find_dataset
from stmtrain.datasets.image_tree import ImageTree
from stmtrain.datasets.json_set import JsonSet
from stmtrain.datasets.tree import open_dataset
from stmtrain.errors import DataError, StmError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import SampleRecord
from tests.datasets.drawn import draw, frame, grey, painted, save, save_film
from tests.paths import ROOT
from tests.sets import pack_videos
from tests.truth import differences

MAKE_TREES = ROOT.parent / "shared" / "layouts" / "make_trees.py"
FORMS = (ImageTree, JsonSet, AnnotationFiles)
DRAWN = [name for name, dataset in DATASETS.items() if isinstance(dataset.form, FORMS)]


@pytest.mark.parametrize("layout", DRAWN)
def test_a_packed_video_has_the_objects_of_its_tree(tmp_path: Path, layout: str) -> None:
    dataset = find_dataset(layout)
    masks = draw(dataset, tmp_path / "tree")
    for overlap in ("smaller", "higher", "lower")[: 3 if dataset.form.overlaps else 1]:
        manifest = pack_videos(layout, tmp_path / "tree", None, tmp_path / overlap, overlap=overlap)
        assert manifest.totals["samples"] == 1
        assert manifest.config.get("overlap", "smaller") == overlap
        shards = ShardSet.open(tmp_path / overlap)
        sample = shards.read(0)
        record = sample.record
        assert list(record.mask_frames) == list(masks)
        for name, objects in masks.items():
            label = decode_mask(sample.masks[name], name)
            np.testing.assert_array_equal(label, painted(objects, overlap))
        assert record.origin["dataset"] == layout
        assert shards.notes() == {}


@pytest.mark.parametrize("layout", ["sav-train", "mose-v2"])
def test_only_frames_with_a_mask_are_packed_on_request(tmp_path: Path, layout: str) -> None:
    masks = draw(find_dataset(layout), tmp_path / "tree")
    pack_videos(layout, tmp_path / "tree", None, tmp_path / "out", frames="masked")
    sample = ShardSet.open(tmp_path / "out").read(0)
    assert sample.record.frames == sample.record.mask_frames == tuple(masks)
    assert sample.record.origin["mask_stride"] == (4 if layout == "sav-train" else 2)
    for name, data in sample.frames.items():
        pixels = decode_frame(data, name)
        if layout == "sav-train":
            assert abs(float(pixels.mean()) - grey(int(name))) < 20
        else:
            assert abs(pixels.astype(int) - frame(int(name[-6:]))).mean() < 5


def test_frames_of_uvo_come_from_the_video_file_where_they_were_not_extracted(
    tmp_path: Path,
) -> None:
    masks = draw(find_dataset("uvo"), tmp_path / "tree")
    shutil.rmtree(tmp_path / "tree" / "uvo_videos_dense_frames")
    save_film(tmp_path / "tree" / "uvo_videos_dense" / "3Zf4NFzn.mp4")
    pack_videos("uvo", tmp_path / "tree", None, tmp_path / "out")
    sample = ShardSet.open(tmp_path / "out").read(0)
    assert list(sample.record.mask_frames) == list(masks)
    for t, data in enumerate(sample.frames.values()):
        assert abs(float(decode_frame(data, "").mean()) - grey(t)) < 20


# --- trees of other people's drawing --------------------------------------------------------------

shared = pytest.mark.skipif(not MAKE_TREES.exists(), reason=f"needs {MAKE_TREES}")
REFUSED = ("cvat-segmentation-mask", "label-studio-png", "tao")


def shared_layouts() -> list[str]:
    if not MAKE_TREES.exists():
        return ["none"]
    text = MAKE_TREES.read_text()
    return [line.split('"')[1] for line in text.splitlines() if line.startswith('@layout("')]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Draws all trees of a seed, once."""

    @cache
    def draw_all(seed: int) -> Path:
        out = tmp_path_factory.mktemp(f"seed{seed}")
        command = [sys.executable, str(MAKE_TREES), str(out), "--seed", str(seed)]
        subprocess.run(command, check=True, capture_output=True)
        return out

    return draw_all


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (7, 23))]
)
@pytest.mark.parametrize("layout", shared_layouts())
@shared
def test_every_layout_is_read_as_its_truth_states(
    tmp_path: Path, trees: Callable[[int], Path], layout: str, seed: int
) -> None:
    root = trees(seed) / layout / "tree"
    if layout in REFUSED:
        with pytest.raises(DataError):
            prepare_videos(layout, root)
        return
    truth = json.loads((root.parent / "truth.json").read_text())
    overlaps = any(m["overlap"] for v in truth["videos"] for m in v["mask_frames"].values())
    for overlap in ("smaller", "higher", "lower")[: 3 if overlaps else 1]:
        out = tmp_path / overlap
        pack(prepare_videos(layout, root, overlap=overlap), out)
        assert list(differences(out, truth, overlap)) == []
    notes = ShardSet.open(tmp_path / "smaller").notes()
    named = {name for inputs in notes.values() for name in inputs}
    assert {left["video"] for left in truth["unmasked"]} <= named


# --- many objects, names, recognition, repair -----------------------------------------------------


def ids_of(record: SampleRecord) -> Mapping[str, int]:
    return record.origin.get("id_map") or {str(i): i for i in record.object_ids}


def test_a_video_of_many_objects_is_refused_or_becomes_several(tmp_path: Path) -> None:
    root, size = tmp_path / "tree", (40, 48)
    for t in range(3):
        save(root / f"JPEGImages/crowd/{t}.jpg", np.zeros((*size, 3), np.uint8))
    for i in range(300):
        mask = np.zeros(size, np.uint8)
        mask[i // 20 * 2, i % 20 * 2] = 255
        save(root / f"Annotations/crowd/{i + 1}/0.png", mask)
    arguments = ("own-object-folders", root, None, tmp_path / "out")
    with pytest.raises(DataError, match=r"up to 254 objects, found 300.*--many-objects split"):
        pack_videos(*arguments)
    pack_videos(*arguments, many_objects="split")
    shards = ShardSet.open(tmp_path / "out")
    samples = [shards.read(i) for i in range(len(shards))]
    assert [len(sample.record.object_ids) for sample in samples] == [254, 46]
    seen: dict[str, int] = {}
    for sample in samples:
        label = decode_mask(sample.masks["0"], "")
        for name, i in ids_of(sample.record).items():
            seen[name] = int(np.flatnonzero(label == i)[0])
        assert sample.frames == samples[0].frames
    assert seen == {str(i + 1): i // 20 * 2 * 48 + i % 20 * 2 for i in range(300)}


def test_an_object_without_any_mask_is_named(tmp_path: Path) -> None:
    draw(find_dataset("own-object-folders"), tmp_path / "tree", "clip")
    (tmp_path / "tree/Annotations/clip/007").mkdir()
    pack_videos("own-object-folders", tmp_path / "tree", None, tmp_path / "out")
    notes = ShardSet.open(tmp_path / "out").notes()
    assert notes == {"object is visible in no mask": ["clip, object 007"]}


@pytest.mark.parametrize("layout", DRAWN)
def test_a_tree_is_recognised_or_the_user_is_asked(tmp_path: Path, layout: str) -> None:
    name = "aabbccdd" if layout.startswith("mose") else "3Zf4NFzn"
    draw(find_dataset(layout), tmp_path, name)
    try:
        found = open_dataset(tmp_path).dataset.name
    except StmError as error:  # two fit, or what tells this one apart was not drawn
        found = str(error)
    alike = ("ytvis-2022", "lvos-v1", "lvos-v2", "lvos-all-frames")  # by names that are not drawn
    assert layout in found or layout in alike


@pytest.mark.parametrize("layout", ["sav-train", "vipseg", "own-object-folders"])
def test_a_damaged_shard_is_rebuilt_from_the_tree(tmp_path: Path, layout: str) -> None:
    draw(find_dataset(layout), tmp_path / "tree", "my clip")
    options = {"overlap": "lower"} if find_dataset(layout).form.overlaps else {}
    pack_videos(layout, tmp_path / "tree", None, tmp_path / "out", frames="masked", **options)
    (shard,) = (tmp_path / "out").glob("*.tar")
    before = shard.read_bytes()
    shard.write_bytes(before[:5000] + b"x" + before[5001:])
    found = verify(tmp_path / "out")
    assert found.bad_shards
    repair(tmp_path / "out", found, {"root": tmp_path / "tree"})
    assert shard.read_bytes() == before
