"""Timing side by side, and reports that state the commit and the machine of each number."""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "commit_of", "median_seconds", "report", "side_by_side"]

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "numpy", "torch", "torchvision", "pillow", "simplejpeg", "webdataset",
    "opencv-python-headless", "pycocotools", "imaug", "litdata", "mosaicml-streaming",
)  # fmt: skip


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of one call, after a first call that is not counted."""
    return side_by_side({"only": function}, repeats)["only"]


def side_by_side(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return each function's median wall time of one call, seconds.

    Calls take turns, so that a change in the machine's speed affects all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat:  # the first turn warms caches
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(name: str, results: Mapping[str, Any]) -> Path:
    """Write ``benchmarks/results/<name>.json``: the results, commit, date, machine, versions."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {
        "benchmark": name,
        "results": dict(results),
        "commit": commit_of(ROOT),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": {"python": platform.python_version()} | _versions(),
    }
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return path


def commit_of(tree: Path) -> str:
    """Return the commit of a working tree, with ``+changes`` when the tree differs from it."""
    commit = _git(tree, "rev-parse", "HEAD") or "none"
    # Every run changes the results themselves.
    changed = _git(
        tree, "--no-optional-locks", "status", "--porcelain", "--", ".", ":!benchmarks/results"
    )
    return f"{commit}+changes" if changed else commit


def _git(tree: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=tree, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
