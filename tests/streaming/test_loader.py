"""The loader: the same batches however it is run, errors that name the sample, and no hanging."""

import itertools
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
import torch

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain.errors import DataError, ShardError, UsageError
from stmtrain.images.decode import decode_frame, decode_mask
from stmtrain.images.encode import encode_mask
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord
from stmtrain.streaming.augment import augment
from stmtrain.streaming.clips import PSEUDO, VIDEO
from stmtrain.streaming.loader import Loader
from stmtrain.streaming.plan import Plan
from tests.paths import ROOT


def make_sample(number, length=5, size=(40, 48), ids=(2, 9)):
    """A video of noise with two boxes; sample number and time are its content."""
    g = np.random.default_rng(number)
    names = tuple(f"{t:05d}" for t in range(length))
    frames, masks, areas = {}, {}, []
    for name in names:
        mask = np.zeros(size, np.uint8)
        mask[4:20, 2:20], mask[22:36, 24:44], mask[0, :] = ids[0], ids[1], 255
        image = g.integers(0, 256, (*size, 3), dtype=np.uint8)
        frames[name], masks[name] = simplejpeg.encode_jpeg(image, 90), encode_mask(mask)
        areas.append([int((mask == i).sum()) for i in ids])
    rows = tuple(zip(*areas, strict=True))
    record = SampleRecord(f"sample-{number}", *size, names, names, ids, rows, size)
    return Sample(record, frames, masks)


class Memory:
    """A shard set in memory, with a hook that runs before each read."""

    def __init__(self, samples, before=bool):
        self.samples, self.before = samples, before
        self.shard_sizes = (len(samples),)
        self.reads = []

    def record(self, index):
        return self.samples[index].record

    def where(self, index):
        return f"memory/a-000000.tar, sample {self.samples[index].record.sample_key}"

    def read(self, index, frames=None, record=None):
        assert record in (None, self.samples[index].record)
        self.reads.append(index)
        self.before(index)
        sample = self.samples[index]
        return Sample(
            sample.record,
            {f: sample.frames[f] for f in frames},
            {f: sample.masks[f] for f in frames},
        )


@pytest.fixture(scope="module")
def samples():
    return [make_sample(i, size=(40, 48) if i % 3 else (44, 40)) for i in range(12)]


def load(shard_sets, batch=4, recipe=VIDEO, **options):
    shard_sets = shard_sets if isinstance(shard_sets, list) else [shard_sets]
    sizes = tuple(s.shard_sizes for s in shard_sets)
    plan = Plan(sizes, (1.0,) * len(sizes), seed=5, global_batch=batch)
    return Loader(shard_sets, plan, recipe, size=32, **{"max_skip": lambda step: step, **options})


def contents(loader, steps):
    """Copy what matters of the next batches: pixels inside each clip's own frame."""
    out = []
    with loader:
        for batch in itertools.islice(loader, steps):
            for i, (h, w) in enumerate(batch.sizes.tolist()):
                arrays = (batch.frames[i, :, :h, :w], batch.masks[i, :, :h, :w])
                arrays += (batch.matrices[i], batch.colours[i])
                pixels = (a.contiguous().numpy().tobytes() for a in arrays)
                out.append((batch.step, batch.keys[i], int(batch.num_objects[i]), *pixels))
    return out


def drain(loader, steps):
    """Take some steps; return their numbers."""
    return [next(loader).step for _ in range(steps)]


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("stm-loader")]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not loader_threads()


# --- what a batch is ------------------------------------------------------------------------------


def test_a_batch_holds_the_clips_of_the_plan(samples):
    with load(Memory(samples), recipe=replace(PSEUDO, max_objects=1)) as loader:
        batch = next(loader)
    tickets = Plan(((12,),), (1.0,), 5, 4).batch(0)
    assert batch.keys == tuple(f"sample-{t.index}" for t in tickets)
    assert batch.step == 0
    assert batch.num_objects.tolist() == [1] * 4
    assert batch.frames.shape == (4, 3, 44, 48, 3)
    assert batch.masks.shape == (4, 3, 44, 48)
    assert batch.frames.dtype == batch.masks.dtype == torch.uint8
    assert batch.matrices.shape == (4, 3, 3, 3)
    assert batch.colours.shape == (4, 3, 3, 4)
    for i, ticket in enumerate(tickets):
        sample = samples[ticket.index]
        height, width = batch.sizes[i].tolist()
        assert (height, width) == (sample.record.height, sample.record.width)
        decoded = [decode_frame(data, "") for data in sample.frames.values()]
        ids = set()
        for t in range(3):
            frame = batch.frames[i, t, :height, :width].numpy()
            name = sample.record.frames[
                next(k for k, d in enumerate(decoded) if (d == frame).all())
            ]
            mask = decode_mask(sample.masks[name], "")
            slots = batch.masks[i, t, :height, :width].numpy()
            assert set(np.unique(slots)) == {0, 1, 255}  # void stays; one object was chosen
            assert ((slots == 255) == (mask == 255)).all()
            ids |= set(np.unique(mask[slots == 1]))
            assert not (slots[~np.isin(mask, list(ids)) & (mask != 255)]).any()
        assert len(ids) == 1
        assert ids < {2, 9}


def test_every_frame_fits_augmentation(samples):
    with load(Memory(samples)) as loader:
        for _ in range(6):
            frames, masks = augment(next(loader), 32)
            assert frames.shape == (4, 3, 3, 32, 32)
            assert all(np.isin(masks[i, 0], (1, 2)).any() for i in range(4))


def test_threads_and_prefetch_change_nothing(samples):
    expected = contents(load(Memory(samples), threads=1, prefetch=1), 8)
    assert len({c[3] for c in expected}) > 8
    assert contents(load(Memory(samples), threads=4, prefetch=5), 8) == expected
    slow = Memory(samples, before=lambda index: time.sleep(0.002 * (index % 4)))
    assert contents(load(slow, threads=3, prefetch=3), 8) == expected


def test_resuming_at_any_step_gives_exactly_the_rest(samples):
    expected = contents(load(Memory(samples)), 7)
    for start in (1, 4):
        resumed = contents(load(Memory(samples), start=start), 7 - start)
        assert resumed == expected[4 * start :]


def test_ranks_share_the_global_batch(samples):
    expected = contents(load(Memory(samples), batch=4), 5)
    for world in (2, 4):
        ranks = [
            contents(load(Memory(samples), batch=4, rank=r, world=world), 5) for r in range(world)
        ]
        share = 4 // world
        merged = [c for s in range(5) for rank in ranks for c in rank[s * share : (s + 1) * share]]
        assert merged == expected


def test_shard_sets_are_mixed_and_max_skip_follows_the_step(samples):
    loader = load([Memory(samples[:5]), Memory(samples[5:])], batch=8)
    keys = {c[1] for c in contents(loader, 6)}
    assert keys == {f"sample-{i}" for i in range(12)}
    seen = []
    with load(Memory(samples), max_skip=lambda step: seen.append(step) or 0, stop=3) as loader:
        assert [b.step for b in loader] == [0, 1, 2]
        assert loader.step == 3
    assert sorted(set(seen)) == [0, 1, 2]


def test_a_batch_that_is_ready_needs_no_waiting(samples):
    slow = threading.Event()
    loader = load(Memory(samples, lambda _: slow.wait(9)), prefetch=2, stop=2)
    with loader:
        assert not loader.ready
        slow.set()
        next(loader)
        deadline = time.monotonic() + 9
        while not loader.ready and time.monotonic() < deadline:
            time.sleep(0.01)
        assert loader.ready
        next(loader)
        assert not loader.ready


def test_only_as_much_is_read_as_the_ring_holds(samples):
    memory = Memory(samples)
    with load(memory, batch=4, prefetch=3) as loader:
        next(loader)
        time.sleep(0.2)
        assert len(memory.reads) <= 4 * 4
        addresses = {next(loader).frames.data_ptr() for _ in range(20)}
    assert len(addresses) <= 4  # memory is used again
    assert loader.waited > 0


def test_a_real_shard_set_of_videos(tmp_path, samples):
    def make(job):
        yield from (samples[i] for i in job.items)

    pack(SetPlan({"kind": "test"}, [Job("a", (0, 1, 2)), Job("b", (3, 4))], make), tmp_path / "set")
    real = contents(load(ShardSet.open(tmp_path / "set")), 4)
    memory = Memory(samples[:5])
    memory.shard_sizes = (3, 2)
    assert real == contents(load(memory), 4)


# --- what goes wrong ------------------------------------------------------------------------------


def damaged(samples, number, **changes):
    """Return the samples with one changed: frames, masks or fields of the record."""
    sample = samples[number]
    frames = {k: changes.get("frame", v) for k, v in sample.frames.items()}
    masks = {k: changes.get("mask", v) for k, v in sample.masks.items()}
    fields = {k: v for k, v in changes.items() if k not in ("frame", "mask")}
    bad = Sample(replace(sample.record, **fields), frames, masks)
    return [*samples[:number], bad, *samples[number + 1 :]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": b"no jpeg"}, r"frame 0000\d: expected a JPEG"),
        ({"frame": make_sample(0, size=(44, 40)).frames["00000"][:1500]}, "JPEG is damaged"),
        ({"frame": simplejpeg.encode_jpeg(np.zeros((9, 8, 3), np.uint8))}, "40x44 .* found 8x9"),
        ({"mask": b"no png"}, r"mask 0000\d: expected a mask"),
        ({"mask": encode_mask(np.zeros((9, 8), np.uint8))}, "40x44 .* found 8x9"),
        ({"mask": encode_mask(np.zeros((44, 40), np.uint8))}, "lacks an object"),
        ({"height": 10**6, "width": 10**6}, "1000000x1000000 pixels"),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_a_bad_sample_is_named(samples, changes, message, threads):
    loader = load(Memory(damaged(samples, 6, **changes)), threads=threads)
    with pytest.raises(DataError, match="a-000000.tar, sample sample-6.*" + message), loader:
        drain(loader, 10)
    assert loader.step * 4 <= 12  # within the first epoch


def test_a_failing_disk_is_named_and_the_loader_can_go_on(samples):
    failing = [True]

    def before(index):
        if index == 3 and failing[0]:
            raise OSError(5, "Input/output error")

    loader = load(Memory(samples, before))
    with pytest.raises(ShardError, match=r"sample sample-3: cannot be read \(.*Input/output"):
        drain(loader, 10)
    stopped = loader.step
    assert not loader_threads()  # without close
    failing[0] = False
    assert drain(loader, 2) == [stopped, stopped + 1]
    loader.close()


def test_an_error_comes_only_when_its_step_does(samples):
    """Batches before the bad one are delivered; the error is the same whatever the timing."""
    bad = Memory(damaged(damaged(samples, 6, frame=b""), 2, frame=b""))
    steps = []
    for threads in (1, 4):
        loader = load(bad, batch=1, threads=threads, prefetch=6)
        with pytest.raises(DataError, match="sample sample-") as caught, loader:
            drain(loader, 20)
        steps.append((loader.step, str(caught.value).split(":")[0]))
    assert steps[0] == steps[1]


def test_a_stalled_disk_is_an_error_not_a_hang(samples):
    release = threading.Event()
    memory = Memory(samples, before=lambda index: release.wait(30) if index == 3 else None)
    loader = load(memory, threads=2, patience=1.0)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"sample sample-3: no data after 1 seconds"):
        drain(loader, 6)
    release.set()
    loader.close()
    assert time.monotonic() - began < 15
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_closing_early_is_quick_and_complete(samples):
    slow = Memory(samples, before=lambda _index: time.sleep(0.2 * (len(slow.reads) > 4)))
    loader = load(slow, prefetch=8, threads=2)
    next(loader)
    loader.close()
    loader.close()
    reads = len(slow.reads)
    assert reads < 4 * 8  # those of the batches in progress would take three seconds
    time.sleep(0.5)
    assert len(slow.reads) == reads


def test_a_forgotten_loader_does_not_keep_the_program_from_ending():
    code = """
import sys, threading
sys.path.insert(0, {root!r})
from tests.streaming.test_loader import Memory, load, make_sample
stuck = lambda index: threading.Event().wait() if index == {stuck} else None
loader = load(Memory([make_sample(i) for i in range(4)], stuck), batch=1)
print(next(loader).step)
"""
    stuck = Plan(((4,),), (1.0,), 5, 1).batch(1)[0].index  # its read never returns
    done = subprocess.run(
        [sys.executable, "-c", code.format(root=str(ROOT), stuck=stuck)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_settings_that_cannot_work_are_refused(samples):
    memory = Memory(samples)
    with pytest.raises(UsageError, match="threads 0"):
        load(memory, threads=0)
    with pytest.raises(UsageError, match="batch of 4 cannot be split evenly over 3"):
        load(memory, world=3)
    with pytest.raises(UsageError, match="other shard sets"):
        Loader([memory], Plan(((9,),), (1.0,), 0, 4), VIDEO, size=32)
    with pytest.raises(StopIteration):
        next(load(memory, start=4, stop=4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_the_gpu_are_the_same(samples):
    expected = contents(load(Memory(samples)), 20)
    got = []
    with load(Memory(samples), device="cuda") as loader:
        batches = [next(loader) for _ in range(20)]  # kept: copies must not be overwritten
    for b in batches:
        for i, (h, w) in enumerate(b.sizes.tolist()):
            got.append(b.frames[i, :, :h, :w].cpu().contiguous().numpy().tobytes())
    assert got == [c[3] for c in expected]
