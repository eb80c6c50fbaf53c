"""The cache: whole files or none, one fetch whoever asks, never more than its limit."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stmtrain.errors import ShardError, StmError, UsageError
from stmtrain.shards.cache import Cache
from tests.paths import ROOT
from tests.profiles import examples
from tests.shard_server import used


def content(number: int, size: int = 1000) -> bytes:
    return number.to_bytes(4, "big") * (size // 4)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get(cache: Cache, data: bytes, fetch: Callable[[BinaryIO], object] | None = None) -> int:
    """Open a file that holds ``data``; check what it holds; return the descriptor."""
    descriptor = cache.open(
        digest(data), len(data), fetch or (lambda file: file.write(data)), "there/x.tar"
    )
    assert os.pread(descriptor, len(data) + 1, 0) == data
    return descriptor


def use(cache: Cache, data: bytes) -> bool:
    """Open and close a file; say whether it had to be fetched."""
    fetched = []
    os.close(get(cache, data, lambda file: fetched.append(file.write(data))))
    return bool(fetched)


def test_a_file_is_fetched_once(tmp_path: Path) -> None:
    assert use(Cache(tmp_path, 10_000), content(1))
    assert not use(Cache(tmp_path, 10_000), content(1))
    assert {p.name for p in tmp_path.iterdir()} == {"lock", digest(content(1))}


def test_the_least_recently_used_leave_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3000)
    for number in (1, 2, 3):
        use(cache, content(number))
        time.sleep(0.01)
    assert not use(cache, content(1))
    time.sleep(0.01)
    assert use(cache, content(4))  # takes the place of 2
    assert [use(cache, content(n)) for n in (4, 1, 3)] == [False, False, False]
    assert use(cache, content(2))
    assert used(cache) == 3000


def test_a_file_in_use_is_not_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2000)
    held = get(cache, content(1))
    for number in range(2, 8):
        assert use(cache, content(number))
    assert not use(cache, content(1))
    os.close(held)
    time.sleep(0.01)
    use(cache, content(8))
    use(cache, content(9))
    assert use(cache, content(1))


def test_more_than_the_limit_only_while_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2000)
    held = [get(cache, content(n)) for n in range(5)]
    assert used(cache) == 5000
    for number, descriptor in enumerate(held):
        assert os.pread(descriptor, 1000, 0) == content(number)
        os.close(descriptor)
    use(cache, content(9))
    assert used(cache) <= 2000


@examples(30)
@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=25),
    limit=st.integers(1000, 4000),
)
def test_any_order_of_use(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool]], limit: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"), limit)
    held: dict[int, int] = {}
    for number, hold in steps:
        data, before = content(number, 400 + 100 * number), used(cache)
        descriptor = get(cache, data)
        if number in held or not hold:
            os.close(descriptor)
        else:
            held[number] = descriptor
        in_use = sum(400 + 100 * n for n in held)
        assert used(cache) <= max(limit, in_use + len(data)) or used(cache) == before
        while in_use > limit / 2:
            in_use -= 400 + 100 * (oldest := next(iter(held)))
            os.close(held.pop(oldest))
    for descriptor in held.values():
        os.close(descriptor)


def test_a_wrong_file_is_fetched_again_once_then_refused(tmp_path: Path) -> None:
    cache, tries = Cache(tmp_path, 10_000), []

    def wrong(file: BinaryIO) -> None:
        tries.append(file.seek(0, os.SEEK_END))
        file.write(b"no")

    with pytest.raises(ShardError) as error:
        cache.open(digest(content(1)), 2, wrong, "https://there/x.tar")
    assert tries == [0, 0]
    for part in ("https://there/x.tar", digest(content(1)), digest(b"no")):
        assert part in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]

    def wrong_once(file: BinaryIO) -> None:
        tries.append(0)
        file.write(b"no" if len(tries) == 3 else content(1))

    os.close(get(cache, content(1), wrong_once))
    assert len(tries) == 4


def test_an_interrupted_fetch_goes_on(tmp_path: Path) -> None:
    cache, data = Cache(tmp_path, 10_000), content(1)

    def stop_half_way(file: BinaryIO) -> None:
        file.write(data[:500])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open(digest(data), len(data), stop_half_way, "x")
    assert used(cache) == 1000  # counted as what it will be

    def rest(file: BinaryIO) -> None:
        assert file.seek(0, os.SEEK_END) == 500
        file.write(data[500:])

    os.close(get(cache, data, rest))


def test_a_damaged_part_costs_a_fetch_not_the_file(tmp_path: Path) -> None:
    cache, data = Cache(tmp_path, 10_000), content(1)
    (tmp_path / f"{digest(data)}.{len(data)}.part").write_bytes(b"rubbish")
    starts = []

    def fetch(file: BinaryIO) -> None:
        starts.append(file.seek(0, os.SEEK_END))
        file.write(data[starts[-1] :])

    os.close(get(cache, data, fetch))
    assert starts == [7, 0]


def test_a_file_that_was_cut_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10_000)
    use(cache, content(1))
    os.truncate(tmp_path / digest(content(1)), 100)
    assert use(cache, content(1))


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_bytes(bytes(5000))
    cache = Cache(tmp_path, 1000)
    for number in range(3):
        use(cache, content(number))
    assert (tmp_path / "thesis.txt").stat().st_size == 5000


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be used as a cache .*--cache"):
        Cache(tmp_path / "file", 1000)
    with pytest.raises(UsageError, match="--cache-size"):
        Cache(tmp_path, 999).open(digest(content(1)), 1000, lambda _: None, "x.tar")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(_: BinaryIO) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StmError, match=r"No space left on device.*--cache-size"):
        Cache(tmp_path, 1000).open(digest(b""), 0, full, "x.tar")


def test_a_borrowed_file_counts_while_it_is_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3000)
    for number in (1, 2, 3):
        use(cache, content(number))
        time.sleep(0.01)
    with cache.borrow(1000, lambda file: file.write(b"whatever"), "x") as file:
        assert used(cache) == 3000  # 1 made room for its whole size
        file.seek(0)
        assert file.read() == b"whatever"
        assert use(cache, content(1))  # takes the place of 2, not of the borrowed one
        assert not file.closed
        assert used(cache) == 3000
    assert file.closed
    assert used(cache) == 2000
    assert {p.name for p in tmp_path.iterdir()} == {"lock", *(digest(content(n)) for n in (1, 3))}


def test_a_borrowed_file_is_gone_whatever_happens(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3000)

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise ShardError("not there")

    with pytest.raises(ShardError, match="not there"), cache.borrow(10, fail, "x"):
        pass
    with pytest.raises(KeyError), cache.borrow(10, lambda _: None, "x"):
        raise KeyError
    assert {p.name for p in tmp_path.iterdir()} == {"lock"}
    with pytest.raises(StmError, match="cache cannot be written"), cache.borrow(9, _full, "x"):
        pass
    with pytest.raises(OSError, match="of the reader"), cache.borrow(10, lambda _: None, "x"):
        raise OSError("of the reader")
    with pytest.raises(UsageError, match="--cache-size"), cache.borrow(3001, _full, "x"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {"lock"}
    left = tmp_path / f"{digest(b'x')}.2000.part"  # as of a process that was killed
    left.touch()
    for number in range(3):
        use(cache, content(number))
    assert not left.exists()


def _full(_file: BinaryIO) -> None:
    raise OSError(28, "No space left on device")


def test_threads_share_one_fetch_and_keep_the_file(tmp_path: Path) -> None:
    cache, data, held, fetches = Cache(tmp_path, 10_000), content(1), [], []

    def slowly(file: BinaryIO) -> None:
        fetches.append(1)
        time.sleep(0.1)
        file.write(data)

    threads = [
        threading.Thread(target=lambda: held.append(get(cache, data, slowly))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert (len(held), len(fetches)) == (4, 1)
    for descriptor in held:
        os.close(descriptor)


def _race(folder: Path, log: Path, limit: int, start: float) -> None:
    """Open twelve files in turn, each fetch slow enough for the others to come in."""
    cache = Cache(folder, limit)
    time.sleep(max(0.0, start - time.time()))
    for number in range(12):
        data = content(number)

        def fetch(file: BinaryIO, data: bytes = data, number: int = number) -> None:
            with log.open("a") as lines:
                lines.write(f"{number}\n")
            for piece in range(0, 1000, 250):
                file.write(data[piece : piece + 250])
                file.flush()
                time.sleep(0.002)

        os.close(get(cache, data, fetch))


def test_processes_race_for_the_same_files_in_a_small_cache(tmp_path: Path) -> None:
    """Some are fetched again, but no process sees an incomplete file."""
    context, limit = multiprocessing.get_context("spawn"), 3000
    arguments = (tmp_path / "cache", tmp_path / "log", limit, time.time() + 1.0)
    racers = [context.Process(target=_race, args=arguments) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    fetched = [int(line) for line in (tmp_path / "log").read_text().split()]
    assert set(fetched) == set(range(12))
    assert used(Cache(tmp_path / "cache", limit)) <= limit


_FETCHER = """
import sys, time
from pathlib import Path
from stmtrain.shards.cache import Cache
def fetch(file):
    file.write(b"\\0\\0\\0\\1" * 125); file.flush()
    print("half", flush=True)
    time.sleep(60)
Cache(Path(sys.argv[1]), 10_000).open(sys.argv[2], 1000, fetch, "x")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_fetcher_that_dies_or_hangs_holds_nobody_up(tmp_path: Path, number: int) -> None:
    data = content(1)
    command = [sys.executable, "-c", _FETCHER, str(tmp_path), digest(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(number)
        starts = []

        def fetch(file: BinaryIO) -> None:
            starts.append(file.seek(0, os.SEEK_END))
            file.write(data[starts[-1] :])

        began = time.monotonic()
        os.close(get(Cache(tmp_path, 10_000, patience=0.3), data, fetch))
        assert time.monotonic() - began < 5
        assert starts == ([500] if number == signal.SIGKILL else [0])
        process.kill()
