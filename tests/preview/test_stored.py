"""Which samples and frames of a set are chosen to be shown, and that they are read correctly."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.decode import decode_frame
from stmtrain.images.encode import encode_mask
from stmtrain.images.sheet import contact_sheet
from stmtrain.preview.stored import choose_frames, in_order, stored_clips, with_keys
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample
from tests.drawn_samples import sample, write


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


def view_of(shard_set, index, limit=None, **how):
    (view,) = stored_clips([shard_set], [(0, index)], limit, **how)[0]
    return view


def test_all_samples_are_shown_in_order_or_shuffled(shards):
    sets = [ShardSet.open(shards)] * 2
    every = [(number, index) for number in (0, 1) for index in range(6)]
    assert list(in_order(sets)) == every
    shuffled = [list(in_order(sets, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    assert shuffled[0] == shuffled[1] != shuffled[2]
    assert sorted(shuffled[0]) == sorted(shuffled[2]) == every
    assert list(in_order(sets)[4:7]) == every[4:7]


def test_samples_are_found_by_key_in_every_set(shards):
    sets = [ShardSet.open(shards)] * 2
    assert with_keys(sets, ["sparse", "clip-3"]) == [(0, 5), (1, 5), (0, 3), (1, 3)]
    with pytest.raises(UsageError, match=r"set: no sample 'nope'; keys look like 'clip-0'"):
        with_keys(sets[:1], ["clip-1", "nope"])


def test_frames_with_a_mask_are_preferred_if_asked(shards):
    shard_set = ShardSet.open(shards)
    view = view_of(shard_set, 5, 4, masked=True)
    assert view.caption == "sparse"
    assert [n for n, m in zip(view.names, view.masks, strict=True) if m is not None] == [
        "00000", "00005", "00010",
    ]  # fmt: skip
    assert list(view.names) == sorted(view.names)
    assert len(view.names) == 4
    assert view_of(shard_set, 5, 4).names == ["00000", "00004", "00008", "00012"]


def test_view_holds_what_the_shard_holds(shards):
    shard_set = ShardSet.open(shards)
    for index in (0, 5):
        stored, view = shard_set.read(index), view_of(shard_set, index)
        assert list(view.names) == list(stored.frames)
        assert list(view.jpegs) == list(stored.frames.values())
        for name, frame, mask in zip(view.names, view.frames, view.masks, strict=True):
            assert np.array_equal(frame, decode_frame(stored.frames[name], name))
            assert (mask is None) == (name not in stored.masks)
            assert mask is None or encode_mask(mask) == stored.masks[name]


def test_only_frames_that_are_looked_at_are_read(shards, monkeypatch):
    shard_set = ShardSet.open(shards)
    read = []
    whole = shard_set.read
    monkeypatch.setattr(
        shard_set, "read", lambda i, names, r: read.extend(names) or whole(i, names, r)
    )
    view = view_of(shard_set, 1)
    assert read == []
    assert view.frames[3].shape == (48, 64, 3)
    assert view.masks[3].shape == (48, 64)
    assert read == ["00003"]


def test_provenance_names_shard_source_size_and_frames(tmp_path):
    made = sample("clip", 0, frames=6)
    origin = {"dataset": "coco", "image_id": 7, "image": "a b.jpg", "variant": 2}
    record = replace(made.record, origin=origin, original_size=(480, 640))
    shard_set = ShardSet.open(write(tmp_path / "here", [Sample(record, made.frames, made.masks)]))
    assert view_of(shard_set, 0).about == (
        "here/drawn-000000.tar", "dataset coco", "image a b.jpg", "image id 7", "variant 2",
        "64x48 px from 640x480", "6 frames 00000 to 00005",
    )  # fmt: skip
    assert view_of(shard_set, 0, 3).about[-1] == "3 of 6 frames 00000 to 00005"


def test_any_origin_is_shown_in_short_lines(tmp_path):
    made = sample("clip", 0, frames=2)
    origin = {"image": "a\nb\r\x85c", "long": "x" * 10**6, **{f"n{i}": i for i in range(500)}}
    record = replace(made.record, origin=origin)
    shard_set = ShardSet.open(write(tmp_path / "set", [Sample(record, made.frames, made.masks)]))
    about = view_of(shard_set, 0).about
    assert len(about) < 30
    assert "image a b c" in about
    assert max(map(len, about)) <= 120
    assert contact_sheet([view_of(shard_set, 0)], height=40).shape[1] < 1000


def test_damaged_samples_are_named(tmp_path):
    good = sample("clip", 0, frames=2)
    bad = Sample(good.record, {**good.frames, "00001": b"not a picture"}, good.masks)
    view = view_of(ShardSet.open(write(tmp_path / "a", [bad])), 0)
    assert view.frames[0].shape == (48, 64, 3)
    with pytest.raises(DataError, match=r"drawn-000000\.tar, sample clip, frame 00001: expected"):
        view.frames[1]
    odd = sample("clip", 0, frames=2, mask_size=(48, 63))
    with pytest.raises(DataError, match=r"sample clip, frame 00000: .*64x48.* 63x48"):
        view_of(ShardSet.open(write(tmp_path / "b", [odd])), 0).masks[0]


def test_an_empty_set_is_named():
    class Empty:
        name = "empty"

        def __len__(self):
            return 0

    with pytest.raises(ShardError, match="empty: the set contains no samples"):
        in_order([Empty()])
