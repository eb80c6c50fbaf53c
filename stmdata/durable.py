"""Files that are whole or not there: write beside, sync, rename, sync the folder.

Every failure of the disk becomes one line that names the file (:class:`StmError`).
"""

import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stmtrain.errors import StmError

__all__ = ["remove", "remove_temporaries", "replacing", "write_file", "writing"]

_BUFFER = 1 << 20
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends, and vanishes on an error.

    The temporary name is new each time: a worker that outlives its killed parent for a moment can
    then never write into the file of the run that follows.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    with writing(path):
        file = _create(temporary)
    try:
        yield file
        with writing(path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # closing flushes, which fails once more on a full disk
            file.close()
        with suppress(OSError):
            temporary.unlink()
        raise


def write_file(path: Path, data: bytes) -> None:
    """Put a whole small file in place."""
    with replacing(path) as file, writing(path):
        file.write(data)


def remove(paths: Sequence[Path]) -> None:
    """Remove files of one folder, those that exist, and make that last."""
    for path in paths:
        with writing(path):
            path.unlink(missing_ok=True)
    if paths:
        with writing(paths[0].parent):
            _sync_folder(paths[0].parent)


def remove_temporaries(folder: Path, names: Collection[str]) -> None:
    """Remove what an interrupted :func:`replacing` left of these files, and nothing else."""
    found = [path for path in folder.glob("*.tmp") if _TEMPORARY.search(path.name)]
    remove([path for path in found if _TEMPORARY.sub("", path.name) in names])


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure of the disk inside the block into one line about ``path``."""
    try:
        yield
    except OSError as error:
        raise StmError(
            f"{path}: cannot be written ({error.strerror or error}); free space or mend the "
            "folder, then run the same command again, it goes on where it stopped"
        ) from None


def _create(path: Path) -> BinaryIO:
    return path.open("xb", buffering=_BUFFER)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
