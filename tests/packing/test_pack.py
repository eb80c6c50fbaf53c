"""Shard sets: what is there is whole, and the bytes depend on inputs and configuration only."""

import contextlib
import errno
import fcntl
import gc
import io
import json
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmdata.packing.pack import Job, SetPlan, _WriteJob, pack
from stmdata.packing.writer import write_shard
from stmtrain import files
from stmtrain.errors import ShardError, StmError, UsageError
from stmtrain.shards.manifest import Manifest, Sidecar
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import Sample, SampleRecord, Skipped, config_hash
from tests.paths import ROOT
from tests.profiles import examples

CONFIG = {"source": "numbers", "seed": 7, "recipe": {"size": 8, "frames": (2, 3)}}
SHARDS, PER_SHARD = 4, 3


def sample(number: int, key: str | None = None) -> Sample:
    """A sample whose bytes say its number; the writer never looks inside an image."""
    rng = np.random.default_rng(number)
    names = tuple(f"{i:05d}" for i in range(1 + number % 3))
    masks = names[::2]
    record = SampleRecord(
        sample_key=key or f"sample-{number:04d}",
        height=4,
        width=6,
        frames=names,
        mask_frames=masks,
        object_ids=(1, 9),
        areas=((3,) * len(masks), (0,) * len(masks)),
        original_size=(8, 12),
        origin={"number": number, "name": "Überfahrt"},
    )
    return Sample(
        record,
        {name: rng.bytes(int(rng.integers(0, 1500))) for name in names},
        {name: rng.bytes(int(rng.integers(0, 700))) for name in masks},
    )


@dataclass(frozen=True)
class Make:
    """Makes numbered samples; every fifth number is skipped. Can stop at one, in several ways."""

    stop_at: int = -1
    how: str = "raise"
    once: Path | None = None

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        for number in job.items:
            if number == self.stop_at:
                self.stop()
            if number % 5 == 4:
                yield Skipped(f"image-{number}", "holds no object")
            else:
                yield sample(number)

    def stop(self) -> None:
        if self.how == "raise":
            raise StmError("stopped")
        if self.how == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getppid() if self.how == "kill parent" else os.getpid(), signal.SIGKILL)


def jobs(shards: int = SHARDS) -> list[Job]:
    return [
        Job(f"numbers-{s:06d}", tuple(range(s * PER_SHARD, (s + 1) * PER_SHARD)))
        for s in range(shards)
    ]


PLAN = SetPlan(CONFIG, jobs(), Make())


def contents(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def numbers(sidecar: Sidecar) -> list[str]:
    return [record.key for record in sidecar.index]


@pytest.fixture(scope="session")
def reference(tmp_path_factory) -> dict[str, str]:
    """The files of an undisturbed run with one worker."""
    out = tmp_path_factory.mktemp("reference")
    pack(PLAN, out)
    return contents(out)


# --- one shard ------------------------------------------------------------------------------------


def test_a_shard_is_a_plain_tar(tmp_path):
    samples = [sample(n) for n in range(5)]
    sidecar = write_shard(tmp_path / "a.tar", samples, "hash")
    data = (tmp_path / "a.tar").read_bytes()
    assert (sidecar.bytes, sidecar.sha256) == (len(data), sha256(data).hexdigest())
    assert len(data) % tarfile.RECORDSIZE == 0
    assert Sidecar.from_json((tmp_path / "a.json").read_bytes(), "a") == sidecar
    expected = [
        (f"{s.record.sample_key}.{suffix}", content)
        for s in samples
        for suffix, content in s.members()
    ]
    with tarfile.open(tmp_path / "a.tar") as tar:
        infos = tar.getmembers()
        assert [(i.name, tar.extractfile(i).read()) for i in infos] == expected
    for info in infos:
        assert info.isreg()
        assert not info.pax_headers
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        assert info.mode == 0o644
        assert data[info.offset + 257 : info.offset + 265] == b"ustar\x0000"
    system = subprocess.run(
        ["tar", "tf", str(tmp_path / "a.tar")], check=True, capture_output=True, text=True
    )
    assert system.stdout.split() == [name for name, _ in expected]
    assert system.stderr == ""


@given(st.lists(st.integers(0, 99), unique=True, max_size=6))
@examples(20)
def test_offsets_lead_to_the_bytes(tmp_path_factory, picks):
    path = tmp_path_factory.mktemp("shard") / "a.tar"
    sidecar = write_shard(path, [sample(n) for n in picks], "hash")
    data = path.read_bytes()
    assert numbers(sidecar) == [f"sample-{n:04d}" for n in picks]
    for record, number in zip(sidecar.index, picks, strict=True):
        members = {s: data[offset : offset + size] for s, (offset, size) in record.members.items()}
        assert list(members.items()) == sample(number).members()


def test_the_sidecar_counts(tmp_path):
    skip = Skipped("image-3", "no object")
    samples = [sample(1), skip, sample(2)]
    sidecar = write_shard(tmp_path / "a.tar", samples, "hash")
    both = [sample(1), sample(2)]
    assert sidecar.skipped == (skip,)
    assert sidecar.statistics == {
        "samples": 2,
        "frames": 5,
        "masks": 3,
        "objects": 4,
        "jpg_bytes": sum(len(b) for s in both for b in s.frames.values()),
        "png_bytes": sum(len(b) for s in both for b in s.masks.values()),
        "skipped": 1,
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")
def test_webdataset_reads_what_we_wrote(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(PLAN, tmp_path)
    urls = sorted(map(str, tmp_path.glob("*.tar")))
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    wanted = [sample(n) for n in range(SHARDS * PER_SHARD) if n % 5 != 4]
    assert [s["__key__"] for s in found] == [s.record.sample_key for s in wanted]
    for theirs, ours in zip(found, wanted, strict=True):
        assert {k: v for k, v in theirs.items() if not k.startswith("_")} == dict(ours.members())
    gc.collect()  # it leaves its files open: let the warnings come here, where they are expected


def test_the_offline_side_never_loads_torch():
    code = "import sys, stmdata.packing.videos; print({'torch', 'webdataset'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([sample(1), sample(1)], "sample sample-0001: this key occurs twice"),
        ([replace(sample(1), masks={})], "its record and its masks differ in ['00000']"),
        ([replace(sample(1), frames={})], "its record and its frames differ in ['00000', '00001']"),
    ],
)
def test_bad_samples_leave_no_file(tmp_path, samples, message):
    with pytest.raises(ShardError) as caught:
        write_shard(tmp_path / "a.tar", samples, "hash")
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_a_plain_tar_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Sample, "members", lambda _self: [("x" * 200, b"")])
    with pytest.raises(ShardError, match="does not fit a plain tar"):
        write_shard(tmp_path / "a.tar", [sample(1)], "hash")
    assert not list(tmp_path.iterdir())


# --- a whole set ----------------------------------------------------------------------------------


def test_a_set_is_what_its_manifest_says(tmp_path):
    seen = []
    manifest = pack(PLAN, tmp_path, progress=lambda *n: seen.append(n))
    assert seen[-1] == (10, 12, "2 skipped")
    assert manifest == Manifest.from_json((tmp_path / "manifest.json").read_bytes(), "m")
    assert manifest.config["recipe"] == {"size": 8, "frames": [2, 3]}
    assert manifest.skipped == {"holds no object": 2}
    assert (manifest.totals["samples"], manifest.totals["skipped"]) == (10, 2)
    with_names = {job.shard for job in jobs()} | {f"{job.name}.json" for job in jobs()}
    assert {p.name for p in tmp_path.iterdir()} == with_names | {"config.json", "manifest.json"}
    stored = ShardSet.open(tmp_path)
    keys = list(stored.keys())
    assert keys == [f"sample-{n:04d}" for n in range(12) if n % 5 != 4]
    for i, key in enumerate(keys):
        assert stored.read(i) == sample(int(key[-4:]))


def test_workers_do_not_change_the_bytes(tmp_path, reference):
    pack(PLAN, tmp_path, workers=3)
    assert contents(tmp_path) == reference


def test_the_order_of_finishing_does_not_change_the_manifest(tmp_path, reference):
    pack(PLAN, tmp_path)
    for name in ("numbers-000000.json", "numbers-000002.tar", "manifest.json"):
        (tmp_path / name).unlink()
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference


@pytest.mark.parametrize("how", ["raise", "interrupt"])
@pytest.mark.parametrize("stop_at", range(SHARDS * PER_SHARD))
def test_interrupted_anywhere_then_resumed(tmp_path, reference, stop_at, how):
    error = StmError if how == "raise" else KeyboardInterrupt
    with pytest.raises(error):
        pack(SetPlan(CONFIG, jobs(), Make(stop_at, how)), tmp_path)
    left = contents(tmp_path)
    assert "manifest.json" not in left
    assert left.items() <= reference.items()  # what is there is whole, and nothing else is there
    with pytest.raises(ShardError, match="incomplete"):
        ShardSet.open(tmp_path)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert len(kept) == 1 + 2 * (stop_at // PER_SHARD)
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # and was not made again


def test_an_error_in_a_worker_leaves_whole_files_only(tmp_path, reference):
    with pytest.raises(StmError, match="stopped"):
        pack(SetPlan(CONFIG, jobs(), Make(7)), tmp_path, workers=2)
    assert not multiprocessing.active_children()
    assert contents(tmp_path).items() <= reference.items()
    pack(PLAN, tmp_path, workers=2)
    assert contents(tmp_path) == reference


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.packing.test_pack import CONFIG, Make, jobs
from stmdata.packing.pack import SetPlan, pack

if __name__ == "__main__":
    pack(SetPlan(CONFIG, jobs(), Make({stop_at}, {how!r})), {out!r}, workers={workers})
"""


@pytest.mark.parametrize(
    ("stop_at", "how", "workers"),
    [(0, "kill self", 1), (4, "kill self", 1), (10, "kill self", 1), (7, "kill parent", 2)],
)
def test_killed_then_resumed(tmp_path, reference, stop_at, how, workers):
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.format(root=str(ROOT), out=str(out), stop_at=stop_at, how=how, workers=workers)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, str(script)], env=environment, timeout=60)
    assert run.returncode == -signal.SIGKILL
    left = contents(out)
    assert "manifest.json" not in left
    whole = {name: digest for name, digest in left.items() if not name.endswith(".tmp")}
    assert whole.items() <= reference.items()
    pack(PLAN, out)
    assert contents(out) == reference


def test_a_killed_worker_is_one_line(tmp_path, reference):
    with pytest.raises(StmError, match="killed, most likely for lack of memory"):
        pack(SetPlan(CONFIG, jobs(), Make(7, "kill self")), tmp_path, workers=2)
    assert contents(tmp_path).items() <= reference.items()


def test_a_set_that_lost_a_shard_is_not_whole_until_it_is_made_again(tmp_path, reference):
    pack(PLAN, tmp_path)
    (tmp_path / "numbers-000002.tar").write_bytes(b"cut")
    with pytest.raises(StmError, match="stopped"):
        pack(SetPlan(CONFIG, jobs(), Make(6)), tmp_path)
    left = set(contents(tmp_path))
    assert not left & {"manifest.json", "numbers-000002.json"}
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference


def test_files_are_synced_then_named_then_the_folder_is_synced(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.replace

    def record_fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("sync folder" if is_folder else "sync file")
        fsync(descriptor)

    def record_rename(path, target):
        events.append(target.name)
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_rename)
    pack(SetPlan(CONFIG, jobs(2), Make()), tmp_path)
    names = ["config.json"]
    names += [f"numbers-{n:06d}.{kind}" for n in (0, 1) for kind in ("tar", "json")]
    assert [event for event in events if "sync" not in event] == [*names, "manifest.json"]
    for i, event in enumerate(events):
        if "sync" not in event:
            assert (events[i - 1], events[i + 1]) == ("sync file", "sync folder")


def test_a_second_run_changes_nothing(tmp_path):
    pack(PLAN, tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    pack(SetPlan(CONFIG, jobs(), Make(0)), tmp_path)  # would stop if it made anything
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.with_suffix(".tar").write_bytes(b""),
        lambda p: p.with_suffix(".tar").unlink(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-9]),
        lambda p: p.write_bytes(p.read_bytes().replace(config_hash(CONFIG).encode(), b"0" * 64)),
    ],
)
def test_a_shard_that_is_not_whole_is_made_again(tmp_path, reference, damage):
    pack(PLAN, tmp_path)
    damage(tmp_path / "numbers-000001.json")
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference


def test_duplicate_keys_across_shards_are_refused(tmp_path):
    twice = [Job("numbers-000000", (1, 2)), Job("numbers-000001", (3, 2))]
    for _ in range(2):  # the second run finds the shards of the first
        with pytest.raises(ShardError, match=r"'sample-0002' occurs in numbers-000000\.tar and in"):
            pack(SetPlan(CONFIG, twice, Make()), tmp_path)
        assert not (tmp_path / "manifest.json").exists()


def test_shards_are_made_again_though_they_look_finished(tmp_path, reference):
    pack(PLAN, tmp_path)
    tar = tmp_path / "numbers-000001.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    others = {p: p.stat().st_mtime_ns for p in tmp_path.glob("numbers-00000[023].*")}
    pack(SetPlan(CONFIG, jobs(), Make(0)), tmp_path)
    assert contents(tmp_path) != reference  # only verify reads what is kept
    pack(PLAN, tmp_path, remake=["numbers-000001.tar"])
    assert contents(tmp_path) == reference
    assert {p: p.stat().st_mtime_ns for p in others} == others


def test_a_sidecar_that_is_not_as_we_write_it_is_made_again(tmp_path, reference):
    pack(PLAN, tmp_path)
    path = tmp_path / "numbers-000001.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1))
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference


def test_a_source_file_that_is_missing_is_not_taken_for_another_run(tmp_path):
    def make(_job):
        raise FileNotFoundError(errno.ENOENT, "source")

    with pytest.raises(FileNotFoundError, match="source"):
        pack(SetPlan(CONFIG, jobs(), make), tmp_path)


def test_nothing_to_pack(tmp_path):
    with pytest.raises(UsageError, match="nothing to pack"):
        pack(SetPlan(CONFIG, [], Make()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shard_may_be_empty(tmp_path):
    manifest = pack(SetPlan(CONFIG, [Job("numbers-000000", (4, 9))], Make()), tmp_path)
    assert manifest.totals["samples"] == 0
    assert manifest.skipped == {"holds no object": 2}
    with tarfile.open(tmp_path / "numbers-000000.tar") as tar:
        assert tar.getmembers() == []


@pytest.mark.parametrize("names", [("a/b",), ("..",), ("manifest",), ("config",), ("a", "a")])
def test_shard_names_are_plain_and_distinct(tmp_path, names):
    with pytest.raises(ValueError, match="distinct plain shard names"):
        pack(SetPlan(CONFIG, [Job(name, (1,)) for name in names], Make()), tmp_path)


# --- the folder -----------------------------------------------------------------------------------


def test_another_configuration_is_refused(tmp_path, reference):
    pack(PLAN, tmp_path)
    other = {**CONFIG, "seed": 8, "recipe": {"size": 9, "frames": (2, 3), "new": True}}
    with pytest.raises(UsageError) as caught:
        pack(SetPlan(other, jobs(), Make()), tmp_path)
    message = str(caught.value)
    assert "recipe.new: null there, true asked; recipe.size: 8 there, 9 asked" in message
    assert "seed: 7 there, 8 asked" in message
    assert "--overwrite" in message
    assert "\n" not in message
    assert contents(tmp_path) == reference


def test_another_configuration_is_refused_before_the_first_shard_is_whole(tmp_path):
    with pytest.raises(StmError, match="stopped"):
        pack(SetPlan(CONFIG, jobs(), Make(0)), tmp_path)
    with pytest.raises(UsageError, match="seed: 7 there, 8 asked"):
        pack(SetPlan({**CONFIG, "seed": 8}, jobs(), Make()), tmp_path)


def test_another_plan_is_refused(tmp_path):
    pack(SetPlan(CONFIG, jobs(4), Make()), tmp_path)
    with pytest.raises(UsageError, match="shards: 4 there, 3 asked"):
        pack(SetPlan(CONFIG, jobs(3), Make()), tmp_path)


@pytest.mark.parametrize("interrupted", [False, True])
def test_overwrite_removes_our_files_only(tmp_path, reference, interrupted):
    old = [Job(f"older-{s:06d}", (s,)) for s in range(6)]
    if interrupted:
        with pytest.raises(StmError, match="stopped"):
            pack(SetPlan({"seed": 0}, old, Make(5)), tmp_path)
    else:
        pack(SetPlan({"seed": 0}, old, Make()), tmp_path)
    foreign = ["notes.txt", "video.tar", "older-000099.tar", "movie.tar.0123abcd.tmp", "older.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    (tmp_path / "older-000001.tar.89abcdef.tmp").write_text("left by a killed run")
    pack(PLAN, tmp_path, overwrite=True)
    found = contents(tmp_path)
    assert {name: found.pop(name) for name in foreign}.keys() == set(foreign)
    assert found == reference


def test_overwrite_makes_the_same_configuration_again(tmp_path, reference):
    pack(PLAN, tmp_path)
    with pytest.raises(StmError, match="stopped"):
        pack(SetPlan(CONFIG, jobs(), Make(0)), tmp_path, overwrite=True)
    assert set(contents(tmp_path)) == {"config.json"}
    pack(PLAN, tmp_path, overwrite=True)
    assert contents(tmp_path) == reference


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
@pytest.mark.parametrize("text", ['{"architectures": ["Bert"]}', "not JSON", "[1]"])
def test_files_of_other_programs_are_never_replaced(tmp_path, name, text, overwrite):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=f"{name}: expected a file written by stm"):
        pack(PLAN, tmp_path, overwrite=overwrite)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {name: text}


def test_shards_without_a_configuration_are_refused(tmp_path, reference):
    pack(PLAN, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"manifest\.json but no config\.json"):
        pack(PLAN, tmp_path)
    pack(PLAN, tmp_path, overwrite=True)
    assert contents(tmp_path) == reference


def test_an_edited_configuration_cannot_remove_files_elsewhere(tmp_path):
    out = tmp_path / "out"
    pack(PLAN, out)
    (tmp_path / "precious.tar").write_text("mine")
    value = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**value, "shards": ["../precious.tar", 3]}))
    pack(PLAN, out, overwrite=True)
    assert (tmp_path / "precious.tar").read_text() == "mine"


def test_two_runs_at_once_are_refused(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another run is writing here"):
            pack(PLAN, tmp_path)
    finally:
        os.close(descriptor)
    pack(PLAN, tmp_path)


@dataclass(frozen=True)
class Usurp:
    """Lets another run take the folder over while a worker is at a job, as if its parent died."""

    out: Path

    def __call__(self, job: Job) -> Iterator[Sample | Skipped]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stmdata.packing.folder._PATIENCE", 0.1)
            patch.setattr("stmdata.packing.pack.locked", lambda _: contextlib.nullcontext())
            with pytest.raises(UsageError, match="a worker of a killed run is still writing here"):
                pack(SetPlan({"seed": 99}, jobs(), Make()), self.out, overwrite=True)
        yield from Make()(job)


def test_a_worker_that_outlived_its_run_is_waited_for(tmp_path, reference):
    pack(SetPlan(CONFIG, jobs(), Usurp(tmp_path)), tmp_path)
    assert contents(tmp_path) == reference


@pytest.mark.parametrize("there", [None, {"seed": 99}])
def test_a_worker_that_comes_late_leaves_the_folder_of_another_run_alone(tmp_path, there):
    if there is not None:
        pack(SetPlan(there, jobs(), Make()), tmp_path)
    before = contents(tmp_path)
    late = _WriteJob(tmp_path, Make(), config_hash(CONFIG))
    with pytest.raises(StmError, match="another run has taken over the folder"):
        late(jobs()[0])
    assert contents(tmp_path) == before


def test_tars_made_elsewhere_are_never_replaced(tmp_path):
    pack(SetPlan({"kind": "indexed"}, jobs(1), Make()), tmp_path)
    before = contents(tmp_path)
    for name in ("config.json", "manifest.json"):  # either says so
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        with pytest.raises(UsageError, match="tars of another program"):
            pack(SetPlan(CONFIG, jobs(1), Make()), tmp_path, overwrite=True)
        (tmp_path / name).write_bytes(kept)
    assert contents(tmp_path) == before


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="expected a folder for the shards, found a file"):
        pack(PLAN, tmp_path / "out")
    with pytest.raises(StmError, match="cannot be written"):
        pack(PLAN, tmp_path / "out" / "deeper")


# --- the disk -------------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    """A file on a disk that has ``room`` bytes left in all."""

    room = 0

    def write(self, data):
        if len(data) > FullDisk.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        FullDisk.room -= len(data)
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 3_000, 15_000, 32_000, 41_500])
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_leaves_nothing_that_looks_whole(
    tmp_path, reference, monkeypatch, room, buffered
):
    FullDisk.room = room
    wrap = io.BufferedWriter if buffered else (lambda raw: raw)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_create", lambda path: wrap(FullDisk(path, "xb")))
        with pytest.raises(StmError) as caught:
            pack(PLAN, tmp_path)
    assert "No space left on device" in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = contents(tmp_path)
    assert "manifest.json" not in left
    assert left.items() <= reference.items()
    pack(PLAN, tmp_path)
    assert contents(tmp_path) == reference


def test_a_real_write_failure_is_one_line(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(StmError, match=r"cannot be written \(File too large"):
            pack(PLAN, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert set(contents(tmp_path)) == {"config.json"}


def test_an_unreadable_source_is_not_taken_for_a_full_disk(tmp_path):
    def make(_job):
        raise PermissionError(errno.EACCES, "source")

    with pytest.raises(PermissionError):
        pack(SetPlan(CONFIG, jobs(), make), tmp_path)
    assert set(contents(tmp_path)) == {"config.json"}
