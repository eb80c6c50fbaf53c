"""A file is the old one or the complete new one, whatever happens while it is written."""

import errno
import os
from pathlib import Path

import pytest

from stmtrain import files
from stmtrain.errors import DataError, StmError, UsageError
from stmtrain.files import (
    lock,
    locked,
    read_file,
    read_regular,
    remove_temporaries,
    whole_file,
    write_whole,
    writing,
)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def spoil() -> None:
        with whole_file(path) as file:
            file.write(b"ne")
            raise error

    with pytest.raises(error):
        spoil()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("sync", [False, True])
def test_the_old_file_stays_readable_until_the_block_ends(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "älter")
    with whole_file(path, sync=sync) as file:
        file.write(b"newer")
        assert path.read_text(encoding="utf-8") == "älter"
    assert path.read_bytes() == b"newer"


def test_sync_flushes_the_file_and_then_its_folder(tmp_path: Path, monkeypatch) -> None:
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").resolve())
    )
    write_whole(tmp_path / "a", b"x")
    assert synced == []
    write_whole(tmp_path / "a", b"x", sync=True)
    temporary, folder = synced
    assert temporary.name.startswith("a.")
    assert folder == tmp_path.resolve()


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path) as first:
        first.write(b"first")
        with whole_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"


def test_only_our_temporary_files_are_removed(tmp_path: Path) -> None:
    kept = ["a.tmp", "a.0123456.tmp", "b.01234567.tmp", "a"]
    for name in [*kept, "a.01234567.tmp"]:
        (tmp_path / name).write_bytes(b"half")
    remove_temporaries(tmp_path, {"a"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.0123456.tmp", "a.tmp"]


def test_what_cannot_be_read_or_written_is_one_line_with_its_path(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"")
    with pytest.raises(StmError, match=r"file/a: cannot be written \(.+\); choose another name"):
        write_whole(tmp_path / "file" / "a", b"x")
    with pytest.raises(DataError, match=r"none: cannot be read \(No such file.*\); look there"):
        read_file(tmp_path / "none", "look there")
    assert read_file(tmp_path / "file") == b""


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    again = locked(tmp_path)
    with locked(tmp_path), pytest.raises(UsageError, match="another run is writing"):
        again.__enter__()
    with locked(tmp_path):
        pass


def test_shared_locks_exclude_exclusive_ones_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with path.open() as one, path.open() as two, path.open() as three:
        assert lock(one.fileno(), shared=True)
        assert lock(two.fileno(), shared=True)
        assert not lock(three.fileno(), patience=0.03)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert lock(descriptor)
    with pytest.raises(OSError, match="not supported"):
        lock(descriptor, required=True)
    os.close(descriptor)


def test_a_git_lfs_pointer_is_not_taken_for_the_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(DataError, match="git lfs pull"):
        read_file(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_file(path)
    (tmp_path / "a").write_bytes(b"abc")
    assert read_regular(tmp_path / "a", 3) == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_regular(tmp_path / "a", 2)


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EROFS, "a folder that you may write to"),
        (errno.EISDIR, "another name"),
        (errno.EIO, "check the disk"),
    ],
)
def test_the_advice_after_a_failed_write_is_that_for_its_cause(number: int, cure: str) -> None:
    with pytest.raises(StmError, match=cure) as caught, writing(Path("out")):
        raise OSError(number, os.strerror(number))
    assert ("disk space" in str(caught.value)) == (number == errno.ENOSPC)
