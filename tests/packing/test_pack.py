"""Shard sets: each file is complete, and the bytes depend on input and configuration alone."""

import errno
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
from pathlib import Path

import pytest

from stmdata.packing.pack import Job, SetPlan, pack
from stmtrain import files
from stmtrain.errors import DataError, ShardError, StmError, UsageError
from stmtrain.shards.manifest import Manifest
from stmtrain.shards.reader import ShardSet
from stmtrain.shards.sample import config_hash
from tests.packing.numbered import CONFIG, PER_SHARD, PLAN, SHARDS, Make, contents, jobs, sample
from tests.paths import ROOT


def test_a_set_is_what_its_manifest_says(tmp_path):
    seen = []
    manifest = pack(PLAN, tmp_path, progress=lambda *n: seen.append(n))
    assert seen[-1] == (10, 12, "2 skipped, listed at the end")
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
    assert left.items() <= reference.items()  # each file is complete, and there is no other
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
from tests.packing.numbered import CONFIG, Make, jobs
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
    jobs = [Job("numbers-000000", (4, 9)), Job("numbers-000001", (1,))]
    manifest = pack(SetPlan(CONFIG, jobs, Make()), tmp_path)
    assert manifest.totals["samples"] == 1
    assert manifest.skipped == {"holds no object": 2}
    with tarfile.open(tmp_path / "numbers-000000.tar") as tar:
        assert tar.getmembers() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_set_may_not_be_empty(tmp_path, workers):
    jobs = [Job(f"numbers-{i:06d}", (4, 9)) for i in range(3)]
    with pytest.raises(DataError, match=r"at least one sample.*holds no object \(6 times\)"):
        pack(SetPlan(CONFIG, jobs, Make()), tmp_path, workers=workers)
    assert not list(tmp_path.iterdir())
    pack(SetPlan({**CONFIG, "seed": 8}, [Job("numbers-000000", (1,))], Make()), tmp_path)


def test_bad_data_before_the_first_shard_leaves_the_folder_free(tmp_path):
    with pytest.raises(DataError, match="not an image"):
        pack(SetPlan(CONFIG, jobs(), Make(1, "bad data")), tmp_path)
    assert not list(tmp_path.iterdir())
    pack(SetPlan({**CONFIG, "seed": 8}, jobs(), Make()), tmp_path)


def test_bad_data_while_repairing_removes_no_settings(tmp_path):
    pack(SetPlan(CONFIG, jobs()[:1], Make()), tmp_path)
    with pytest.raises(DataError, match="not an image"):
        pack(
            SetPlan(CONFIG, jobs()[:1], Make(1, "bad data")),
            tmp_path,
            remake=["numbers-000000.tar"],
        )
    assert set(contents(tmp_path)) == {"config.json", "numbers-000000.tar"}


@pytest.mark.parametrize("names", [("a/b",), ("..",), ("manifest",), ("config",), ("a", "a")])
def test_shard_names_are_plain_and_distinct(tmp_path, names):
    with pytest.raises(ValueError, match="distinct plain shard names"):
        pack(SetPlan(CONFIG, [Job(name, (1,)) for name in names], Make()), tmp_path)


# --- the disk -------------------------------------------------------------------------------------


class FullDisk(io.FileIO):
    """A file on a disk with ``room`` bytes left in total."""

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
