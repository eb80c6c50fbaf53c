"""How many processes to use here: what the user said, or what this process may have."""

import os
from math import ceil
from pathlib import Path

from stmtrain.errors import UsageError

__all__ = ["resolve_workers"]

_CGROUP = Path("/sys/fs/cgroup")


def resolve_workers(workers: int | str = "auto") -> int:
    """Turn a ``--workers`` value into a number of processes.

    Args:
        workers: ``"auto"``, or a whole number >= 0; 0 and 1 both mean: in this process.

    Returns:
        The number as given; for ``"auto"`` the CPUs that this process may use, which under a batch
        system or in a container are fewer than the machine has.

    Raises:
        UsageError: Neither.
    """
    if workers == "auto":
        return _usable_cpus()
    try:
        number = int(workers)
    except ValueError:
        number = -1
    if number < 0:
        raise UsageError(f"--workers: expected auto or a number >= 0, found {workers!r}")
    return number


def _usable_cpus() -> int:
    """Count the CPUs of this process: its affinity, and its container's share if that is less."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _cpu_quota(_CGROUP)
    return cpus if quota is None else max(1, min(cpus, ceil(quota)))


def _cpu_quota(root: Path) -> float | None:
    """Return the CPUs that a container may use on average, or None without a limit."""
    try:  # cgroup version 2: "200000 100000" or "max 100000" (microseconds per period)
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1: -1 is no limit
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)
