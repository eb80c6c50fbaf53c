"""Several ranks train as one: the same global batches, the same loss, from any number to any."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import cli
from stmtrain.errors import UsageError
from stmtrain.model import STM
from stmtrain.training.distributed import SINGLE, Ranks, ranks_of, usable_device
from stmtrain.weights.checkpoint import load_checkpoint


def test_without_torchruns_variables_a_process_is_alone() -> None:
    assert ranks_of({"PATH": "/bin"}) == SINGLE
    assert ranks_of({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1)


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "x", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "1"},
    ],
)
def test_half_a_torchrun_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="as torchrun sets them, found RANK="):
        ranks_of(environment)


def test_an_unusable_device_is_refused() -> None:
    with pytest.raises(UsageError, match="--device nonsense"):
        usable_device("nonsense")


def _options(shards: Path, out: Path) -> list[str]:
    # With Adam's usual eps, a gradient that is nothing but rounding moves its weight by a full
    # step. With a large one, a weight moves in proportion to its gradient.
    settings = ["size=32", "batch_size=4", "log_every=1", "learning_rate=0.05", "adam_eps=1.0"]
    settings += ["batchnorm=frozen", "schedule=constant", "warmup=2", "clip_norm=1.0", "ema=0.5"]
    return [
        *("train", "--recipe", "main", "--device", "cpu", "--threads", "1"),
        *("--backbone", "resnet18", "--backbone-weights", "none"),
        *("--shards", str(shards), "--out", str(out)),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def _train(shards: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stmdata.commands.main", *_options(shards, out), *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _logged(out: Path, name: str) -> list[float]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[name] for line in lines]


def _movement(state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """How far training has moved each number from the initial weights."""
    torch.manual_seed(0)
    initial = {k: v for k, v in STM("resnet18").state_dict().items() if v.is_floating_point()}
    return torch.cat([(state[name] - tensor).flatten() for name, tensor in initial.items()])


@pytest.mark.parametrize(
    ("first", "second"), [("2", "1"), pytest.param("4", "2", marks=pytest.mark.slow)]
)
def test_one_two_and_four_ranks_train_alike_and_resume_each_other(
    first: str, second: str, shards: Path, tmp_path: Path
) -> None:
    alone = CliRunner().invoke(cli.app, [*_options(shards, tmp_path / "alone"), "--steps", "4"])
    assert alone.exit_code == 0, alone.output
    for steps, ranks, resume in (("2", first, ()), ("4", second, ("--resume",))):
        several = _train(shards, tmp_path / "several", "--steps", steps, "--gpus", ranks, *resume)
        assert several.returncode == 0, several.stderr
        assert several.stdout.count("checkpoint:") == 1  # only rank 0 prints
    for name in ("step", "loss", "grad_norm", "learning_rate"):
        values = [_logged(tmp_path / out, name) for out in ("several", "alone")]
        assert len(values[0]) == 4
        np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5, err_msg=name)
    ours, theirs = (load_checkpoint(tmp_path / n / "checkpoint.pt") for n in ("several", "alone"))
    assert ours.ema is not None
    assert theirs.ema is not None
    for states in ((ours.model, theirs.model), (ours.ema, theirs.ema)):
        several_moved, alone_moved = map(_movement, states)
        assert alone_moved.norm() > 0.05
        assert (several_moved - alone_moved).norm() < 0.01 * alone_moved.norm()


def test_an_error_on_several_ranks_ends_all_of_them_with_its_line(
    shards: Path, tmp_path: Path
) -> None:
    run = _train(shards, tmp_path / "run", "--gpus", "2", "--init", str(tmp_path / "none.pth"))
    assert run.returncode == 1
    assert run.stderr.count("none.pth: cannot read the checkpoint") == 1
    assert "Traceback" not in run.stderr


def test_a_batch_that_does_not_split_and_missing_gpus_are_usage_errors(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _options(shards, tmp_path / "run")
    run = CliRunner().invoke(cli.app, [*options, "--gpus", "3"])
    assert run.exit_code == 2
    assert "--gpus 3: expected a batch that splits evenly, found 4 clips" in run.stderr
    monkeypatch.setattr(sys, "argv", ["stm", *options])
    if torch.cuda.device_count() < 4:
        run = CliRunner().invoke(cli.app, [*options, "--gpus", "4", "--device", "auto"])
        assert run.exit_code == 2
        assert "--gpus 4: found" in run.stderr
        assert ("at most as many" in run.stderr) == (torch.cuda.device_count() > 0)


def _start(shards: Path, out: Path, *options: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start two ranks; return their launcher and their process ids once both train."""
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stmdata.commands.main",
            *_options(shards, out),
            "--steps",
            "100000",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait(lambda: (out / "metrics.jsonl").exists() and len(_logged(out, "loss")) >= 2, 240)
    found = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True)
    ranks = [pid for pid in map(int, found.stdout.split()) if _runs(pid)]
    return launcher, ranks


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def _runs(pid: int) -> bool:
    try:
        return b"stmtrain" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ranks_end_with_their_launcher(shards: Path, tmp_path: Path) -> None:
    launcher, ranks = _start(shards, tmp_path / "run", "--gpus", "2")
    assert len(ranks) == 2
    launcher.kill()
    launcher.communicate()
    _wait(lambda: not any(map(_runs, ranks)), 60)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_gone_is_reported_in_one_line(
    shards: Path, tmp_path: Path, number: signal.Signals
) -> None:
    options = ("--gpus", "2", "--rank-timeout", "10")
    launcher, ranks = _start(shards, tmp_path / "run", *options)
    os.kill(ranks[1], number)
    _, stderr = launcher.communicate(timeout=120)
    assert launcher.returncode not in (0, None)
    lines = [line for line in stderr.splitlines() if line.startswith("stm:")]
    assert len(lines) == 1, stderr
    assert ("lost the connection" if number == signal.SIGKILL else "no sign of life") in lines[0]
    assert "Traceback" not in stderr
