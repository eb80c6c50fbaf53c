"""Which samples and frames of a set are chosen to be shown, and that they are read correctly."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stmdata.drawn.scenes import draw_video
from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.encode import encode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.shards.view import choose_frames, choose_samples, read_view


def jpeg(frame):
    out = io.BytesIO()
    Image.fromarray(frame).save(out, format="JPEG", quality=95)
    return out.getvalue()


def sample(key, seed, frames=8, masked=slice(None), ids=(1, 12), size=(48, 64), mask_size=None):
    rng = np.random.default_rng(seed)
    pictures, slots = draw_video(rng, frames=frames, size=size, objects=2)
    masks = np.array([0, *ids], np.uint8)[slots]
    names = tuple(f"{t:05d}" for t in range(frames))
    shown = {name: masks[int(name)] for name in names[masked]}
    areas = tuple(tuple(int((m == i).sum()) for m in shown.values()) for i in ids)
    record = SampleRecord(key, *size, names, tuple(shown), ids, areas, size)
    if mask_size:
        shown = {name: np.zeros(mask_size, np.uint8) for name in shown}
    return Sample(
        record,
        {name: jpeg(pictures[t]) for t, name in enumerate(names)},
        {name: encode_mask(mask) for name, mask in shown.items()},
    )


def write(folder, samples):
    pack(SetPlan({"source": "drawn"}, [Job("drawn-000000", ("all",))], lambda _: samples), folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    samples = [sample(f"clip-{i}", i) for i in range(5)]
    samples.append(sample("sparse", 9, frames=13, masked=slice(None, None, 5)))
    return write(tmp_path_factory.mktemp("view") / "set", samples)


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 9))
def test_chosen_frames_are_ordered_distinct_and_prefer_masks(total, limit, stride):
    names = [f"{i:05d}" for i in range(total)]
    chosen = choose_frames(names, limit)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(limit, total)
    assert chosen[0] == names[0]
    if 1 < limit <= total:
        gaps = np.diff([int(name) for name in chosen])
        assert chosen[-1] == names[-1]
        assert gaps.max() - gaps.min() <= 1
    masked = names[::stride]
    preferred = choose_frames(names, limit, masked)
    assert len(preferred) == len(set(preferred)) == min(limit, total)
    assert preferred == sorted(preferred)
    assert len(set(preferred) & set(masked)) == min(limit, len(masked))


def test_samples_are_chosen_by_seed_or_key(shards):
    shard_set = ShardSet.open(shards)
    first = choose_samples(shard_set, count=3, key=None, seed=0)
    assert first == choose_samples(shard_set, count=3, key=None, seed=0)
    assert len(set(first)) == 3
    assert {tuple(choose_samples(shard_set, count=3, key=None, seed=s)) for s in range(9)} > {
        tuple(first)
    }
    assert choose_samples(shard_set, count=99, key=None, seed=0) == list(range(6))
    assert choose_samples(shard_set, count=1, key="clip-3", seed=0) == [3]
    with pytest.raises(UsageError, match=r"set: no sample 'nope'; keys look like 'clip-0'"):
        choose_samples(shard_set, count=1, key="nope", seed=0)


def test_view_holds_what_the_shard_holds(shards):
    shard_set = ShardSet.open(shards)
    view = read_view(shard_set, 5, 4)
    assert view.caption == "sparse"
    assert [n for n, m in zip(view.names, view.masks, strict=True) if m is not None] == [
        "00000", "00005", "00010",
    ]  # fmt: skip
    assert view.names == sorted(view.names)
    assert len(view.names) == 4
    evenly = read_view(shard_set, 5, 4, evenly=True)
    assert evenly.names == ["00000", "00004", "00008", "00012"]
    whole = shard_set.read(0)
    view = read_view(shard_set, 0, 99)
    for name, mask in zip(view.names, view.masks, strict=True):
        assert encode_mask(mask) == whole.masks[name]


def test_damaged_samples_are_named(tmp_path):
    good = sample("clip", 0, frames=2)
    bad = Sample(good.record, {**good.frames, "00001": b"not a picture"}, good.masks)
    with pytest.raises(DataError, match=r"drawn-000000\.tar, sample clip, frame 00001: expected"):
        read_view(ShardSet.open(write(tmp_path / "a", [bad])), 0, 6)
    odd = sample("clip", 0, frames=2, mask_size=(48, 63))
    with pytest.raises(DataError, match=r"sample clip, frame 00000: .*64x48.* 63x48"):
        read_view(ShardSet.open(write(tmp_path / "b", [odd])), 0, 6)


def test_an_empty_set_is_named():
    class Empty:
        name = "empty"

        def __len__(self):
            return 0

    with pytest.raises(ShardError, match="empty: the set contains no samples"):
        choose_samples(Empty(), count=1, key=None, seed=0)
