"""Apply one function to many items, in this process or in worker processes.

:func:`map_unordered` takes a picklable function and items, and yields the results in the order in
which they are ready; callers must not depend on that order. Each worker is a fresh interpreter
(``spawn``: it inherits no thread and no lock) with one pipe to its parent. The pipe carries items,
results and progress counts. When either side dies the pipe closes, which ends the other side too,
so that no worker is left running however the parent ends.

``concurrent.futures`` does not do: before Python 3.14 it cannot stop a busy worker, and its workers
outlive a parent that is killed.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from math import ceil
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal, TypeVar

from stmtrain.errors import StmError, UsageError

Progress = Callable[[int, int, str], None]
"""Receives (done, total, note) while something long runs; ``total`` is 0 while it is unknown."""

Item = TypeVar("Item")
Result = TypeVar("Result")
_OnCount = Callable[[int, int], None]

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY_ADVICE = "run the same command again with fewer --workers"
_on_count: _OnCount | None = None
"""Receives the numbers of :func:`count` while a map runs in this process."""


def count(samples: int = 0, skipped: int = 0) -> None:
    """Count progress from inside the mapped function; does nothing outside a map."""
    if _on_count is not None:
        _on_count(samples, skipped)


def map_unordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    on_count: _OnCount | None = None,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in the order in which results are ready.

    Items are drawn one at a time as workers become free, so the iterable may be endless. The first
    error, a ``KeyboardInterrupt`` or closing this generator ends all workers at once.

    Args:
        function: Picklable (a module-level function, or a frozen dataclass with ``__call__``).
        items: Picklable if ``workers`` > 1.
        workers: Number of processes; 0 or 1 runs in this process.
        on_count: Called in this process with the (samples, skipped) of every :func:`count` call.

    Raises:
        StmError: A worker was killed or ran out of memory.
        Exception: Whatever ``function`` raised, with the worker's traceback as a note.
    """
    if workers <= 1:
        return (_call(function, item, on_count) for item in items)
    return _map_processes(function, items, workers, on_count)


def _call(function: Callable[[Item], Result], item: Item, on_count: _OnCount | None) -> Result:
    """Call ``function`` while :func:`count` calls ``on_count``."""
    global _on_count
    before, _on_count = _on_count, on_count
    try:
        return function(item)
    except MemoryError:
        raise StmError(f"a worker ran out of memory; {_MEMORY_ADVICE}") from None
    finally:
        _on_count = before


# From worker to parent: ("count", (samples, skipped)), ("result", value) or ("error", exception).
# From parent to worker: items. A closed pipe tells the worker to stop.
_Message = tuple[Literal["count", "result", "error"], Any]


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection

    def receive(self) -> _Message:
        """Return the next message; if the worker has died, raise an error that states how."""
        try:
            message: _Message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise StmError(_describe_exit(self.process.exitcode)) from None
        return message


def _map_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    on_count: _OnCount | None,
) -> Generator[Result, None, None]:
    queue = iter(items)
    busy: dict[Connection, _Worker] = {}
    try:
        for item in islice(queue, workers):
            worker = _start(function)
            busy[worker.pipe] = worker
            _send(worker, item)
        while busy:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                kind, value = worker.receive()
                if kind == "count":
                    if on_count is not None:
                        on_count(*value)
                    continue
                if kind == "error":
                    raise value
                for item in islice(queue, 1):  # hand over the next item before the result is used
                    _send(worker, item)
                    break
                else:
                    _dismiss(busy.pop(worker.pipe))
                yield value
    finally:
        for worker in busy.values():
            worker.process.terminate()
        for worker in busy.values():
            _dismiss(worker)


def _start(function: Callable[[Any], Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(function, theirs), daemon=True)
    # A worker inherits the mask. Else a Ctrl-C that comes before it ignores the signal, while it
    # still imports, prints its traceback.
    resource_tracker.ensure_running()  # which unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()  # only the worker holds the other end now, so its death closes the pipe
    return _Worker(process, ours)


def _send(worker: _Worker, item: Any) -> None:
    try:
        worker.pipe.send(item)
    except (BrokenPipeError, ConnectionResetError):
        worker.process.join()
        raise StmError(_describe_exit(worker.process.exitcode)) from None


def _dismiss(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join()
    worker.process.close()


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Run in a worker: answer every item until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent acts

    def on_count(samples: int, skipped: int) -> None:
        pipe.send(("count", (samples, skipped)))  # raises if the parent is gone: ends the work

    try:
        while True:
            item = pipe.recv()
            try:
                message: _Message = ("result", _call(function, item, on_count))
            except Exception as error:  # noqa: BLE001  (the parent raises it)
                message = ("error", _portable(error))
            pipe.send(message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _portable(error: Exception) -> Exception:
    """Return an exception that survives the pipe, with the worker's traceback as a note."""
    if isinstance(error, StmError):
        return error  # one line for the user, who has no use for its traceback
    text = "".join(traceback.format_exception(error))
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  (a constructor may raise anything)
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In the worker process:\n{text}")
    return copy


def _describe_exit(exitcode: int | None) -> str:
    """Describe how a worker ended without an answer."""
    if exitcode == -signal.SIGKILL:
        return f"a worker process was killed, most likely for lack of memory; {_MEMORY_ADVICE}"
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"a worker process was ended by {name}; run the same command again with --workers 1"
    return (
        f"a worker process ended with exit code {exitcode} before it could answer; see its output "
        "above (a script that uses workers needs an 'if __name__ == \"__main__\"' guard)"
    )


def end_with_parent() -> None:
    """End this process when its parent ends, however that happens.

    SIGTERM lets it end in order; 20 seconds later it ends at once.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="stm-parent").start()


def resolve_workers(workers: int | str = "auto") -> int:
    """Turn a ``--workers`` value into a number of processes.

    Args:
        workers: ``"auto"``, or a whole number >= 0; 0 and 1 both mean this process alone.

    Returns:
        The given number, or for ``"auto"`` the number of CPUs that this process may use. Under a
        batch system or in a container these are fewer than the machine has.

    Raises:
        UsageError: The value is neither.
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
    """Return the CPUs of this process: its affinity, or its container's quota if that is less."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _cpu_quota(_CGROUP)
    return cpus if quota is None else max(1, min(cpus, ceil(quota)))


def _cpu_quota(root: Path) -> float | None:
    """Return the number of CPUs that a container may use on average; ``None`` if unlimited."""
    try:  # cgroup version 2: "200000 100000" or "max 100000" (microseconds per period)
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1; -1 means no limit
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)
