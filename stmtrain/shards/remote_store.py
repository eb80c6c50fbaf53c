"""A shard set behind a URL: through a local cache, or as it is on the server now."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import BinaryIO

from stmtrain.errors import ShardError
from stmtrain.shards.cache import Cache, user_cache
from stmtrain.shards.client import MissingFile, Remote, Retry, ShortFile
from stmtrain.shards.manifest import Manifest, ShardEntry, Sidecar, parse_sidecar
from stmtrain.shards.sample import MANIFEST_NAME, sidecar_name
from stmtrain.shards.urls import shown


class RemoteStore:
    """The files of a shard set behind a URL, kept in a local cache."""

    remote = True

    def __init__(self, url: str, cache: Cache | None = None, retry: Retry | None = None) -> None:
        """Import the packages for the URL's scheme; the default cache is the user's."""
        self._remote, self._given = Remote(url, retry), cache
        self.name = shown(url)
        self._refused: dict[str, str] = {}

    @cached_property
    def _cache(self) -> Cache:
        return self._given or user_cache()

    def manifest(self) -> bytes:
        """Fetch the manifest, never from the cache, so that a changed set is noticed."""

        def check(data: bytes) -> bytes:
            Manifest.from_json(data, self.where(MANIFEST_NAME))
            return data

        return self._remote.read(MANIFEST_NAME, check)

    def sidecar(self, entry: ShardEntry, manifest: Manifest) -> Sidecar:
        """Return a shard's sidecar, from the cache or the server."""
        name = sidecar_name(entry.name)

        def parse(data: bytes) -> Sidecar:
            return parse_sidecar(data, self.where(name), entry, manifest.config_hash)

        if not entry.sidecar_sha256:  # an old set, whose manifest does not have this hash
            return self._remote.read(name, parse)

        def fetch(file: BinaryIO) -> None:
            file.truncate(0)
            file.write(self._remote.read(name, bytes))

        descriptor = self._cached(name, entry.sidecar_sha256, None, fetch)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            return parse(file.read())

    def open(self, entry: ShardEntry) -> int:
        """Return a descriptor of a shard, from the cache or the server."""

        def fetch(file: BinaryIO) -> None:
            self._remote.fetch(entry.name, entry.bytes, file)

        return self._cached(entry.name, entry.sha256, entry.bytes, fetch)

    def where(self, name: str) -> str:
        """Return a file's URL without secrets."""
        return self._remote.where(name)

    def file(self, name: str) -> bytes | None:
        """Fetch a small file, without the cache; None if it does not exist."""
        try:
            return self._remote.read(name, bytes)
        except MissingFile:
            return None

    @contextmanager
    def shard(self, entry: ShardEntry) -> Iterator[BinaryIO]:
        """Fetch a shard as it is on the server now, for the duration of the context.

        It is neither taken from the cache nor kept there. It may be shorter or longer than the
        manifest states; at most 512 bytes beyond that size are fetched.
        """

        def fetch(file: BinaryIO) -> None:
            with suppress(ShortFile):  # the file then ends with the bytes that were received
                self._remote.fetch(entry.name, entry.bytes, file)
                file.write(self._remote.rest(entry.name, entry.bytes))

        with self._cache.borrow(entry.bytes, fetch, self.where(entry.name)) as file:
            yield file

    def names(self) -> Sequence[str]:
        """Return nothing: not every server can list files."""
        return ()

    def _cached(
        self, name: str, sha256: str, size: int | None, fetch: Callable[[BinaryIO], None]
    ) -> int:
        """Open a file through the cache, unless the server's copy was found to be damaged."""
        if name in self._refused:
            raise ShardError(self._refused[name])
        try:
            return self._cache.open(sha256, size, fetch, self.where(name))
        except ShardError as error:
            self._refused[name] = str(error)
            raise
