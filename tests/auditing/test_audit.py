"""Every injected fault is found where it is, and nothing is found where there is none."""

import io
import json
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmdata.auditing.audit import audit
from stmdata.auditing.finding import Severity
from stmdata.auditing.inputs import open_input
from stmdata.auditing.outlines import outside
from stmdata.packing.clips import ClipOptions
from stmdata.packing.pack import Job, SetPlan, pack
from stmdata.packing.videos import prepare_videos
from stmtrain.datasets.dataset import find_dataset
from stmtrain.datasets.shapes import draw_boxed_runs, draw_rings, draw_segment
from stmtrain.images.encode import encode_frame, encode_mask
from stmtrain.shards.sample import Sample
from tests.auditing.faults import COUNT, FAULTS, clean_film
from tests.datasets.drawn import draw
from tests.paths import REAL, real_data
from tests.profiles import examples
from tests.sets import pack_coco


def audited(*roots, layout="auto", split=None):
    return audit([open_input(str(root), layout, split) for root in roots])


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_a_clean_video(tmp_path, seed):
    found = audited(clean_film(seed).write(tmp_path))
    assert found.findings == ()
    assert (found.videos, found.frames, found.masks) == (1, COUNT, COUNT)


@pytest.mark.parametrize("name", FAULTS)
@examples(12)
@given(st.integers(1, COUNT - 2), st.integers(0, 2**32 - 1))
def test_an_injected_fault_is_found_where_it_is(name, place, seed):
    film = clean_film(seed % 5)
    expected = FAULTS[name].inject(film, place, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        found = audited(film.write(Path(folder)))
    right = [finding for finding in found.findings if finding.kind == FAULTS[name].kind]
    assert any(expected in f.frames or expected in f.what for f in right), found.findings


def test_a_video_is_called_as_its_annotations_call_it(tmp_path):
    draw(find_dataset("cvat-video-xml"), tmp_path / "tree", "own")
    xml = (tmp_path / "tree" / "annotations.xml").read_text()
    (tmp_path / "tree" / "annotations.xml").write_text(xml.replace('frame="0"', 'frame="1"'))
    found = audited(tmp_path / "tree").findings
    assert found
    assert {finding.where for finding in found} == {f"{tmp_path / 'tree'}, video own"}


def test_masks_of_0_and_255_are_one_object_where_that_is_usual_and_void_elsewhere(tmp_path):
    film = clean_film()
    for place in range(COUNT):
        film.paint(place, np.array([0, 255, 255], np.uint8)[film.mask(place)])
    assert audited(film.write(tmp_path / "own")).findings == ()
    film.write(tmp_path / "train")
    (finding,) = audited(tmp_path, layout="mose-v2", split="train").findings
    assert (finding.kind, finding.severity) == ("ids", Severity.ERROR)


def test_frames_turned_by_their_exif_orientation_fit_masks_as_they_are_seen(tmp_path):
    film = clean_film()
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, data in film.frames.items():
        out = io.BytesIO()
        stored = Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_90)
        stored.save(out, "JPEG", quality=90, exif=exif)
        film.frames[name] = out.getvalue()
    assert audited(film.write(tmp_path)).findings == ()


def test_ids_of_more_than_8_bits_are_no_fault_where_that_is_usual(tmp_path):
    film, root = clean_film(), tmp_path / "default"
    (root / "images").mkdir(parents=True)
    (root / "instances").mkdir()
    (root / "instances" / "labels.txt").write_text("cat\n")
    for place, (name, data) in enumerate(film.frames.items()):
        (root / "images" / f"frame_{name}.jpg").write_bytes(data)
        ids = np.array([0, 1001, 2003], np.uint16)[film.mask(place)]
        Image.fromarray(ids).save(root / "instances" / f"frame_{name}.png")
    found = audited(tmp_path)
    assert found.findings == ()
    assert found.masks == COUNT


def test_objects_that_touch_or_jump_have_not_changed_places(tmp_path):
    film = clean_film()
    for place in range(COUNT):
        mask = np.zeros((96, 128), np.uint8)
        mask[20:60, 20 + 2 * place : 60 + 2 * place] = 1
        mask[20:60, 60 + 2 * place : 90] = 2
        film.paint(place, np.roll(mask, 30 * (place >= 9), axis=0))
    assert "switch" not in audited(film.write(tmp_path)).counts()


def test_void_beyond_the_frame_is_no_object(tmp_path):
    film = clean_film()
    film.paint(4, np.pad(film.mask(4), ((0, 9), (0, 9)), constant_values=255))
    assert set(audited(film.write(tmp_path)).counts()) == {"size", "void"}


@pytest.mark.parametrize("absent", [("00000",), ("00015",), ("00000", "00007", "00015")])
def test_frames_without_a_mask_are_found_at_the_ends_too(tmp_path, absent):
    film = clean_film()
    for name in absent:
        del film.masks[name]
    (finding,) = audited(film.write(tmp_path)).findings
    assert (finding.kind, finding.frames) == ("unmasked", absent)


def test_frames_stored_sideways_whose_masks_fit_as_stored(tmp_path):
    film = clean_film()
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, data in film.frames.items():
        out = io.BytesIO()
        Image.open(io.BytesIO(data)).save(out, "JPEG", quality=90, exif=exif)
        film.frames[name] = out.getvalue()
    assert audited(film.write(tmp_path)).findings == ()


def test_masks_of_some_frames_only_are_noted(tmp_path):
    film = clean_film()
    kept = ("00000", "00003", "00005", "00009", "00014")
    film.masks = {name: film.masks[name] for name in kept}
    assert audited(film.write(tmp_path / "irregular")).findings == ()
    film.masks = {name: film.masks[name] for name in ("00000", "00003")}
    (finding,) = audited(film.write(tmp_path / "two")).findings
    assert (finding.kind, finding.severity) == ("short", Severity.NOTE)


def test_late_objects_are_worse_where_the_first_frame_gives_all(tmp_path):
    film = clean_film()
    FAULTS["late object"].inject(film, 4, np.random.default_rng(0))
    film.write(tmp_path / "own")
    (note,) = audited(tmp_path / "own").findings
    for kind, suffix, files in (
        ("JPEGImages", "jpg", film.frames),
        ("Annotations", "png", film.masks),
    ):
        folder = tmp_path / "davis" / kind / "480p" / "film"
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / f"{name}.{suffix}").write_bytes(data)
    (tmp_path / "davis" / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "davis" / "ImageSets" / "2017" / "train.txt").write_text("film\n")
    (warning,) = audited(tmp_path / "davis", layout="davis2017").findings
    assert (note.kind, note.severity) == ("late", Severity.NOTE)
    assert (warning.kind, warning.severity) == ("late", Severity.WARNING)


def test_shards_are_checked_like_trees(tmp_path):
    film = clean_film()
    FAULTS["swapped ids"].inject(film, 7, np.random.default_rng(0))
    film.write(tmp_path / "tree")
    pack(prepare_videos("own-frames-and-masks", tmp_path / "tree", None), tmp_path / "shards")
    tree, shards = audited(tmp_path / "tree"), audited(tmp_path / "shards")
    assert [(f.kind, f.what, f.frames) for f in tree.findings] == [
        ("switch", "objects 1 and 2 change places", ("00007",))
    ]
    assert [(f.kind, f.what, f.frames) for f in shards.findings] == [
        (f.kind, f.what, f.frames) for f in tree.findings
    ]


def test_a_damaged_member_of_a_shard_is_named(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set")
    shard = next((tmp_path / "set").glob("*.tar"))
    data = bytearray(shard.read_bytes())
    data[600] ^= 255  # in the first frame
    shard.write_bytes(data)
    assert "damaged" in audited(tmp_path / "set").counts()


@pytest.mark.parametrize(
    ("splits", "kind"),
    [
        (("train", "valid"), "leak"),
        (("train", "test"), "leak"),
        (("train", "train2"), "duplicate"),
        (("valid", "val"), "duplicate"),
    ],
)
def test_a_validation_video_in_the_training_set_is_an_error(tmp_path, splits, kind):
    for split in splits:
        film = clean_film()
        for name, data in film.frames.items():
            image = Image.open(io.BytesIO(data)).resize((64, 48))
            film.frames[name] = encode_frame(np.array(image), 50) if split != "train" else data
            film.masks[name] = film.masks[name] if split == "train" else _half(film.masks[name])
        film.write(tmp_path / split, f"{len(split)}")
        clean_film(3).write(tmp_path / split / "other")
    (finding,) = audited(tmp_path, layout="mose-v2").findings
    assert finding.kind == kind
    assert f"{COUNT} of {COUNT}" in finding.what


def _half(data):
    return encode_mask(np.ascontiguousarray(np.array(Image.open(io.BytesIO(data)))[::2, ::2]))


def test_clips_of_one_image_are_not_called_duplicates(coco_tree, tmp_path):
    pack_coco(coco_tree, tmp_path / "clips", ClipOptions(size=64, variants=2), limit=4)
    counts = audited(tmp_path / "clips").counts()
    assert "duplicate" not in counts
    assert "leak" not in counts


def test_objects_that_the_data_set_lists_are_looked_for(youtube_vos_tree, tmp_path):
    shutil.copytree(youtube_vos_tree, tmp_path / "tree")
    meta_path = tmp_path / "tree" / "train" / "meta.json"
    meta = json.loads(meta_path.read_text())
    name, video = next(iter(meta["videos"].items()))
    objects = video["objects"]
    removed = sorted(objects)[0]
    objects["77"] = objects.pop(removed)
    meta_path.write_text(json.dumps(meta))
    found = audited(tmp_path / "tree", layout="youtube-vos", split="train")
    named = {(f.kind, f.what) for f in found.findings if f.where.endswith(name)}
    assert ("ids", f"object {removed}, which the data set does not list") in named
    assert ("invisible", "object 77 is listed, and in no mask") in named


def test_outlines_beyond_the_frame_and_of_another_size():
    size = (40, 60)
    ring = [10.0, 10.0, 61.0, 10.0, 61.0, 30.0]
    shapes = {
        1: partial(draw_segment, [ring]),  # a pixel of rounding
        2: partial(draw_segment, [[*ring[:4], 75.0, 30.0]]),
        3: partial(draw_segment, {"size": [80, 60], "counts": "a"}),
        4: partial(draw_rings, [[[-9.0, 5.0], [5.0, 5.0], [5.0, 20.0]]]),
        5: partial(draw_boxed_runs, "5,5", (50, 30, 20, 5)),
        6: partial(draw_segment, [["a"]]),
    }
    found = {what.split()[1]: kind for kind, what in outside(shapes, size)}
    assert found == {"2": "outside", "3": "size", "4": "outside", "5": "outside"}


def test_frames_that_are_not_in_the_order_of_their_numbers(tmp_path):
    film = clean_film()
    film.write(tmp_path / "tree")
    tree = prepare_videos("own-frames-and-masks", tmp_path / "tree", None)
    samples = [s for job in tree.jobs for s in tree.make(job) if isinstance(s, Sample)]
    record = samples[0].record
    names = (*record.frames[:5], record.frames[6], record.frames[5], *record.frames[7:])
    areas = np.array(record.areas)[:, [*range(5), 6, 5, *range(7, COUNT)]]
    moved = replace(
        record, frames=names, mask_frames=names, areas=tuple(map(tuple, areas.tolist()))
    )
    sample = replace(samples[0], record=moved)
    pack(SetPlan({}, [Job("a-000000", (0,))], lambda _: [sample]), tmp_path / "set")
    named = [f for f in audited(tmp_path / "set").findings if f.severity is Severity.ERROR]
    assert any(f.kind == "order" and f.frames == ("00005",) for f in named)


def test_numbers_that_are_missing_are_noted(tmp_path):
    film = clean_film()
    for name in ("00004", "00005"):
        del film.frames[name], film.masks[name]
    (finding,) = audited(film.write(tmp_path)).findings
    assert (finding.kind, finding.severity, finding.frames) == ("gap", Severity.NOTE, ("00003",))


@real_data
def test_real_videos_have_no_faults_but_specks():
    found = audited(REAL / "davis2016")
    assert set(found.counts()) == {"crumbs"}
    assert (found.videos, found.frames, found.masks) == (17, 1230, 1230)
