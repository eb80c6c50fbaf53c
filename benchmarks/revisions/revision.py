"""A revision of this project in a folder of its own, and running its commands."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, commit_of

__all__ = ["Revision", "checked_out"]

PROBE = Path(__file__).with_name("probe.py")


@dataclass(frozen=True)
class Revision:
    """A revision of this project, checked out in a folder.

    Attributes:
        name: As the user gave it.
        commit: Its hash, with ``+changes`` where the folder differs from it.
        folder: The tree.
    """

    name: str
    commit: str
    folder: Path

    def stm(self, *words: object) -> float:
        """Run an ``stm`` command; return the processor time that it took, seconds.

        Raises:
            RuntimeError: The command failed; the message ends with the last lines it printed.
        """
        before = _child_seconds()
        self._run([sys.executable, str(self.folder / "cli.py"), *map(str, words)])
        return _child_seconds() - before

    def probe(self, *words: object) -> Any:
        """Return the answer of ``revision_probe.py`` from within this revision.

        Raises:
            RuntimeError: As for :meth:`stm`.
        """
        return json.loads(self._run([sys.executable, "-P", str(PROBE), *map(str, words)]))

    def _run(self, command: list[str]) -> str:
        environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "200",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
            raise RuntimeError(f"{self.name}: {' '.join(command[1:4])} … failed:\n{last}")
        return done.stdout


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def checked_out(name: str, folder: Path) -> Iterator[Revision]:
    """Check out a revision into a new git worktree, which is removed at the end.

    Args:
        name: Anything that git can name, or the path of a tree, which is used as it is.
        folder: Where the worktree goes; must not exist.

    Raises:
        subprocess.CalledProcessError: Git knows no such revision; its message is printed.
    """
    tree = Path(name).resolve()
    if (tree / "cli.py").is_file():
        yield Revision(name, commit_of(tree), tree)
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), name], check=True)
    try:
        yield Revision(name, commit_of(folder), folder)
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)
