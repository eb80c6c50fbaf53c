"""Statistics of a shard set: totals, the sample, and which masks are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import ShardError
from stmtrain.shards.manifest import Manifest
from stmtrain.statistics.measure import MAX_PAIRS, STATISTICS, measure_set, neighbours
from tests.drawn_samples import sample, write


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    samples = [sample(f"clip-{i}", i) for i in range(9)]
    samples.append(sample("sparse", 9, frames=13, masked=slice(None, None, 5)))
    return write(tmp_path_factory.mktemp("stats") / "set", samples)


def test_totals_are_exact_and_all_clips_of_a_small_set_are_measured(shards):
    found = measure_set(shards, sample=100)
    assert found.measured == found.totals["samples"] == 10
    assert found.totals["frames"] == 9 * 8 + 13
    assert found.totals["masks"] == 9 * 8 + 3
    assert found.totals["bytes"] == sum(tar.stat().st_size for tar in shards.glob("*.tar"))
    assert set(found.values) == {known.name for known in STATISTICS}
    assert list(found.values["frames"].values) == [8] * 9 + [13]
    assert list(found.values["frames"].clips) == list(range(10))
    assert found.sources == {"unknown": 10}


def test_a_sample_is_decided_by_its_seed_whatever_the_workers(shards):
    first, again, other = (
        measure_set(shards, sample=4, seed=seed, workers=workers)
        for seed, workers in ((0, 1), (0, 2), (1, 1))
    )
    assert first.measured == 4
    assert first.totals["samples"] == 10
    assert list(first.values["area"].values) == list(again.values["area"].values)
    assert list(first.values["area"].values) != list(other.values["area"].values)
    assert max(first.values["area"].clips) < 4


def test_skipped_frames_make_the_motion_larger(shards):
    near, far = (measure_set(shards, sample=9, skip=skip).values["shift"].values for skip in (0, 3))
    assert far.mean() > near.mean()


def test_an_empty_set_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_bytes(Manifest({}, (), {}, {}).to_json())
    with pytest.raises(ShardError, match="no samples"):
        measure_set(tmp_path, sample=9)


@given(st.integers(0, 99), st.integers(0, 9))
def test_neighbours_are_the_skip_apart_and_spread_over_the_video(count, skip):
    names = [f"{i:05d}" for i in range(count)]
    pairs = neighbours(names, skip)
    possible = max(0, count - skip - 1)
    assert len(pairs) == min(possible, MAX_PAIRS)
    assert all(int(b) - int(a) == skip + 1 for a, b in pairs)
    assert len(set(pairs)) == len(pairs)
    if pairs:
        assert pairs[0][0] == names[0]
        assert pairs[-1][1] == names[-1]
