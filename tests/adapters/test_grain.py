"""Our sets as data sources of Grain: its protocol, for threads and processes."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stmtrain.adapters.grain import ClipDataSource
from stmtrain.adapters.pytorch import ClipDataset
from stmtrain.errors import UsageError


@pytest.mark.parametrize("size", [None, 32])
def test_items_are_the_clips_of_the_plan(clips: Path, size: int | None) -> None:
    source, data = ClipDataSource(clips, size=size), ClipDataset(clips, size=size)
    assert len(source) == len(data)
    item, expected = source[np.int64(2)], data[2]
    frames = expected["frames"] if size is None else expected["frames"].permute(0, 2, 3, 1)
    assert np.array_equal(item["frames"], frames)
    assert np.array_equal(item["masks"], expected["masks"])
    assert not any(type(value).__module__.startswith("torch") for value in item.values())
    assert item["key"] == expected["key"]


def test_threads_and_pickles_change_nothing(clips: Path) -> None:
    source = ClipDataSource(clips, size=32, length=30)
    copy = pickle.loads(pickle.dumps(source))
    assert repr(copy) == repr(source)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(copy.__getitem__, range(30)))
    for index, item in enumerate(found):
        assert item["position"] == index
        assert np.array_equal(item["frames"], source[index]["frames"])


def test_the_name_tells_sets_and_options_apart(clips: Path, packed: Path) -> None:
    made = [
        ClipDataSource(clips, size=32), ClipDataSource(packed, size=32),
        ClipDataSource(clips, size=32, seed=1), ClipDataSource(clips, size=32, length=3),
    ]  # fmt: skip
    assert len({repr(source) for source in made}) == 4
    with pytest.raises(IndexError, match=r"3.*0\.\.2"):
        _ = made[-1][3]
    with pytest.raises(UsageError, match="length 0"):
        ClipDataSource(clips, length=0)
