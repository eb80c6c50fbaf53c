"""A sample's record refuses what contradicts itself, and is the same after JSON."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stmtrain.errors import ShardError
from stmtrain.images.masks import areas
from stmtrain.shards.manifest import STATISTICS, SampleIndex
from stmtrain.shards.sample import Sample, SampleRecord, canonical_json, load_object, sidecar_name

RECORD = SampleRecord(
    sample_key="a-1",
    height=4,
    width=6,
    frames=("0", "1", "2"),
    mask_frames=("0", "2"),
    object_ids=(1, 254),
    areas=((3, 0), (1, 24)),
    original_size=(8, 9),
    origin={"image": "ä.jpg"},
)


def test_a_record_is_the_same_after_json():
    assert SampleRecord.from_json(RECORD.to_json(), "here") == RECORD


@given(arrays(np.uint8, (3, 4, 5), elements=st.sampled_from((0, 1, 2, 7, 254, 255))))
def test_a_record_is_built_from_the_areas_of_its_masks(masks):
    names = ("0", "2", "5")
    counts = {name: areas(mask) for name, mask in zip(names, masks, strict=True)}
    record = SampleRecord.of(
        "a", ("0", "1", "2", "5"), counts, size=(4, 5), original_size=(8, 9), origin={"b": 1}
    )
    assert record.object_ids == tuple(i for i in (1, 2, 7, 254) if (masks == i).any())
    assert (record.height, record.width, record.original_size) == (4, 5, (8, 9))
    assert (record.mask_frames, record.origin) == (names, {"b": 1})
    for object_id, row in zip(record.object_ids, record.areas, strict=True):
        assert row == tuple((masks == object_id).sum(axis=(1, 2)).tolist())


def test_a_record_without_masks():
    record = SampleRecord.of("a", ("0",), {}, size=(4, 5), original_size=(4, 5), origin={})
    assert (record.mask_frames, record.object_ids, record.areas) == ((), (), ())


def test_images_and_statistics():
    assert RECORD.images() == ["0.jpg", "0.png", "1.jpg", "2.jpg", "2.png"]
    places = {suffix: (0, 10**i) for i, suffix in enumerate(RECORD.images())}
    counts = SampleIndex("a-1", places).statistics(RECORD)
    assert counts == {
        "samples": 1, "frames": 3, "masks": 2, "objects": 2, "jpg_bytes": 1101, "png_bytes": 10_010,
    }  # fmt: skip
    assert {*counts, "skipped"} == set(STATISTICS)


@pytest.mark.parametrize(
    "fields",
    [
        {"sample_key": "k" * 64},
        {"sample_key": "k"},
        {"frames": ("f" * 24, "0", "2")},
        {"mask_frames": (), "areas": ((), ())},
        {"mask_frames": ("0", "1", "2"), "areas": ((1, 1, 1), (0, 0, 0))},
        {"object_ids": (), "areas": ()},
        {"height": 1, "width": 1, "original_size": (1, 1)},
    ],
)
def test_the_bounds_themselves_are_allowed(fields):
    record = replace(RECORD, **fields)
    assert SampleRecord.from_json(record.to_json(), "here") == record


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sample_key": "k" * 65}, "expected a key"),
        ({"sample_key": ""}, "expected a key"),
        ({"sample_key": "a.b"}, "expected a key"),
        ({"frames": ("0", "1", "2", "f" * 49)}, "frame name"),
        ({"frames": ("0", "1", "2", "a.b")}, "frame name"),
        ({"frames": (), "mask_frames": (), "areas": ((), ())}, "distinct frame names"),
        ({"frames": ("0", "1", "2", "2")}, "distinct frame names"),
        ({"mask_frames": ("0", "3")}, "mask frames"),
        ({"mask_frames": ("2", "0")}, "mask frames"),
        ({"object_ids": (0, 254)}, "object ids in 1..254"),
        ({"object_ids": (1, 255)}, "object ids in 1..254"),
        ({"object_ids": (2, 1)}, "object ids in 1..254"),
        ({"object_ids": (1, 1)}, "object ids in 1..254"),
        ({"areas": ((3, 0),)}, "areas"),
        ({"areas": ((3, 0), (1,))}, "areas"),
        ({"height": 0}, "at least 1 pixel"),
        ({"width": 0}, "at least 1 pixel"),
        ({"original_size": (0, 1)}, "at least 1 pixel"),
        ({"original_size": (1, 0)}, "at least 1 pixel"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(fields, expected):
    with pytest.raises(ShardError, match=expected) as caught:
        replace(RECORD, **fields)
    assert f"sample {fields.get('sample_key', RECORD.sample_key)!r}" in str(caught.value)


@pytest.mark.parametrize("data", [b'{"key": "\\ud800"}', b"", b"{", b"[]", b"1", b"null", b"\xff"])
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(ShardError, match=r"^here: expected"):
        load_object(data, "here")


def test_a_record_with_missing_or_strange_fields_is_refused():
    for data in (b"{}", RECORD.to_json().replace(b'"height":4', b'"height":1e999')):
        with pytest.raises(ShardError, match=r"^here: .*malformed"):
            SampleRecord.from_json(data, "here")


def test_members_are_in_time_order_each_mask_after_its_frame_and_the_record_last():
    frames, masks = {n: b"jpg" + n.encode() for n in "012"}, dict.fromkeys("02", b"png")
    members = Sample(RECORD, frames, masks).members()
    assert [name for name, _ in members] == ["0.jpg", "0.png", "1.jpg", "2.jpg", "2.png", "json"]
    assert dict(members)["1.jpg"] == b"jpg1"
    assert members[-1][1] == RECORD.to_json()


def test_equal_values_are_equal_bytes():
    assert canonical_json({"b": [1, 2], "a": "ä"}) == '{"a":"ä","b":[1,2]}'.encode()


def test_a_sidecar_is_named_after_its_shard():
    assert sidecar_name("coco-000000.tar") == "coco-000000.json"
