"""A packed index is the list of records that it was made of, in a tenth of the memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.shards.index import PackedIndex
from stmtrain.shards.manifest import SampleIndex
from stmtrain.shards.sample import SampleRecord

keys = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
places = st.tuples(st.integers(0, 2**63), st.integers(0, 2**40))
suffixes = st.sampled_from(["00000.jpg", "00000.png", "00005.jpg", "json", "a.png"])
own_records = st.none() | st.just(SampleRecord("a", 9, 9, ("0",), ("0",), (), (), (9, 9)))
crcs = st.none() | st.integers(0, 2**32 - 1)


@st.composite
def records(draw):
    """A sample's entry with or without CRCs, with or without a record of its own."""
    members = draw(st.dictionaries(suffixes, places))
    crc = draw(crcs)
    crc32 = {} if crc is None else {suffix: crc ^ i for i, suffix in enumerate(members)}
    return SampleIndex(draw(keys), members, crc32, draw(own_records))


@given(st.lists(records(), max_size=12))
def test_it_is_the_list_of_its_records(wanted):
    packed = PackedIndex(wanted)
    for number, row in enumerate(wanted):
        assert packed[number] == row
        assert list(packed[number].members) == list(row.members)
        assert packed.key(number) == row.key


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_numbers_of_any_width_come_back(bits):
    rows = [SampleIndex("a", {"json": (2**bits - 1 + i, 2**bits - i)}) for i in range(2)]
    for chosen in (rows[:1], rows[1:], rows):
        assert list(PackedIndex(chosen)) == chosen


def test_a_clip_takes_some_hundred_bytes():
    def record(number):
        suffixes = [f"{t:05d}.{kind}" for t in range(3) for kind in ("jpg", "png")] + ["json"]
        start = number * 130_000
        members = {s: (start + 512 * i, 40_000 + number % 99) for i, s in enumerate(suffixes)}
        crc32 = {
            suffix: number * 2_654_435_761 + i & 0xFFFFFFFF for i, suffix in enumerate(suffixes)
        }
        return SampleIndex(f"coco-{number:012d}-0", members, crc32)

    shard = [record(number) for number in range(400)]
    tracemalloc.start()
    packed = [PackedIndex(shard) for _ in range(10)]
    size = tracemalloc.get_traced_memory()[0] / 4000
    tracemalloc.stop()
    assert len(packed) == 10
    assert size < 150
