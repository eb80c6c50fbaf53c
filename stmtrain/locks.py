"""A folder or file held by one process; the system lets go of it however the process ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stmtrain.errors import UsageError

__all__ = ["lock", "locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process.

    Raises:
        UsageError: Another process holds it.
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor, fcntl.LOCK_EX):
            raise UsageError(
                f"{folder}: another run is writing here; wait for it, or use another folder"
            )
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, kind: int, patience: float = 0) -> bool:
    """Lock a descriptor until it is closed; False if others hold it for ``patience`` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
            continue
        except OSError:
            pass  # a file system without locks: two runs at once are the user's to avoid
        return True
