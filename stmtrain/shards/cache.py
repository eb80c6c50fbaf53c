"""A local cache of files by sha256, shared by processes and limited in size.

A file is fetched into ``<sha256>.<bytes>.part`` under an exclusive lock, checked, synced and
renamed to ``<sha256>``: a name without ``.part`` is a complete file. Users of a file hold a shared
lock on it through its descriptor, and only files without locks are removed. The operating system
releases the locks of a process when it ends; the next process resumes the part that it left.
"""

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

from stmtrain.errors import ShardError, StmError, UsageError
from stmtrain.files import lock

DEFAULT_GIGABYTES = 50.0

_POLL = 0.02
_NAME = re.compile(r"[0-9a-f]{64}(\.(?P<bytes>\d+)(\.[0-9a-f]{8})?\.part)?")


def default_folder() -> Path:
    """Return the user's cache folder for this program."""
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "stm-vos"


def user_cache(folder: Path | None = None, gigabytes: float = DEFAULT_GIGABYTES) -> "Cache":
    """Return the cache for the options ``--cache`` and ``--cache-size``."""
    return Cache(folder or default_folder(), int(gigabytes * 1e9))


class Cache:
    """Files by hash in one folder, at most ``limit`` bytes of them unless more are in use.

    Any number of threads and processes on one machine may share the folder: each file is fetched
    by one of them while the others wait for it. Files of other programs are not touched.

    Example:
        >>> cache = Cache(Path("cache"), 10**9)  # doctest: +SKIP
        >>> descriptor = cache.open(sha256, 4, lambda file: file.write(b"abcd"), "x")
    """

    def __init__(self, folder: Path, limit: int, *, patience: float = 120.0) -> None:
        """Create the folder if it does not exist.

        Args:
            folder: Folder of the cache, on a file system with locks.
            limit: Total size of all files, bytes; the least recently used are removed first.
            patience: If the fetch of another process makes no progress for this many seconds, the
                file is fetched independently.

        Raises:
            UsageError: The folder cannot be created or locked.
        """
        self.folder, self.limit, self._patience = folder, limit, patience
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._turn():
                pass
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be used as a cache ({error.strerror or error}); choose a folder "
                "on a local disk with --cache"
            ) from None

    def open(
        self, sha256: str, size: int | None, fetch: Callable[[BinaryIO], object], where: str
    ) -> int:
        """Return a descriptor of the complete file, readable even if it leaves the cache.

        Args:
            sha256: Hex digest of the file.
            size: Size of the file, bytes, if known.
            fetch: Completes a file, which may already contain the beginning that an interrupted
                fetch left.
            where: The file's name in error messages.

        Raises:
            ShardError: The fetched file has another hash, twice.
            UsageError: The file is larger than the limit of the cache.
            StmError: The folder cannot be written.
        """
        self._check_size(size or 0, where)
        with self._writing():
            while True:
                descriptor = self._take(sha256, size)
                if descriptor is not None:
                    return descriptor
                part = self._claim(sha256, size or 0)
                if part is not None:
                    with part:
                        return self._make(part, sha256, fetch, where)

    @contextmanager
    def borrow(
        self, size: int, fetch: Callable[[BinaryIO], object], where: str
    ) -> Iterator[BinaryIO]:
        """Fetch a file of any hash for the duration of the context; it is not kept.

        During that time it counts towards the limit. The file of a killed process is removed when
        space is needed, like any file without a lock.

        Args:
            size: Size of the file, bytes.
            fetch: Fills the empty file.
            where: The file's name in error messages.

        Errors are those of :meth:`open`, except that no hash is checked.
        """
        self._check_size(size, where)
        path = self.folder / f"{secrets.token_hex(32)}.{size}.part"
        with self._writing():
            part = path.open("x+b")
        with part:
            try:
                with self._writing():
                    fcntl.flock(part, fcntl.LOCK_EX)
                    self._make_room()
                    fetch(part)
                    part.flush()
                yield part
            finally:
                path.unlink(missing_ok=True)

    def _check_size(self, size: int, where: str) -> None:
        if size > self.limit:
            raise UsageError(
                f"{where}: the file has {size / 1e9:.3g} GB, but the cache is limited to "
                f"{self.limit / 1e9:.3g} GB; raise --cache-size"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an error of the file system into one for the user."""
        try:
            yield
        except OSError as error:
            raise StmError(
                f"{error.filename or self.folder}: the cache cannot be written "
                f"({error.strerror or error}); free space, lower --cache-size or choose another "
                "folder with --cache"
            ) from None

    def _take(self, sha256: str, size: int | None) -> int | None:
        """Open and lock a file of the cache and mark it as just used; None if it is absent."""
        path = self.folder / sha256
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        if size is not None and os.fstat(descriptor).st_size != size:
            os.close(descriptor)
            path.unlink(missing_ok=True)  # truncated by hand or by a failing disk
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(PermissionError):  # another user's file: it will be removed somewhat early
            os.utime(descriptor)
        return descriptor

    def _claim(self, sha256: str, size: int) -> BufferedRandom | None:
        """Open and lock the file's part; None if it was completed or removed during the wait."""
        path = self.folder / f"{sha256}.{size}.part"
        part = path.open("a+b")
        if not self._locked(part, path):
            part.close()
            path = path.with_name(f"{sha256}.{size}.{secrets.token_hex(4)}.part")
            part = path.open("x+b")
            fcntl.flock(part, fcntl.LOCK_EX)
        if _is_at(part, path):
            if not (self.folder / sha256).exists():
                return part
            path.unlink()
        part.close()
        return None

    def _locked(self, part: BufferedRandom, path: Path) -> bool:
        """Lock the part, waiting while another process makes it grow; False if it stops growing.

        True also if the part no longer has its name: it was completed, and its users have locked
        it.
        """
        seen, since = -1, 0.0
        while _is_at(part, path):
            if lock(part.fileno(), required=True):
                return True
            size, now = os.fstat(part.fileno()).st_size, time.monotonic()
            if size != seen:
                seen, since = size, now
            elif now - since > self._patience:
                return False
            time.sleep(_POLL)
        return True

    def _make(
        self, part: BufferedRandom, sha256: str, fetch: Callable[[BinaryIO], object], where: str
    ) -> int:
        """Fetch, check and rename the part; return a descriptor with a shared lock."""
        path = Path(part.name)
        found = ""
        # What an interrupted fetch left may be damaged, so two fetches from the start may follow.
        for _ in range(3 if os.fstat(part.fileno()).st_size else 2):
            self._make_room()
            fetch(part)
            part.flush()
            part.seek(0)
            found = hashlib.file_digest(part, "sha256").hexdigest()
            if found == sha256:
                break
            part.truncate(0)
        else:
            path.unlink()
            raise ShardError(
                f"{where}: expected sha256 {sha256}, found {found}, also when fetched again; the "
                "file on the server is damaged or of another run, upload the set again"
            )
        os.fsync(part.fileno())
        path.rename(self.folder / sha256)
        fcntl.flock(part, fcntl.LOCK_SH)
        descriptor = os.dup(part.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def _make_room(self) -> None:
        """Remove the least recently used files without locks until the limit is met.

        If all remaining files are in use, the limit is exceeded: removing a file that is in use
        frees no space before it is closed, and another process would fetch it again.
        """
        with self._turn():
            files = sorted(self._files())
            excess = sum(size for _, size, _ in files) - self.limit
            for _, size, path in files:
                if excess <= 0:
                    return
                if _remove_unused(path):
                    excess -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of last use, the size (once it is complete) and the path of each file."""
        for entry in os.scandir(self.folder):
            name = _NAME.fullmatch(entry.name)
            with suppress(FileNotFoundError):
                if name is not None:
                    stat = entry.stat(follow_symlinks=False)
                    size = max(stat.st_size, int(name["bytes"] or 0))
                    yield stat.st_mtime, size, Path(entry.path)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Let one process at a time make room, but wait only 10 s for one that is stopped."""
        with (self.folder / "lock").open("ab") as file:
            lock(file.fileno(), patience=10.0, required=True)
            yield


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file still has this name; it may have been renamed or removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_unused(path: Path) -> bool:
    """Remove a file unless it is locked; return whether it is absent afterwards."""
    try:
        with path.open("rb") as file:
            if not lock(file.fileno(), required=True):
                return False
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
