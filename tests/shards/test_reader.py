"""Reading: what was packed comes back, only what is asked for is read, damage is named."""

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.checking.verify import verify
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.datasets.dataset import find_dataset
from stmtrain.errors import ShardError
from stmtrain.images.decode import decode_mask
from stmtrain.shards.manifest import SampleIndex, Sidecar
from stmtrain.shards.reader import OpenShard, ShardSet
from stmtrain.shards.sample import Sample, SampleRecord, sidecar_name
from tests.profiles import examples
from tests.sets import pack_davis


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, davis_tree: Path) -> Path:
    out = tmp_path_factory.mktemp("packed") / "davis"
    pack_davis(davis_tree, 2017, "train", out, workers=1, shard_bytes=1)
    return out


@pytest.fixture
def broken(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


def test_frames_and_masks_come_back(packed: Path, davis_tree: Path) -> None:
    shard_set = ShardSet.open(packed)
    videos = find_dataset("davis2017").videos(davis_tree, "train")
    assert list(shard_set.keys()) == [video.name for video in videos]
    for index, video in enumerate(videos):
        sample = shard_set.read(index)
        assert sample.frames == {name: path.read_bytes() for name, path in video.frames.items()}
        for name, data in sample.masks.items():
            assert (decode_mask(data, name) == video.read_mask(name)).all()


def test_only_the_named_frames_are_read(packed: Path) -> None:
    shard_set = ShardSet.open(packed)
    whole = shard_set.read(0)
    names = whole.record.frames[1:6:2]
    part = shard_set.read(0, names)
    assert list(part.frames) == list(names)
    assert part.frames == {name: whole.frames[name] for name in names}
    assert part.masks == {name: whole.masks[name] for name in names}


def test_three_frames_of_a_long_video_cost_three_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"{t:05d}" for t in range(100))
    record = SampleRecord("long", 1, 1, names, names, (1,), ((1,) * 100,), (1, 1))
    frames = {name: bytes(10_000 + t) for t, name in enumerate(names)}
    masks = {name: bytes(500 + t) for t, name in enumerate(names)}
    pack(
        SetPlan({"a": 1}, [Job("s-0", ())], _Given((Sample(record, frames, masks),))),
        tmp_path / "s",
    )
    shard_set = ShardSet.open(tmp_path / "s")
    shard_set.where(0)  # the sidecar is read, once for all samples of a shard
    reads, pread = [], os.pread

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        reads.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    record = shard_set.record(0)
    shard_set.read(0, [names[3], names[50], names[99]], record)
    expected = [10_003, 10_050, 10_099, 503, 550, 599]
    assert sorted(reads) == sorted([len(record.to_json()), *expected])


@pytest.mark.parametrize(("gap", "reads"), [(0, 1), (8192, 1), (8193, 2)])
def test_members_that_are_close_together_cost_one_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: int, reads: int
) -> None:
    path, seen, pread = tmp_path / "a.tar", [], os.pread
    path.write_bytes(bytes(7) + b"a" * 100 + bytes(gap) + b"b" * 50)
    row = SampleIndex("key", {"a": (7, 100), "b": (107 + gap, 50)})
    shard = OpenShard("a.tar", os.open(path, os.O_RDONLY))

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        seen.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", counting)
    assert shard.members(row, ["b", "a"]) == [b"b" * 50, b"a" * 100]
    assert len(seen) == reads


@dataclass(frozen=True)
class _Given:
    """Makes the samples that it was given."""

    samples: tuple[Sample, ...]

    def __call__(self, _job: Job) -> Iterator[Sample]:
        return iter(self.samples)


def test_a_whole_set_verifies(packed: Path) -> None:
    assert verify(packed).faults == ()


@examples(40)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_is_found(
    packed: Path, tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
) -> None:
    folder = Path(shutil.copytree(packed, tmp_path_factory.mktemp("flip") / "set"))
    tar = folder / ShardSet.open(folder).manifest.shards[0].name
    data = bytearray(tar.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    tar.write_bytes(data)
    faults = verify(folder).faults
    assert faults
    assert all(tar.name in fault.text for fault in faults)


def test_a_cut_shard_is_refused_when_opened(broken: Path) -> None:
    tar = broken / ShardSet.open(broken).manifest.shards[0].name
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(ShardError, match=rf"{tar.name}: expected a shard of \d+ bytes, found"):
        ShardSet.open(broken)


def test_a_shard_cut_behind_our_back_names_sample_and_byte(broken: Path) -> None:
    shard_set = ShardSet.open(broken)
    tar = broken / shard_set.manifest.shards[0].name
    tar.write_bytes(tar.read_bytes()[:2048])
    with pytest.raises(ShardError, match=r"sample drawn-00, member .*found \d+ of \d+ bytes"):
        shard_set.read(0)


@pytest.mark.parametrize("suffix", ["00000.jpg", "00005.png", "json"])
def test_a_changed_byte_is_found_when_it_is_read(broken: Path, suffix: str) -> None:
    """Also one that would decode, to other pixels; nothing else of the shard is refused."""
    shard_set = ShardSet.open(broken)
    tar = broken / shard_set.manifest.shards[0].name
    where = shard_set.where(0)
    row = Sidecar.from_json(tar.with_suffix(".json").read_bytes(), "s").index[0]
    offset, size = row.members[suffix]
    record = shard_set.record(0)
    data = bytearray(tar.read_bytes())
    data[offset + size // 2] ^= 1
    tar.write_bytes(data)
    right, wrong = zlib.crc32(tar.read_bytes()[offset : offset + size]), row.crc32[suffix]
    named = (
        f"{tar}, sample {row.key}, member {suffix}, bytes {offset} to {offset + size - 1}: "
        f"crc32 is {right:08x}, expected {wrong:08x}; "
    )
    assert named.startswith(f"{broken.parent}/{where.partition(',')[0]}, sample drawn-00, member")
    with pytest.raises(ShardError, match=re.escape(named)):
        shard_set.read(0)
    frame = suffix.partition(".")[0]
    if suffix != "json":
        for known in (record, None):
            with pytest.raises(ShardError, match=re.escape(named)):
                shard_set.read(0, ["00001", frame], known)
    assert list(shard_set.read(0, ["00002", "00003"], record).frames) == ["00002", "00003"]
    shard_set.read(1)


def test_swapped_sidecars_are_refused(broken: Path) -> None:
    first, second = (broken / sidecar_name(s.name) for s in ShardSet.open(broken).manifest.shards)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ShardError, match="differs from the manifest"):
        ShardSet.open(broken).read(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not made by stm"),
        ({"format_version": 9}, "expected format version 1, found 9"),
        ({"config": {}}, "config_hash does not match"),
        ({"shards": [{"name": "../x.tar", "bytes": 1, "sha256": "", "samples": 1}]}, "plain"),
        ({"shards": 3}, "malformed"),
    ],
)
def test_a_wrong_manifest_is_refused(broken: Path, change: dict[str, object], message: str) -> None:
    path = broken / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ShardError, match=message):
        ShardSet.open(broken)


def test_missing_and_unfinished_sets_say_so(tmp_path: Path, broken: Path) -> None:
    with pytest.raises(ShardError, match="expected a folder of shards"):
        ShardSet.open(tmp_path / "nothing")
    with pytest.raises(ShardError, match="no manifest"):
        ShardSet.open(tmp_path)
    (broken / "manifest.json").unlink()
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(broken)


def test_opening_reads_no_sidecar(tmp_path: Path) -> None:
    """So opening a set of 10^6 clips costs what its manifest costs."""
    pack(SetPlan({"a": 1}, [Job(f"s-{i}", (i,)) for i in range(3)], _one_sample), tmp_path / "s")
    for sidecar in (tmp_path / "s").glob("s-*.json"):
        sidecar.unlink()
    assert len(ShardSet.open(tmp_path / "s")) == 3


def _one_sample(job: Job) -> list[Sample]:
    record = SampleRecord(f"k{job.items[0]}", 1, 1, ("00000",), (), (), (), (1, 1))
    return [Sample(record, {"00000": b"jpg"}, {})]


def test_masks_of_any_ids_survive_the_palette() -> None:
    from stmtrain.images.encode import encode_mask

    mask = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    assert (decode_mask(encode_mask(mask), "mask") == mask).all()
    assert encode_mask(mask) == encode_mask(mask.copy())
