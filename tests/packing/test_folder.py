"""The output folder: only our files are ever replaced, and only by one run at a time."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from stmdata.packing.pack import Job, SetPlan, _write_job, pack
from stmtrain.errors import StmError, UsageError
from stmtrain.shards.sample import Sample, Skipped, config_hash
from tests.packing.numbered import CONFIG, PLAN, Make, contents, jobs


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
    """Lets another run take over the folder while a worker is busy, as if its parent had died."""

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
    late = partial(_write_job, tmp_path, Make(), config_hash(CONFIG))
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


def test_a_set_that_lost_its_configuration_is_led_to_repair(tmp_path: Path) -> None:
    """What can be restored need not be packed again."""
    pack(PLAN, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match="stm shards repair"):
        pack(PLAN, tmp_path)
    (tmp_path / "config.json").write_bytes(b"")
    with pytest.raises(UsageError, match="stm shards repair"):
        pack(PLAN, tmp_path)
