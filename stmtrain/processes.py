"""Run one function over many items: in this process, or in worker processes.

In come a picklable function and items, out come its results in whatever order they are ready; the
caller must not depend on that order. Each worker is a fresh interpreter (spawn: nothing is shared,
no thread or lock is inherited half-way) with one pipe to its parent. The pipe carries the items,
the results and the counts shown as progress, and its end is how each side learns that the other
died: so nothing is left running, however the parent ends.

``concurrent.futures`` was tried first: before Python 3.14 it cannot stop a busy worker, and its
workers outlive a parent that is killed.
"""

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeVar

from stmtrain.errors import StmError

__all__ = ["Progress", "count", "map_unordered"]

Item = TypeVar("Item")
Result = TypeVar("Result")
OnCount = Callable[[int, int], None]

Progress = Callable[[int, int, str], None]
"""Receives (done, total, note); a total of 0 means that it is not known yet."""

_MEMORY_ADVICE = "run the same command again with fewer --workers, finished shards are kept"
_report: OnCount | None = None
"""Where :func:`count` sends its numbers while a map runs in this process."""


def count(samples: int = 0, skipped: int = 0) -> None:
    """Report progress from inside the mapped function; does nothing outside a map."""
    if _report is not None:
        _report(samples, skipped)


def map_unordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    on_count: OnCount | None = None,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in the order in which results are ready.

    Items are drawn one at a time as workers become free, so an endless iterable is fine. The first
    error, ``KeyboardInterrupt`` or closing of this iterator ends all workers at once.

    Args:
        function: Picklable (a module-level function, or a frozen dataclass with ``__call__``).
        items: Picklable when ``workers`` > 1.
        workers: Processes; 0 or 1 runs in this process.
        on_count: Gets (samples, skipped) of every :func:`count` call, in this process.

    Raises:
        StmError: A worker was killed or ran out of memory.
        Exception: Whatever ``function`` raised, with the worker's traceback as a note.
    """
    notify = on_count if on_count is not None else _ignore
    if workers <= 1:
        return _map_here(function, items, notify)
    return _map_processes(function, items, workers, notify)


def _ignore(samples: int, skipped: int) -> None:
    """Take no notice of progress."""


def _map_here(
    function: Callable[[Item], Result], items: Iterable[Item], notify: OnCount
) -> Generator[Result, None, None]:
    for item in items:
        yield _call(function, item, notify)


def _call(function: Callable[[Item], Result], item: Item, report: OnCount) -> Result:
    """Call ``function`` with :func:`count` going to ``report``."""
    global _report
    before, _report = _report, report
    try:
        return function(item)
    except MemoryError:
        raise StmError(f"a worker ran out of memory; {_MEMORY_ADVICE}") from None
    finally:
        _report = before


# What travels up a pipe: ("count", (samples, skipped)), ("result", value) or ("error", exception).
# Down the pipe travel items; its end tells the worker to stop.
_Message = tuple[Literal["count", "result", "error"], Any]


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    pipe: Connection

    def receive(self) -> _Message:
        """Take the next message; a worker that died is an error that says how."""
        try:
            message: _Message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise StmError(_epitaph(self.process.exitcode)) from None
        return message


def _map_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, notify: OnCount
) -> Generator[Result, None, None]:
    queue = iter(items)
    team: dict[Connection, _Worker] = {}
    try:
        for item in islice(queue, workers):
            worker = _start(function)
            team[worker.pipe] = worker
            _send(worker, item)
        while team:
            for pipe in wait(list(team)):
                worker = team[pipe]  # type: ignore[index]
                kind, value = worker.receive()
                if kind == "count":
                    notify(*value)
                    continue
                if kind == "error":
                    raise value
                for item in islice(queue, 1):  # hand over the next item before the result is used
                    _send(worker, item)
                    break
                else:
                    _dismiss(team.pop(worker.pipe))
                yield value
    finally:
        for worker in team.values():
            worker.process.terminate()
        for worker in team.values():
            _dismiss(worker)


def _start(function: Callable[[Any], Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(function, theirs), daemon=True)
    process.start()
    theirs.close()  # the worker now holds the only other end, so that its death ends the pipe
    return _Worker(process, ours)


def _send(worker: _Worker, item: Any) -> None:
    try:
        worker.pipe.send(item)
    except (BrokenPipeError, ConnectionResetError):
        worker.process.join()
        raise StmError(_epitaph(worker.process.exitcode)) from None


def _dismiss(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.join()
    worker.process.close()


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Be a worker: answer every item until the parent closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent acts

    def report(samples: int, skipped: int) -> None:
        pipe.send(("count", (samples, skipped)))  # fails when the parent is gone: stops the work

    try:
        while True:
            _answer(function, pipe.recv(), report, pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(function: Callable[[Any], Any], item: Any, report: OnCount, pipe: Connection) -> None:
    try:
        message: _Message = ("result", _call(function, item, report))
    except Exception as error:  # noqa: BLE001  (every kind travels to the parent, which raises it)
        message = ("error", _portable(error))
    pipe.send(message)


def _portable(error: Exception) -> Exception:
    """Return an exception that survives the pipe, with the worker's traceback as a note."""
    if isinstance(error, StmError):
        return error  # one line for the user; its traceback would say nothing more
    text = "".join(traceback.format_exception(error))
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  (a constructor may raise anything)
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In the worker process:\n{text}")
    return copy


def _epitaph(exitcode: int | None) -> str:
    """Say how a worker ended without an answer."""
    if exitcode == -signal.SIGKILL:
        return f"a worker process was killed, most likely for lack of memory; {_MEMORY_ADVICE}"
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"a worker process was ended by {name}; run the same command again with --workers 1"
    return (
        f"a worker process ended with exit code {exitcode} before it could answer; its own output "
        "says why (a script that uses workers needs an 'if __name__ == \"__main__\"' guard)"
    )
