"""Files that are complete or absent, exclusive locks on them, and reading with a clear error.

A file is written under a temporary name next to its place and then renamed, so a reader sees the
old file or the new one. The operating system releases a lock when the process that holds it ends.
"""

import errno
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from stmtrain.errors import DataError, StmError, UsageError

_BUFFER = 1 << 20
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp")
_LFS = 50
_POLL = 0.02
"""Pause between two attempts to lock a file, seconds."""


def read_file(
    path: Path, advice: str = "check the path, or restore the file", most: int = -1
) -> bytes:
    """Read an input file.

    Args:
        path: The file.
        advice: Ends the error message: what the user can do.
        most: Read no more than so many bytes from its start; -1 for all.

    Raises:
        DataError: It cannot be read, is no regular file, or only a Git LFS pointer is there.
    """
    try:
        with open_regular(path) as file:
            data = file.read(most)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); {advice}") from None
    refuse_lfs_pointer(data[:_LFS], path)
    return data


def regular_descriptor(path: Path) -> int:
    """Open an input file for reading; a pipe or device, which may never end, is refused.

    Every input file is opened here.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "Is a pipe or device, not a regular file", str(path))
    return descriptor


def open_regular(path: Path) -> BufferedReader:
    """Return the file of :func:`regular_descriptor`."""
    return os.fdopen(regular_descriptor(path), "rb")


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Read an input file that :func:`open_regular` opens, of at most ``most`` bytes.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"Is larger than {most} bytes", str(path))
        return file.read()


def refuse_lfs_pointer(start: bytes, path: Path) -> None:
    """Refuse a file that only says where Git LFS keeps the real one.

    Args:
        start: The first 50 bytes of the file, or more.
        path: The file.
    """
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError(
            f'{path}: is a Git LFS pointer, not the file itself; run "git lfs pull" where it was '
            "cloned"
        )


@contextmanager
def whole_file(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends; missing folders are created.

    If the block raises, ``path`` keeps its old content. If the process is killed, a temporary file
    is left, which :func:`remove_temporaries` removes. Its name is new each time, so that a worker
    that briefly outlives its killed parent cannot write into the file of the next run.

    Args:
        path: The file to write.
        sync: Wait until file and name are on the disk, so that they survive a power failure.

    Raises:
        StmError: The disk is full, or the folder is not writable. Errors inside the block pass
            unchanged; see :func:`writing`.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _create(temporary)
    try:
        yield file
        with writing(path):
            file.flush()
            if sync:
                os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
            if sync:
                _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # closing flushes, which fails once more on a full disk
            file.close()
        with suppress(OSError):
            temporary.unlink()
        raise


def write_whole(path: Path, data: bytes | str, *, sync: bool = False) -> None:
    """Write a complete small file, text as UTF-8. See :func:`whole_file`."""
    with whole_file(path, sync=sync) as file, writing(path):
        file.write(data.encode() if isinstance(data, str) else data)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file durably, unless it has these bytes already."""
    if not path.is_file() or read_regular(path) != data:
        write_whole(path, data, sync=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into a :class:`StmError` that names ``path``."""
    try:
        yield
    except OSError as error:
        raise StmError(
            f"{path}: cannot be written ({_reason(error)}); {_cure(error)}, then run the same "
            "command again"
        ) from None


def remove(paths: Sequence[Path]) -> None:
    """Remove those files of one folder that exist, durably."""
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)
    if paths:
        with writing(paths[0].parent):
            _sync_folder(paths[0].parent)


def remove_temporaries(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove what interrupted :func:`whole_file` calls left of these files (``None``: of any).

    Only for a folder that no other process writes to at the moment.
    """
    found = [path for path in folder.glob("*.tmp") if _TEMPORARY.search(path.name)]
    remove([path for path in found if names is None or _TEMPORARY.sub("", path.name) in names])


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for this process.

    Raises:
        UsageError: Another process has locked it.
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor):
            raise UsageError(
                f"{folder}: another run is writing here; wait for it, or use another folder"
            )
        yield
    finally:
        os.close(descriptor)


def lock(
    descriptor: int, *, shared: bool = False, patience: float = 0, required: bool = False
) -> bool:
    """Lock an open file or folder until its descriptor is closed.

    Args:
        descriptor: Of the file.
        shared: Let others hold shared locks at the same time.
        patience: How long to wait for other processes, seconds.
        required: Raise on a file system without locks. By default the lock is then taken as
            granted: not to start two runs at once is up to the user there.

    Returns:
        False if another process holds the file for longer than ``patience``.

    Raises:
        OSError: The file system has no locks, and ``required`` is set.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL)
            continue
        except OSError:
            if required:
                raise
        return True


def _create(path: Path) -> BinaryIO:
    return path.open("xb", buffering=_BUFFER)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cure(error: OSError) -> str:
    """Return what helps against a failure to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free disk space"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "choose a folder that you may write to"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return "choose another name"
    return "check the disk and the path"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
