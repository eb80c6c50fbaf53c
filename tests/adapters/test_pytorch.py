"""Our sets as PyTorch data sets: the plan's clips, whatever the workers, ranks and restarts."""

import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

import stmtrain
from stmtrain.adapters.pytorch import ClipDataset, ClipStream
from stmtrain.errors import DataError, ShardError, UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*fork:DeprecationWarning",
    "ignore:.*set_vital:UserWarning",  # torchdata calls it
)

WORKERS: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}


def same(first: Any, second: Any) -> bool:
    """Whether two items or batches are equal to the bit."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) if isinstance(value, torch.Tensor)
        else value == second[name]
        for name, value in first.items()
    )  # fmt: skip


@pytest.mark.parametrize("size", [None, 64])
def test_clips_are_those_of_the_loader(packed: Path, clips: Path, size: int | None) -> None:
    sets = [packed, clips]
    items = ClipDataset(sets, seed=3, size=size, max_skip=2, weights=[1, 2])
    options = {"size": size or 384, "max_skip": 2, "weights": [1, 2], "threads": 1}
    with stmtrain.open_loader(sets, batch_size=4, seed=3, stop=3, **options) as loader:
        for batch in loader:
            frames, masks = (
                (batch.frames, batch.masks) if size is None else stmtrain.augment(batch, size)
            )
            for place, origin in enumerate(batch.origins):
                item = items.item(batch.step * 4 + place)
                height, width = batch.sizes[place] if size is None else (size, size)
                assert torch.equal(item["masks"], masks[place][:, :height, :width])
                if size is None:
                    assert torch.equal(item["frames"], frames[place][:, :height, :width])
                else:  # interpolated at coordinates that the padding of the batch rounds
                    assert torch.allclose(item["frames"], frames[place], atol=1e-4)
                assert item["key"] == batch.keys[place]
                assert tuple(item["frame_names"]) == origin.frames
                ids = item["object_ids"][: item["num_objects"]]
                assert tuple(ids.tolist()) == origin.object_ids
                assert (item["shard_set"], item["index"]) == (origin.shard_set, origin.index)


def test_a_clip_is_what_the_sample_stores(packed: Path) -> None:
    item = ClipDataset(packed)[0]
    sample = stmtrain.open_shards(packed)[item["index"]]
    places = [sample.record.frames.index(name) for name in item["frame_names"]]
    assert np.array_equal(item["frames"], sample.frames[places])
    expected = np.zeros_like(sample.masks[places])
    for slot, object_id in enumerate(item["object_ids"].tolist(), 1):
        expected[sample.masks[places] == object_id] = slot if object_id else 0
    expected[sample.masks[places] == 0] = 0
    assert np.array_equal(item["masks"], expected)


def test_worker_processes_change_nothing(clips: Path) -> None:
    data = ClipDataset(clips, size=32)
    here, there = (DataLoader(data, batch_size=3, **options) for options in ({}, WORKERS))
    assert all(same(a, b) for a, b in zip(here, there, strict=True))
    assert len(here) == -(-len(stmtrain.open_shards(clips)) // 3)


def test_a_pickle_opens_the_sets_again(clips: Path) -> None:
    data = ClipDataset(clips, size=32, transform=pick_masks)
    expected = data[1]  # also of one that has been used
    assert torch.equal(pickle.loads(pickle.dumps(data))[1], expected)


def pick_masks(item: dict[str, Any]) -> torch.Tensor:
    return item["masks"]


def test_epochs_continue_the_plan_also_in_persistent_workers(clips: Path) -> None:
    data = ClipDataset(clips, size=32)
    loader = DataLoader(data, batch_size=None, persistent_workers=True, **WORKERS)
    for epoch in (0, 1, 4):
        data.set_epoch(epoch)
        positions = [int(item["position"]) for item in loader]
        assert positions == list(range(epoch * len(data), (epoch + 1) * len(data)))


def test_length_and_start_move_the_window(clips: Path) -> None:
    whole = ClipDataset(clips, size=32, length=100)
    later = ClipDataset(clips, size=32, length=60, start=40)
    assert (len(whole), len(later)) == (100, 60)
    assert same(later[3], whole[43])
    with pytest.raises(IndexError, match=r"60.*0\.\.59"):
        _ = later[60]


def test_unshuffled_distributed_samplers_give_global_batches(clips: Path) -> None:
    data = ClipDataset(clips, size=32, length=12)
    ranks = [DistributedSampler(data, 2, rank, shuffle=False) for rank in range(2)]
    loaders = [DataLoader(data, batch_size=2, sampler=sampler) for sampler in ranks]
    for step, parts in enumerate(zip(*loaders, strict=True)):
        found = sorted(int(position) for part in parts for position in part["position"])
        assert found == list(range(step * 4, step * 4 + 4))


@given(
    batch=st.integers(1, 4), world=st.integers(1, 3), workers=st.integers(0, 4),
    stop=st.integers(0, 6),
)  # fmt: skip
def test_batches_of_a_stream_are_shares_of_the_plan(
    clips: Path, batch: int, world: int, workers: int, stop: int
) -> None:
    for rank in range(world):
        stream = ClipStream(clips, batch_size=batch, stop=stop, rank=rank, world=world)
        found = list(in_turn(stream, workers))
        expected = [
            list(range((k * world + rank) * batch, (k * world + rank + 1) * batch))
            for k in range(stop)
        ]
        assert found == expected


def in_turn(stream: ClipStream, workers: int) -> Iterator[list[int]]:
    """The batches that DataLoader makes of the workers' indices."""
    shares = [stream.indices(worker, max(1, workers)) for worker in range(max(1, workers))]
    while shares:
        batch = list(islice(shares[0], stream.batch_size))
        if batch:
            yield batch
            shares.append(shares[0])
        shares.pop(0)


def test_a_stream_in_workers_follows_the_plan(clips: Path) -> None:
    stream = ClipStream(clips, batch_size=2, size=32, stop=5, rank=1, world=2)
    items = ClipDataset(clips, size=32, length=100)
    batches = list(DataLoader(stream, batch_size=2, **WORKERS))
    assert [b["position"].tolist() for b in batches] == [[4 * k + 2, 4 * k + 3] for k in range(5)]
    assert torch.equal(batches[3]["frames"][1], items[15]["frames"])


def test_a_process_group_states_rank_and_world(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("is_initialized", True), ("get_rank", 2), ("get_world_size", 3)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    stream = ClipStream(clips, batch_size=2, stop=2)
    assert list(stream.indices(0, 1)) == [4, 5, 10, 11]


@pytest.mark.parametrize("options", [{}, WORKERS], ids=["here", "workers"])
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_a_run_that_was_stopped_resumes_with_the_next_clip(
    clips: Path, kind: str, options: dict[str, Any]
) -> None:
    """torchdata saves the state of the loader in the middle of an epoch."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    def open_it() -> Any:
        if kind == "map":
            data: Any = ClipDataset(clips, size=32, length=14)
        else:
            data = ClipStream(clips, batch_size=2, size=32, stop=7)
        return StatefulDataLoader(data, batch_size=2, **options)

    undisturbed = list(open_it())
    assert len(undisturbed) == 7
    for taken in (1, 3):
        stopped = open_it()
        batches = list(islice(stopped, taken))
        saved = pickle.loads(pickle.dumps(stopped.state_dict()))
        resumed = open_it()
        resumed.load_state_dict(saved)
        batches += list(resumed)
        assert len(batches) == 7
        assert all(same(a, b) for a, b in zip(batches, undisturbed, strict=True))


def test_start_resumes_with_another_number_of_processes(clips: Path) -> None:
    one = ClipStream(clips, batch_size=6, size=32, stop=3)
    before = [item["position"] for item in islice(one, 6)]
    two = [
        ClipStream(clips, batch_size=3, size=32, stop=2, start=6, rank=rank, world=2)
        for rank in range(2)
    ]
    after = [item["position"] for stream in two for item in stream]
    assert sorted(before + after) == list(range(18))


def test_a_sample_without_a_clip_is_replaced_and_named(packed: Path, clips: Path) -> None:
    data = ClipDataset([packed, clips], frames=5, length=8)  # pseudo-videos have three frames
    with pytest.warns(UserWarning, match=r"no training clip.*the next sample replaces it"):
        items = [data[index] for index in range(8)]
    assert {item["shard_set"] for item in items} == {0}
    assert [item["position"] for item in items] == list(range(8))
    with pytest.raises(DataError, match="no training clip"):
        ClipDataset(packed, frames=99)[0]


def test_what_cannot_be_is_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected a folder of shards"):
        ClipDataset(tmp_path / "nothing")
    with pytest.raises(UsageError, match="rank 2 of 2"):
        ClipStream(clips, batch_size=1, rank=2, world=2)
    for options in ({"start": -1}, {"max_skip": -1}, {"size": 0}, {"length": 0}, {"frames": 0}):
        with pytest.raises(UsageError, match=r"expected|must be"):
            ClipDataset(clips, **options)
