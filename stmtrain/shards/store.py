"""The files of a shard set: in a local folder, or (``remote_store``) behind a URL. Free of torch.

Both stores have the same methods. Readers use ``manifest``, ``sidecar`` and ``open``, which may use
a cache. Checks of a set use ``file``, ``shard`` and ``names``, which read what is stored now.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stmtrain.errors import ShardError
from stmtrain.files import read_regular, regular_descriptor
from stmtrain.shards.cache import Cache
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar, parse_sidecar
from stmtrain.shards.remote_store import RemoteStore
from stmtrain.shards.sample import CONFIG_NAME, MANIFEST_NAME, MAX_JSON, sidecar_name
from stmtrain.shards.urls import parse_location


class LocalStore:
    """The files of a shard set in a folder."""

    remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def where(self, name: str) -> str:
        """Return a file's path."""
        return str(self.folder / name)

    def manifest(self) -> bytes:
        """Read the manifest.

        Raises:
            ShardError: There is none: the set is incomplete, or this is no shard set.
        """
        path = self.folder / MANIFEST_NAME
        if path.is_file():
            data = self.file(MANIFEST_NAME)
            if data is not None:
                return data
        if not self.folder.is_dir():
            found = "nothing; check the path"
            if self.folder.exists():
                found = "a file; pass the folder that contains it"
            raise ShardError(f"{self.name}: expected a folder of shards, found {found}")
        if (self.folder / CONFIG_NAME).is_file():
            raise ShardError(
                f"{self.name}: the set is incomplete (no {MANIFEST_NAME}); run the command that "
                "makes it again to resume"
            )
        raise ShardError(
            f"{self.name}: expected a folder made by stm, found no {MANIFEST_NAME}; "
            f"{self._advice()}"
        )

    def _advice(self) -> str:
        """Say what to do about a folder that is no shard set, by what it contains."""
        below = sorted(self.folder.glob(f"*/{MANIFEST_NAME}"))
        if below:
            return f"pass {below[0].parent}"
        if next(self.folder.glob("*.tar"), None) is not None:
            return 'run "stm shards index" if the tars come from another program'
        return (
            "pass the --out of stm pack-... or stm prepare-..., which turn a data set into shards"
        )

    def sidecar(self, entry: ShardEntry, manifest: Manifest) -> Sidecar:
        """Read a shard's sidecar and check it against the manifest."""
        name = sidecar_name(entry.name)
        data = self.file(name)
        if data is None:
            raise ShardError(f'{self.where(name)}: the sidecar is missing; run "stm shards repair"')
        return parse_sidecar(data, self.where(name), entry, manifest.config_hash)

    def open(self, entry: ShardEntry) -> int:
        """Return a descriptor of a shard; the caller closes it."""
        path = self.folder / entry.name
        try:
            return regular_descriptor(path)
        except OSError as error:
            raise ShardError(
                f'{path}: cannot be opened ({error.strerror}); run "stm shards verify"'
            ) from None

    def file(self, name: str) -> bytes | None:
        """Read a small file; None if it does not exist."""
        try:
            return read_regular(self.folder / name, MAX_JSON)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ShardError(f"{self.where(name)}: cannot be read ({error.strerror})") from None

    @contextmanager
    def shard(self, entry: ShardEntry) -> Iterator[BinaryIO]:
        """Open a shard."""
        with open(self.open(entry), "rb") as file:  # noqa: PTH123 - a descriptor has no path
            yield file

    def names(self) -> Sequence[str]:
        """List the files of the folder."""
        return sorted(path.name for path in self.folder.iterdir())

    def check_sizes(self, manifest: Manifest) -> None:
        """Check that all shards exist and have the sizes in the manifest.

        Raises:
            ShardError: A shard is missing or has another size.
        """
        for entry in manifest.shards:
            path = self.folder / entry.name
            if not path.is_file() or path.stat().st_size != entry.bytes:
                found = f"{path.stat().st_size} bytes" if path.is_file() else "no such file"
                raise ShardError(
                    f"{path}: expected a shard of {entry.bytes} bytes, found {found}; run "
                    '"stm shards verify", which lists all bad shards and what to do'
                )


Store = LocalStore | RemoteStore


def open_store(location: Path | str, cache: Cache | None = None) -> Store:
    """Return the store of a folder or URL; nothing is read yet.

    Args:
        location: Folder, or URL of one.
        cache: Cache for shards from a URL; by default in the user's cache folder.

    Raises:
        UsageError: The URL has an unknown scheme, or a package for it is not installed.
    """
    location = parse_location(location) if isinstance(location, str) else location
    if isinstance(location, Path):
        return LocalStore(location)
    return RemoteStore(location, cache)
