"""The program is in the packages: nothing that a user has in the working folder is executed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.config.pyprojecttoml import apply_configuration

from tests.paths import ROOT

STM = "from stmdata.commands.main import main\nif __name__ == '__main__':\n    main()\n"
"""The script that an installation writes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Modules of the user's own, each of which leaves a file when it is executed."""
    for name in ("cli", "random", "stmdata", "stmtrain", "numpy"):
        code = (
            f"import pathlib; pathlib.Path({str(tmp_path / 'executed')!r}).write_text('{name}')\n"
        )
        (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "stm").write_text(STM)
    return tmp_path


def run(folder: Path, *start: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    command = [sys.executable, *start]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def executed(folder: Path) -> str:
    path = folder / "executed"
    return path.read_text() if path.exists() else ""


def test_the_distribution_has_no_module_beside_its_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    distribution = Distribution({"long_description": "by setup.py"})
    apply_configuration(distribution, "pyproject.toml")
    distribution.set_defaults()
    assert not distribution.py_modules
    assert {name.partition(".")[0] for name in distribution.packages} == {"stmdata", "stmtrain"}
    assert "stmdata.commands" in distribution.packages


def test_workers_execute_nothing_of_the_working_folder(folder: Path, davis_tree: Path) -> None:
    words = ["pack-davis", "--root", str(davis_tree), "--out", "out", "--workers", "2"]
    done = run(folder, "bin/stm", *words)
    assert done.returncode == 0, done.stderr
    assert executed(folder) == ""


def test_ranks_execute_nothing_of_the_working_folder(folder: Path, packed: Path) -> None:
    words = ["train", "--shards", str(packed), "--out", "run", "--gpus", "2", "--device", "cpu"]
    words += ["--backbone", "none-such"]  # every rank refuses it after its imports
    done = run(folder, "bin/stm", *words)
    assert "--backbone none-such: expected one of" in done.stderr, done.stderr
    assert executed(folder) == ""


def test_the_script_of_the_repository_works_anywhere(folder: Path, davis_tree: Path) -> None:
    """Its processes find the packages although nothing is installed."""
    words = ["pack-davis", "--root", str(davis_tree), "--out", "out", "--workers", "2"]
    done = run(folder, str(ROOT / "cli.py"), *words)
    assert done.returncode == 0, done.stderr
    assert executed(folder) == ""


def test_threads_that_wait_do_not_spin_long(folder: Path) -> None:
    """OpenMP reads the policy when torch is loaded, so it must be set before."""
    stm = "import stmdata.commands.main as m\nm.app = lambda: None\nm.main()\nimport torch\n"
    (folder / "bin" / "stm").write_text(stm + "torch.rand(9)")
    done = run(folder, "bin/stm", OMP_DISPLAY_ENV="verbose")
    assert done.returncode == 0, done.stderr
    if "OMP_WAIT_POLICY" in done.stderr:  # torch was built with an OpenMP that tells
        assert re.search(r"OMP_WAIT_POLICY = '?PASSIVE", done.stderr), done.stderr
    if "GOMP_SPINCOUNT" in done.stderr:
        assert re.search(r"GOMP_SPINCOUNT = '?10000'?$", done.stderr, re.M), done.stderr
