"""Workers: every item once, errors and deaths reach the user, nothing is left running."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count as endless
from pathlib import Path

import pytest

from stmtrain import processes
from stmtrain.errors import DataError, StmError, UsageError
from stmtrain.processes import count, map_unordered, resolve_workers
from tests.paths import ROOT


def square(number: int) -> int:
    count(samples=1, skipped=number % 2)
    return number * number


def fail_at_three(number: int) -> int:
    if number == 3:
        raise DataError("frame.jpg: expected a JPEG, found soup; replace the file")
    return number


class AwkwardError(Exception):
    """Cannot be rebuilt from its message, like many exceptions of libraries."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} is not {second}")


def fail_awkwardly(number: int) -> int:
    raise AwkwardError(number, 2)


def divide(number: int) -> float:
    return 1 / number


def run_out_of_memory(_number: int) -> None:
    raise MemoryError


def die(how: int) -> None:
    os.kill(os.getpid(), how)


def leave(code: int) -> None:
    os._exit(code)


@dataclass(frozen=True)
class WriteThenSleep:
    """Notes its process id, then works for a minute, reporting as it goes."""

    folder: Path

    def __call__(self, number: int) -> int:
        (self.folder / f"{number}.pid").write_text(str(os.getpid()))
        for _ in range(6000):
            time.sleep(0.01)
            count(samples=1)
        return number


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_item_gives_its_result_once(workers):
    assert sorted(map_unordered(square, range(7), workers)) == [n * n for n in range(7)]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_items_no_results(workers):
    assert list(map_unordered(square, [], workers)) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_add_up(workers):
    counts = []
    list(map_unordered(square, range(5), workers, on_count=lambda *pair: counts.append(pair)))
    assert [sum(column) for column in zip(*counts, strict=True)] == [5, 2]


def test_count_outside_a_map_does_nothing():
    list(map_unordered(square, [1], 1))
    count(samples=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_drawn_as_they_are_needed(workers):
    drawn = []
    items = (drawn.append(n) or n for n in endless())
    results = map_unordered(square, items, workers)
    assert {next(results) for _ in range(4)} <= {n * n for n in range(6)}
    results.close()
    assert len(drawn) <= 4 + workers
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_class_and_message_and_ends_the_work(workers):
    with pytest.raises(DataError, match=r"^frame\.jpg: expected a JPEG, found soup; replace"):
        list(map_unordered(fail_at_three, endless(), workers))
    assert not multiprocessing.active_children()


def test_a_bug_in_a_worker_shows_where_it_happened():
    with pytest.raises(ZeroDivisionError) as caught:
        list(map_unordered(divide, [0, 1], 2))
    assert "return 1 / number" in "".join(caught.value.__notes__)
    with pytest.raises(RuntimeError, match="AwkwardError: 1 is not 2"):
        list(map_unordered(fail_awkwardly, [1, 1], 2))


@pytest.mark.parametrize(
    ("function", "item", "message"),
    [
        (die, signal.SIGKILL, "killed, most likely for lack of memory; .* fewer --workers"),
        (die, signal.SIGSEGV, "ended by SIGSEGV"),
        (leave, 7, "exit code 7 before it could answer"),
        (run_out_of_memory, 0, "ran out of memory; .* fewer --workers"),
    ],
)
def test_a_dead_worker_is_one_line(function, item, message):
    with pytest.raises(StmError, match=message) as caught:
        list(map_unordered(function, [item, item], 2))
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_leaving_early_stops_busy_workers_at_once(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(_samples, _skipped):
        if len(list(tmp_path.glob("*.pid"))) == 2:
            raise StoppedError

    begin = time.monotonic()
    with pytest.raises(StoppedError):
        list(map_unordered(WriteThenSleep(tmp_path), endless(), 2, on_count=stop))
    assert time.monotonic() - begin < 50  # an item takes a minute
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert not any(map(is_running, pids))


@dataclass(frozen=True)
class SleepSilently:
    """Item 0 fails once the others work, which takes a minute without any report."""

    folder: Path

    def __call__(self, number: int) -> None:
        if number == 0:
            wait_until(lambda: (self.folder / "1.pid").exists())
            raise DataError("stop")
        (self.folder / f"{number}.pid").write_text(str(os.getpid()))
        time.sleep(60)


def interrupts_are_blocked(_):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_workers_never_see_an_interrupt_not_even_while_they_start():
    assert list(map_unordered(interrupts_are_blocked, range(3), workers=2)) == [True] * 3
    assert not interrupts_are_blocked(None)


def test_an_error_stops_workers_that_never_report(tmp_path):
    begin = time.monotonic()
    with pytest.raises(DataError, match="stop"):
        list(map_unordered(SleepSilently(tmp_path), range(2), 2))
    assert time.monotonic() - begin < 50
    assert not is_running(int((tmp_path / "1.pid").read_text()))


SCRIPT = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_processes import WriteThenSleep
from stmtrain.processes import map_unordered

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if pytest is in background
    list(map_unordered(WriteThenSleep(Path({folder!r})), range(9), 2))
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT), folder=str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60)
        parent.send_signal(how)
        _, errors = parent.communicate(timeout=60)
    assert wait_until(lambda: not any(path.read_text() == "" for path in tmp_path.glob("*.pid")))
    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert wait_until(lambda: not any(map(is_running, pids)))
    if how != signal.SIGINT:  # the parent's own KeyboardInterrupt is for the command line to catch
        assert errors == ""


def test_resolve_workers():
    assert resolve_workers("auto") >= 1
    assert [resolve_workers(value) for value in (0, 1, "3")] == [0, 1, 3]
    for wrong in (-1, "many", "1.5", ""):
        with pytest.raises(UsageError, match="--workers: expected auto or a number >= 0"):
            resolve_workers(wrong)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_auto_workers_respect_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert resolve_workers("auto") == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ],
)
def test_auto_workers_respect_a_container(tmp_path, monkeypatch, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(processes, "_CGROUP", tmp_path)
    assert processes._cpu_quota(tmp_path) == quota
    if quota is not None:
        assert resolve_workers("auto") <= max(1, round(quota + 0.5))
    assert resolve_workers("auto") >= 1
