"""Verification: every fault is named with shard, sample and byte; harmless findings are notes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stmdata.checking.verify import verify
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.errors import ShardError
from stmtrain.images.encode import encode_mask
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar
from stmtrain.shards.sample import Sample, SampleRecord, sidecar_name
from tests.sets import pack_youtube_vos
from tests.shard_edits import accept, edit, first, texts
from tests.soak import shard_faults
from tests.soak.shard_outcome import how_named, observe, try_fault


@pytest.fixture
def broken(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


# --- whole sets -----------------------------------------------------------------------------------


def test_whole_sets_are_whole(packed: Path, clips: Path, youtube_vos_tree: Path, tmp_path: Path):
    for split in ("train", "valid"):
        pack_youtube_vos(youtube_vos_tree, split, tmp_path / split, workers=1)
    for folder in (packed, clips, tmp_path / "train", tmp_path / "valid"):
        result = verify(folder)
        assert (result.faults, result.notes) == ((), ())
        totals = Manifest.from_json((folder / "manifest.json").read_bytes(), "m").totals
        assert result.statistics == totals
        assert result.summary().endswith("MB: complete and intact")


def test_other_processes_find_the_same(broken: Path):
    for path in broken.glob("*.tar"):
        edit(path, lambda data: data.__setitem__(700, data[700] ^ 1))
    told: list[tuple[int, int, str]] = []
    alone = verify(broken, progress=lambda *numbers: told.append(numbers))
    assert alone == verify(broken, workers=2)
    assert len(alone.bad_shards) == 2
    assert told[-1] == (2, 2, f"{alone.bytes / 1e6:.0f} MB, {len(alone.faults)} faults")


# --- records --------------------------------------------------------------------------------------


def one_sample(**changes: Any) -> Callable[[Job], list[Sample]]:
    """A job's sample of one 4x6 frame in which object 3 has five pixels; its record may lie."""
    import simplejpeg

    mask = np.zeros((4, 6), np.uint8)
    mask[1, :5] = 3
    jpeg = simplejpeg.encode_jpeg(np.full((4, 6, 3), 90, np.uint8))
    values: dict[str, Any] = {
        "sample_key": "a", "height": 4, "width": 6, "frames": ("0",), "mask_frames": ("0",),
        "object_ids": (3,), "areas": ((5,),), "original_size": (4, 6),
    }  # fmt: skip
    record = SampleRecord(**values | changes)
    return lambda _job: [Sample(record, {"0": jpeg}, {"0": encode_mask(mask)})]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, ""),
        ({"areas": ((6,),)}, "record's areas (pixels by object id): 3 should be 5, found 6"),
        ({"object_ids": (3, 9), "areas": ((5,), (0,))}, "object ids [9], which no mask shows"),
        ({"object_ids": (4,)}, "record's areas (pixels by object id): 3 should be 5, found 0"),
        ({"height": 5}, ": expected 6x5 pixels, found 6x4"),
    ],
)
def test_records_are_compared_with_pixels(tmp_path: Path, changes: dict[str, Any], message: str):
    pack(SetPlan({"a": 1}, [Job("s-0", (1,))], one_sample(**changes)), tmp_path)
    found = texts(verify(tmp_path))
    assert message in found
    assert bool(message) == bool(found)


# --- sidecars, manifest, config -------------------------------------------------------------------


def test_statistics_and_totals_are_counted_again(broken: Path):
    path, _ = first(broken)
    sidecar = path.with_suffix(".json")
    value = json.loads(sidecar.read_bytes())
    value["statistics"]["objects"] += 1
    sidecar.write_text(json.dumps(value))
    accept(broken)
    assert f"{sidecar}: statistics: objects should be 1, found 2" in texts(verify(broken))


def test_manifest_totals(broken: Path):
    path = broken / "manifest.json"
    value = json.loads(path.read_bytes())
    value["totals"]["frames"] -= 1
    value["skipped"]["no reason"] = 2
    path.write_text(json.dumps(value))
    result = verify(broken)
    assert f"{path}: totals: frames should be 16, found 15" in texts(result)
    assert f"{path}: skipped: no reason should be 0, found 2" in texts(result)
    assert result.bad_shards == ()


def test_a_changed_sidecar_is_found_by_its_hash(broken: Path):
    path, _ = first(broken)
    value = json.loads(path.with_suffix(".json").read_bytes())
    value["skipped"] = [{"input": "invented", "reason": "none"}]
    path.with_suffix(".json").write_text(json.dumps(value))
    assert "its sha256 differs from the manifest's" in texts(verify(broken))


def test_the_same_key_in_two_shards(tmp_path: Path):
    pack(SetPlan({"a": 1}, [Job("s-0", (1,))], one_sample()), tmp_path)
    entry = Manifest.from_json((tmp_path / "manifest.json").read_bytes(), "m")
    shutil.copy(tmp_path / "s-0.tar", tmp_path / "s-1.tar")
    value = json.loads((tmp_path / "s-0.json").read_bytes()) | {"shard": "s-1.tar"}
    sidecar = Sidecar.from_json(json.dumps(value).encode(), "s")
    (tmp_path / "s-1.json").write_bytes(sidecar.to_json())
    entries = (*entry.shards, ShardEntry.of(sidecar))
    (tmp_path / "manifest.json").write_bytes(Manifest(entry.config, entries, {}, {}).to_json())
    found = texts(verify(tmp_path))
    assert f"{tmp_path / 's-1.tar'}, sample a: the key also occurs in s-0.tar" in found
    assert "config.json: its configuration or shards differ from the manifest's" in found


def test_without_a_manifest_the_plan_says_what_should_be_there(broken: Path):
    path, _ = first(broken)
    (broken / "manifest.json").unlink()
    assert len(verify(broken).faults) == 1
    path.with_suffix(".json").unlink()
    result = verify(broken)
    assert "the set is incomplete (no manifest.json)" in texts(result)
    assert "the sidecar is missing; run" in texts(result)
    assert result.bad_shards == (path.name,)
    (broken / "config.json").write_text("{}")
    with pytest.raises(ShardError, match="incomplete"):
        verify(broken)


def test_leftovers_and_strangers_are_notes(broken: Path):
    for name in ("x.tar.0123abcd.tmp", "other.tar", "labels.json", "notes.txt"):
        (broken / name).write_text("")
    (broken / "config.json").unlink()
    result = verify(broken)
    assert result.faults == ()
    notes = " ".join(result.notes)
    assert all(n in notes for n in ("x.tar.0123abcd.tmp", "other.tar", "labels.json"))
    assert "notes.txt" not in notes
    assert "config.json: missing" in notes


# --- everything at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(shard_faults.FAULTS))
@pytest.mark.parametrize("which", ["packed", "clips"])
def test_every_fault_is_found_or_harmless(
    which: str, target: str, tmp_path: Path, request: pytest.FixtureRequest
):
    """The small form of ``python -m tests.soak.soak_shards fuzz``."""
    folder: Path = request.getfixturevalue(which)
    files, reference = shard_faults.load(folder), observe(folder)
    work = Path(shutil.copytree(folder, tmp_path / "work"))
    rng = np.random.default_rng(list(f"{which} {target}".encode()))
    there = files
    for damage in shard_faults.FAULTS[target]:
        for _ in range(2):
            name = shard_faults.pick_file(files, target, rng)
            broken = damage(files, name, rng)
            shard_faults.lay_out(work, there, broken)
            there = broken
            outcome = try_fault(work, reference)
            assert outcome.where in ("open", "read", "verify", "harmless"), (damage, outcome)
            if broken == files or damage.__name__ == "copy":
                assert outcome.where == "harmless"
            elif target in ("tar", "sidecar"):
                assert outcome.where != "harmless", damage
            beside = broken.get(sidecar_name(name)) == files.get(sidecar_name(name))
            if target == "tar" and outcome.where != "harmless" and name in broken and beside:
                named = how_named(outcome.faults, name, files[name], broken[name])
                assert named in ("sample and byte", "byte"), (damage, outcome.faults)


@pytest.mark.parametrize(
    ("place", "message"),
    [([-512, 9], "malformed"), ([512, -9], "malformed"),
     ([512, 10**15], "are not within the"), ([512, 10**400], "malformed"),
     ([512], "malformed"), ([512, 1e999], "malformed"), ("512", "malformed"), (7, "malformed")],
)  # fmt: skip
def test_places_outside_the_tar_are_refused(broken: Path, place: Any, message: str):
    path, _ = first(broken)
    value = json.loads(path.with_suffix(".json").read_bytes())
    value["index"][0]["members"]["00000.jpg"] = place
    with pytest.raises(ShardError, match=message):
        Sidecar.from_json(json.dumps(value).encode(), "sidecar")


@pytest.mark.parametrize("field", ["bytes", "samples"])
@pytest.mark.parametrize("number", [-1, 1 << 62, 10**400, 1e999, "many", None])
def test_numbers_that_cannot_be_are_refused(broken: Path, field: str, number: Any):
    value = json.loads((broken / "manifest.json").read_bytes())
    value["shards"][0][field] = number
    with pytest.raises(ShardError, match="manifest is malformed"):
        Manifest.from_json(json.dumps(value).encode(), "manifest")
