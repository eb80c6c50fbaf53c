"""The loader when things are bad, slow or dead: it skips as it says, and never hangs."""

import itertools
import re
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.errors import DataError, RemoteError, ShardError, UsageError
from stmtrain.shards.reader import ShardSet
from stmtrain.streaming.plan import Plan
from tests.profiles import examples
from tests.soak.shard_faults import with_other_pixels
from tests.streaming.test_loader import (
    Memory,
    contents,
    damaged,
    drain,
    load,
    loader_threads,
    make_sample,
)

SAMPLES = [make_sample(i, size=(40, 48) if i % 3 else (44, 40)) for i in range(12)]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


def with_bad(*numbers):
    """Damage samples in different ways: frame, mask, or a first mask without its objects."""
    samples = SAMPLES
    changes = ({"frame": b"no jpeg"}, {"mask": b"no png"}, {"areas": ((0,) * 5,) * 2})
    for number in numbers:
        samples = damaged(samples, number, **changes[number % 3])
    return Memory(samples)


def plan_of(batch, size=12):
    return Plan(((size,),), (1.0,), 5, batch)


def expected_keys(plan, steps, bad):
    """Say who stands where: a bad sample's place is taken by the next good one of the stream."""
    keys = []
    for position in range(steps * plan.global_batch):
        taker = next(p for p in itertools.count(position) if plan.ticket(p).index not in bad)
        keys.append(f"sample-{plan.ticket(taker).index}")
    return keys


# --- skipping -------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 11), max_size=9), st.integers(1, 3), st.sampled_from([2, 4]))
@examples(12, suppress_health_check=list(HealthCheck))
def test_the_next_sample_of_the_plan_takes_the_place(bad, threads, batch):
    loader = load(with_bad(*bad), batch=batch, threads=threads, on_bad_sample="skip")
    found = contents(loader, 6)
    assert [clip[1] for clip in found] == expected_keys(plan_of(batch), 6, bad)
    named = {message.split("sample sample-")[1].split(",")[0].split(":")[0]
             for message in loader.skipped}  # fmt: skip
    tickets = [plan_of(batch).ticket(p) for p in range(6 * batch)]
    assert named >= {str(t.index) for t in tickets if t.index in bad}
    assert named <= {str(number) for number in bad}


def test_good_samples_are_what_they_were():
    """Skipping moves no other clip, and its pixels stay the same."""
    whole = contents(load(Memory(SAMPLES)), 6)
    skipped = contents(load(with_bad(2, 7), on_bad_sample="skip"), 6)
    bad = {"sample-2", "sample-7"}
    kept = [(a, b) for a, b in zip(whole, skipped, strict=True) if a[1] not in bad]
    assert len(kept) == 20
    assert all(a == b for a, b in kept)


def test_skipping_is_the_same_on_every_rank_and_after_resuming():
    options = {"batch": 4, "on_bad_sample": "skip"}
    whole = contents(load(with_bad(1, 2, 8), **options), 7)
    for world in (2, 4):
        ranks = [
            contents(load(with_bad(1, 2, 8), rank=r, world=world, **options), 7)
            for r in range(world)
        ]
        share = 4 // world
        merged = [c for s in range(7) for rank in ranks for c in rank[s * share : (s + 1) * share]]
        assert merged == whole
    for start in (2, 5):
        rest = contents(load(with_bad(1, 2, 8), start=start, **options), 7 - start)
        assert rest == whole[4 * start :]


def test_skips_are_counted_by_name():
    loader = load(with_bad(3), on_bad_sample="skip")
    contents(loader, 9)  # three epochs
    assert list(loader.skipped.values()) == [3]
    assert next(iter(loader.skipped)).startswith("memory/a-000000.tar, sample sample-3, frame 0000")


@pytest.mark.parametrize("world", [1, 2])
def test_samples_without_a_clip_are_passed_over_by_the_same_rule_and_counted(world):
    bad = {2, 5, 8}  # without objects, but not damaged
    ranks = [load(with_bad(*bad), batch=4, rank=r, world=world) for r in range(world)]
    found = [contents(loader, 3) for loader in ranks]
    share = 4 // world
    keys = [c[1] for s in range(3) for rank in found for c in rank[s * share : (s + 1) * share]]
    assert keys == expected_keys(plan_of(4), 3, bad)
    messages = {message for loader in ranks for message in loader.skipped}
    assert len(messages) == 3
    assert all("no training clip: no object" in message for message in messages)


def test_a_set_without_any_clip_ends():
    samples = SAMPLES
    for number in range(12):
        samples = damaged(samples, number, areas=((0,) * 5,) * 2)
    with (
        pytest.raises(DataError, match=r"no other of the 12 samples gives a clip"),
        load(Memory(samples)) as x,
    ):
        next(x)


def test_without_a_good_sample_it_ends():
    loader = load(with_bad(*range(12)), on_bad_sample="skip")
    with pytest.raises(DataError, match=r"sample sample-.* \d+ samples before it.*are bad"), loader:
        next(loader)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(5, "Input/output error"), ShardError),
        (RemoteError("s3://x: does not answer"), RemoteError),
        (MemoryError("no memory"), MemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_is_no_bad_sample_is_never_skipped(error, raised):
    def before(index):
        if index == 3:
            raise error

    loader = load(Memory(SAMPLES, before), on_bad_sample="skip")
    with pytest.raises(raised), loader:
        drain(loader, 10)
    assert not loader.skipped


def test_other_words_are_refused():
    with pytest.raises(UsageError, match="on_bad_sample ignore: expected raise or skip"):
        load(Memory(SAMPLES), on_bad_sample="ignore")


def test_damaged_shards_are_skipped_sample_by_sample(tmp_path):
    """On disk: bytes overwritten in the tar, and a tar that was cut after it was opened."""

    def make(job):
        yield from (SAMPLES[i] for i in job.items)

    pack(SetPlan({"kind": "test"}, [Job("a", tuple(range(12)))], make), tmp_path / "set")
    tar = tmp_path / "set" / "a.tar"
    shards = ShardSet.open(tmp_path / "set")
    record = shards._record(4)[1]
    with tar.open("r+b") as file:
        for offset, _ in record.members.values():
            file.seek(offset)
            file.write(bytes(16))
    loader = load(shards, on_bad_sample="skip")
    assert {clip[1] for clip in contents(loader, 6)} == {f"sample-{i}" for i in range(12)} - {
        "sample-4"
    }
    assert all("set/a.tar, sample sample-4" in message for message in loader.skipped)
    last = shards._record(11)[1]
    with tar.open("r+b") as file:
        file.truncate(min(offset for offset, _ in last.members.values()))
    with pytest.raises(DataError, match=r"a.tar, sample sample-(4|11)"), load(shards) as loader:
        drain(loader, 6)
    loader = load(shards, on_bad_sample="skip")
    keys = {clip[1] for clip in contents(loader, 6)}
    assert keys == {f"sample-{i}" for i in range(12)} - {"sample-4", "sample-11"}


def test_a_changed_byte_that_decodes_is_a_bad_sample(tmp_path):
    pack(
        SetPlan({"kind": "a"}, [Job("a", tuple(range(12)))], lambda _job: iter(SAMPLES)),
        tmp_path / "set",
    )
    tar = tmp_path / "set" / "a.tar"
    shards = ShardSet.open(tmp_path / "set")
    data = bytearray(tar.read_bytes())
    for suffix, (offset, size) in shards._record(4)[1].members.items():
        if suffix.endswith(".jpg"):
            jpeg = bytes(data[offset : offset + size])
            data[offset : offset + size] = with_other_pixels(jpeg, np.random.default_rng(0))
    tar.write_bytes(data)
    named = r"a\.tar, sample sample-4, member 0000\d\.jpg, bytes \d+ to \d+: crc32 is"
    with pytest.raises(ShardError, match=named), load(shards) as loader:
        drain(loader, 6)
    loader = load(shards, on_bad_sample="skip")
    keys = {clip[1] for clip in contents(loader, 6)}
    assert keys == {f"sample-{i}" for i in range(12)} - {"sample-4"}
    assert all(re.search(named, message) for message in loader.skipped)


def test_a_member_that_is_missing_is_named(tmp_path):
    pack(
        SetPlan({"kind": "test"}, [Job("a", (0,))], lambda _job: iter(SAMPLES[:1])),
        tmp_path / "set",
    )
    shards = ShardSet.open(tmp_path / "set")
    for names in (("00009",), ("00000", "00009"), ("00009", "00001")):
        with pytest.raises(ShardError, match=r"sample-0, member 00009.jpg: not in the shard"):
            shards.read(0, names)


# --- hanging --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("threads", "on_bad_sample"), [(1, "raise"), (3, "skip")])
def test_the_stalled_clip_is_the_one_named(threads, on_bad_sample):
    """Nor is it skipped: that a disk does not answer says nothing about the sample."""
    release = threading.Event()
    third = plan_of(4).ticket(2).index  # the third clip of the first batch
    memory = Memory(SAMPLES, before=lambda index: release.wait(30) if index == third else None)
    loader = load(memory, threads=threads, patience=1.0, on_bad_sample=on_bad_sample)
    with pytest.raises(DataError, match=rf"sample sample-{third}: no data after 1 seconds"):
        next(loader)
    release.set()
    loader.close()


@pytest.mark.parametrize("prefetch", [1, 3])
def test_slow_is_not_stalled(prefetch):
    """A batch may take longer than the patience, or wait for others, if clips make progress."""
    loader = load(
        Memory(SAMPLES, lambda _i: time.sleep(0.35)),
        threads=1,
        patience=1.2,
        prefetch=prefetch,
        stop=2,
    )
    with loader:
        assert [batch.step for batch in loader] == [0, 1]
    assert loader.waited > 2


def test_a_stalled_record_is_an_error_too():
    class Stuck(Memory):
        def record(self, index):
            release.wait(30)
            return super().record(index)

    release = threading.Event()
    loader = load(Stuck(SAMPLES), patience=0.2)
    with pytest.raises(DataError, match=r"step 0: no data after 0.2 seconds"):
        next(loader)
    release.set()
    loader.close()


@given(st.data())
@examples(15, suppress_health_check=list(HealthCheck))
def test_whatever_goes_wrong_it_ends(data):
    """Random delays, errors and early closing: batches come in order or an error does, in time."""
    g = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    faults = g.random(40) * data.draw(st.sampled_from([0.9, 1.0, 1.04]))
    count = itertools.count()

    def before(_index):
        fault = faults[next(count) % 40]
        time.sleep(0.002 * fault)
        if fault > 1:
            raise OSError(5, "Input/output error")

    loader = load(
        Memory(SAMPLES, before),
        threads=data.draw(st.integers(1, 4)),
        prefetch=data.draw(st.integers(1, 4)),
        on_bad_sample=data.draw(st.sampled_from(["raise", "skip"])),
        patience=5,
    )
    began, steps = time.monotonic(), []
    try:
        steps.extend(drain(loader, data.draw(st.integers(0, 12))))
    except ShardError as error:
        assert "Input/output error" in str(error)  # noqa: PT017
    loader.close()
    assert steps == list(range(len(steps)))
    assert time.monotonic() - began < 5
