"""Sidecars and manifests are the same after JSON, and refuse what cannot be true of a shard set."""

import hashlib
import json
import zlib
from dataclasses import replace

import pytest

from stmtrain.errors import ShardError
from stmtrain.shards.manifest import Manifest, SampleIndex, ShardEntry, Sidecar
from stmtrain.shards.sample import SampleRecord, Skipped, config_hash

CONFIG = {"seed": 3}
RECORD = SampleRecord("b", 2, 2, ("0",), (), (), (), (2, 2))
SIDECAR = Sidecar(
    shard="a-000000.tar",
    bytes=2048,
    sha256="0" * 64,
    config_hash=config_hash(CONFIG),
    index=(
        SampleIndex("a", {"0.jpg": (0, 100), "json": (512, 0)}, {"0.jpg": 0, "json": 2**32 - 1}),
        SampleIndex("b", {"0.jpg": (2000, 48)}, record=RECORD),
    ),
    statistics={"samples": 2},
    skipped=(Skipped("c.jpg", "too small"),),
)
MANIFEST = Manifest(CONFIG, (ShardEntry.of(SIDECAR),), {"samples": 2}, {"too small": 1})


def test_they_are_the_same_after_json():
    assert Sidecar.from_json(SIDECAR.to_json(), "here") == SIDECAR
    assert Manifest.from_json(MANIFEST.to_json(), "here") == MANIFEST


def test_a_manifest_is_indented_for_people():
    assert MANIFEST.to_json().startswith(b'{\n "config": {\n  "seed": 3\n },\n "config_hash": "')


def test_a_shards_entry_describes_its_sidecar():
    (entry,) = MANIFEST.shards
    assert (entry.name, entry.bytes, entry.samples) == ("a-000000.tar", 2048, 2)
    assert entry.sidecar_sha256 == hashlib.sha256(SIDECAR.to_json()).hexdigest()


def test_a_member_that_ends_with_the_tar_is_within_it():
    whole = replace(SIDECAR, index=(SampleIndex("a", {"0.jpg": (0, 2048)}),))
    assert Sidecar.from_json(whole.to_json(), "here") == whole


@pytest.mark.parametrize("place", [(0, 2049), (2048, 1), (-1, 2), (2, -1)])
def test_a_member_outside_the_tar_is_refused(place):
    outside = replace(SIDECAR, index=(SampleIndex("a", {"0.jpg": place}),))
    with pytest.raises(ShardError, match=r"^here: .*(within the 2048|found -1)"):
        Sidecar.from_json(outside.to_json(), "here")


@pytest.mark.parametrize(
    "change",
    [
        {"members": {"0.jpg": [0.0, 100]}},
        {"members": {"0.jpg": [0, True]}},
        {"members": {"0.jpg": [0]}},
        {"crc32": {"0.jpg": 2**32, "json": 0}},
        {"crc32": {"0.jpg": -1, "json": 0}},
        {"crc32": {"0.jpg": 0}},
        {"key": None, "members": None},
    ],
)
def test_a_malformed_entry_is_refused(change):
    value = json.loads(SIDECAR.to_json())
    value["index"][0] |= change
    with pytest.raises(ShardError, match=r"^here: sidecar is malformed"):
        Sidecar.from_json(json.dumps(value).encode(), "here")


def test_another_number_of_samples_than_stated_is_refused():
    value = json.loads(SIDECAR.to_json()) | {"samples": 3}
    with pytest.raises(ShardError, match=r"^here: .*3 samples.* 2"):
        Sidecar.from_json(json.dumps(value).encode(), "here")


@pytest.mark.parametrize("kind", [Sidecar, Manifest])
def test_another_format_version_is_refused(kind):
    whole = {Sidecar: SIDECAR, Manifest: MANIFEST}[kind]
    value = json.loads(whole.to_json()) | {"format_version": 2}
    with pytest.raises(ShardError, match=r"^here: expected format version 1, found 2"):
        kind.from_json(json.dumps(value).encode(), "here")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "other"}, "stm-shards"),
        ({"config": {"seed": 4}}, "config_hash"),
        ({"totals": None}, "malformed"),
    ],
)
def test_a_manifest_that_was_edited_is_refused(change, expected):
    value = json.loads(MANIFEST.to_json()) | change
    with pytest.raises(ShardError, match=f"^here: .*{expected}"):
        Manifest.from_json(json.dumps(value).encode(), "here")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"bytes": -1}, "malformed"),
        ({"bytes": 1 << 62}, "malformed"),
        ({"samples": -1}, "malformed"),
        ({"samples": 1 << 62}, "malformed"),
        ({"name": "../a.tar"}, "plain names"),
        ({"name": "a" * 81 + ".tar"}, "plain names"),
        ({"name": "a.tgz"}, "plain names"),
    ],
)
def test_an_impossible_shard_is_refused(change, expected):
    value = json.loads(MANIFEST.to_json())
    value["shards"][0] |= change
    with pytest.raises(ShardError, match=f"^here: .*{expected}"):
        Manifest.from_json(json.dumps(value).encode(), "here")


@pytest.mark.parametrize(
    "change",
    [{"bytes": 0}, {"samples": 0}, {"bytes": (1 << 62) - 1}, {"name": "a" * 80 + ".tar"}],
)
def test_the_bounds_of_a_shard_are_allowed(change):
    whole = replace(MANIFEST, shards=(replace(MANIFEST.shards[0], **change),))
    assert Manifest.from_json(whole.to_json(), "here") == whole


def test_a_shard_that_is_listed_twice_is_refused():
    twice = replace(MANIFEST, shards=MANIFEST.shards * 2)
    with pytest.raises(ShardError, match=r"^here: .*twice"):
        Manifest.from_json(twice.to_json(), "here")


def test_a_member_is_intact_as_far_as_its_crc_is_known():
    row = SampleIndex("a", {"json": (512, 3)}, {"json": zlib.crc32(b"abc")})
    assert row.is_intact("json", b"abc")
    assert not row.is_intact("json", b"abd")
    assert replace(row, crc32={}).is_intact("json", b"abd")


def test_a_members_place_names_its_first_and_last_byte():
    row = SampleIndex("a", {"json": (512, 3)})
    assert row.place("json") == "sample a, member json, bytes 512 to 514"
