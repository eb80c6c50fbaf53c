"""Ctrl-C: every command says what it has really left, and its advice works."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import cli
from stmtrain.commands import progress
from stmtrain.inference.results import finished_videos
from stmtrain.model import STM
from tests.paths import ROOT

ONE = ("--workers", "1")


def stm(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a context in which a command is interrupted at a call of its progress."""

    @contextmanager
    def interrupt(call: int) -> Iterator[None]:
        left = [call]

        @contextmanager
        def bar(*_arguments: object) -> Iterator[Any]:
            def show(*_progress: object) -> None:
                left[0] -= 1
                if left[0] <= 0:
                    raise KeyboardInterrupt

            yield show

        with monkeypatch.context() as patch:
            patch.setattr(progress, "progress_bar", bar)
            yield

    return interrupt


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "stm.pth"
    torch.manual_seed(0)
    torch.save(STM("resnet18").state_dict(), path)
    return path


def said(result: Result) -> str:
    """The one line that the command ends with."""
    assert result.exit_code == 130, result.output
    (line,) = (line for line in result.output.splitlines() if line.startswith("stm: "))
    return line.removeprefix("stm: stopped; ")


@pytest.mark.parametrize(("call", "some"), [(1, False), (15, True)])
def test_shards(coco_tree: Path, tmp_path: Path, stop_at: Any, call: int, some: bool) -> None:
    out = tmp_path / "out"
    annotations = coco_tree / "annotations" / "instances_train2017.json"
    words = ("prepare-coco", "--images", coco_tree / "train2017", "--annotations", annotations)
    words += ("--out", out, "--size", 32, "--clips-per-shard", 3, "--appearance", "none", *ONE)
    with stop_at(call):
        line = said(stm(*words, "--overwrite"))
    kept = [path for path in out.glob("*.tar") if path.with_suffix(".json").exists()]
    count = int(line.split()[0]) if line[0].isdigit() else 0
    assert count == len(kept)
    assert bool(kept) == some
    assert "run the same command again, without --overwrite, to" in line
    before = {path: path.stat().st_mtime_ns for path in kept}
    done = stm(*words)
    assert done.exit_code == 0, done.output
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert "already complete" not in done.output
    assert f"{out}: already complete" in stm(*words).output


def test_a_training_run(packed: Path, tmp_path: Path, stop_at: Any) -> None:
    out = tmp_path / "run"
    words = ("train", "--shards", packed, "--out", out, "--recipe", "main", "--device", "cpu")
    words += ("--backbone", "resnet18", "--backbone-weights", "none", "--size", 32)
    words += ("--batch-size", 1, "--steps", 2, "--threads", 1)
    with stop_at(4):
        line = said(stm(*words))
    assert line == f"{out}/checkpoint.pt has every finished step; add --resume to continue with " \
        "the next"  # fmt: skip
    done = stm(*words, "--resume")
    assert done.exit_code == 0, done.output
    again = stm(*words, "--resume")
    assert "already complete: 2 of 2 steps" in again.output
    assert again.exit_code == 0


def test_a_training_run_before_its_first_step(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stmtrain.train.build_state", stop)
    words = ("train", "--shards", packed, "--out", tmp_path / "run", "--device", "cpu")
    assert said(stm(*words)) == "no step was done yet; run the same command again to start"


def test_an_evaluation(davis_tree: Path, weights: Path, tmp_path: Path, stop_at: Any) -> None:
    out = tmp_path / "results"
    videos = ("--davis", davis_tree, "--split", "train")
    words = ("eval", "--checkpoint", weights, *videos, "--out", out, "--device", "cpu", *ONE)
    with stop_at(1):
        assert said(stm(*words)).startswith("no video was finished yet; run the same command")
    with stop_at(10):
        line = said(stm(*words))
    assert len(finished_videos(out)) == 1
    assert line == f"1 finished videos are kept in {out}; run the same command again to resume"
    assert "1 of 2 videos kept from an earlier run" in stm(*words).output
    assert f"{out}: already complete" in stm(*words).output


def test_tracking(davis_tree: Path, weights: Path, tmp_path: Path, stop_at: Any) -> None:
    out = tmp_path / "tracked"
    frames = davis_tree / "JPEGImages" / "480p" / "drawn-00"
    mask = davis_tree / "Annotations" / "480p" / "drawn-00" / "00000.png"
    words = ("track", frames, "--mask", mask, "--checkpoint", weights, "--out", out)
    words += ("--device", "cpu", "--no-overlay")
    with stop_at(4):
        line = said(stm(*words))
    count = len(list((out / "masks").glob("*.png")))
    assert count > 0
    assert line == f"{out}/masks has the masks of {count} frames; add --overwrite to start again"
    assert stm(*words).exit_code == 2
    assert stm(*words, "--overwrite").exit_code == 0


@pytest.mark.parametrize("command", ["score", "report", "shards verify", "stats"])
def test_what_only_reads(
    command: str, davis_tree: Path, packed: Path, tmp_path: Path, stop_at: Any
) -> None:
    truth = davis_tree / "Annotations" / "480p"
    before = sorted(packed.iterdir())
    words: dict[str, tuple[object, ...]] = {
        "score": ("--results", truth, "--davis", davis_tree, "--json", tmp_path / "a.json"),
        "report": (truth, "--davis", davis_tree, "--out", tmp_path / "a.html"),
        "shards verify": (packed, "--json", tmp_path / "a.json"),
        "stats": (packed, "--json", tmp_path / "a.json", "--plot", tmp_path / "a.html"),
    }
    with stop_at(1):
        line = said(stm(*command.split(), *words[command], *ONE))
    assert line == "nothing was written; run the same command again to start anew"
    assert not list(tmp_path.iterdir())
    assert sorted(packed.iterdir()) == before


def test_an_index(packed: Path, tmp_path: Path, stop_at: Any) -> None:
    folder = tmp_path / "tars"
    folder.mkdir()
    for tar in packed.glob("*.tar"):
        shutil.copy(tar, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with stop_at(2):
        line = said(stm("shards", "index", folder, *ONE))
    assert line == "the tars are unchanged; run the same command again to index them"
    assert not (folder / "manifest.json").exists()
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert stm("shards", "index", folder, *ONE).exit_code == 0


def test_a_repair(packed: Path, davis_tree: Path, tmp_path: Path, stop_at: Any) -> None:
    folder = Path(shutil.copytree(packed, tmp_path / "set"))
    for tar in folder.glob("*.tar"):
        tar.write_bytes(tar.read_bytes()[:-600])
    words = ("shards", "repair", folder, "--root", davis_tree, *ONE)
    with stop_at(4):  # two shards are verified, then the second one is rebuilt
        line = said(stm(*words))
    assert line.startswith(f"rebuilt shards are kept in {folder}; run the same command again")
    assert stm(*words).exit_code == 0
    assert stm("shards", "verify", folder, *ONE).exit_code == 0


def interrupted(words: list[object], begins: str) -> str:
    """Run the program until a line that begins so; send it SIGINT, and return what it prints."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith(begins):
            break
    os.killpg(process.pid, signal.SIGINT)
    output += process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_to_the_process(coco_tree: Path, tmp_path: Path, workers: int) -> None:
    """As a terminal sends it, to a program that works in one process or several."""
    annotations = coco_tree / "annotations" / "instances_train2017.json"
    words = ["prepare-coco", "--images", coco_tree / "train2017", "--annotations", annotations]
    words += ["--out", tmp_path / "out", "--variants", 900, "--workers", workers]
    output = interrupted(words, f"{tmp_path / 'out'}: ")
    assert re.search(r"^stm: stopped; no shard was finished yet", output, re.MULTILINE), output
    assert not list((tmp_path / "out").glob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_signal_to_all_ranks(packed: Path, tmp_path: Path, ranks: int) -> None:
    """One of them says what is kept, and nothing else is printed."""
    words = ["train", "--shards", packed, "--out", tmp_path, "--recipe", "main", "--device", "cpu"]
    words += ["--backbone", "resnet18", "--backbone-weights", "none", "--size", 32, "--gpus", ranks]
    words += ["--batch-size", 2, "--threads", 1]
    output = interrupted(words, "train main: ")
    after = output.partition("train main: ")[2].splitlines()[1:]
    assert [line for line in after if not line.startswith("train main: ")] == [
        f"stm: stopped; {tmp_path}/checkpoint.pt has every finished step; add --resume to continue "
        "with the next"
    ]
