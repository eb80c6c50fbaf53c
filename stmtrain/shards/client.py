"""The files of a folder behind a URL: requests through fsspec, limited in time and retried.

``fsspec`` and the package for a scheme are imported when the first URL is opened. They determine
where credentials come from (environment, profiles, ``~/.config/fsspec``). No message shows a URL's
user, password or query. Files are requested in pieces, so a dropped connection costs one piece.
"""

import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, TypeVar
from urllib.parse import urlsplit

from stmtrain.errors import RemoteError, ShardError, UsageError
from stmtrain.extras import pip_install
from stmtrain.shards.sample import MAX_JSON
from stmtrain.shards.urls import join_url, shown

T = TypeVar("T")

_EXTRAS = {"s3": "remote", "gs": "gcs", "hf": "remote", "https": "remote", "http": "remote"}
MAX_WHOLE = 1 << 30
"""Bytes of the largest shard that a server without byte ranges may send: it is held in memory."""

_REST = 512
_TRANSIENT_4XX = {408, 425, 429}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}


class MissingFile(ShardError):
    """The file does not exist on the server."""


class ShortFile(ShardError):
    """The file ends before the requested bytes."""


@dataclass(frozen=True)
class Retry:
    """How failed requests are repeated.

    Attributes:
        attempts: Number of consecutive failures after which to give up.
        first: Wait after the first failure, seconds; each further failure doubles it.
        longest: Maximum wait, seconds. Each wait is shortened at random by up to a half, so that
            many clients do not return at the same time.
        timeout: Maximum duration of a request, seconds.
        piece: Size of a request, bytes.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 20.0
    timeout: float = 60.0
    piece: int = 8 << 20

    def wait(self, failures: int) -> float:
        """Return how long to wait after this many consecutive failures, seconds."""
        longest = min(self.longest, self.first * 2.0 ** (failures - 1))
        return longest * (1.0 - secrets.randbelow(1001) / 2000)


class Remote:
    """The files of one folder behind a URL; thread-safe."""

    def __init__(self, url: str, retry: Retry | None = None) -> None:
        """Import the packages for the URL's scheme; no request is made.

        Raises:
            UsageError: A package is not installed.
        """
        self.url, self._retry = url, retry or Retry()
        scheme = urlsplit(url).scheme
        try:
            import fsspec
            from fsspec.asyn import AsyncFileSystem

            self._files: Any
            self._http = scheme in ("http", "https")
            if self._http:
                from stmtrain.shards.http import BoundedHTTP

                self._files = BoundedHTTP()
            else:
                self._files = fsspec.filesystem(scheme, skip_instance_cache=True)
        except ImportError as error:
            raise UsageError(
                f"{scheme}:// needs a package that is not installed ({error}); run "
                f"{pip_install(_EXTRAS[scheme])}"
            ) from None
        self._options: dict[str, Any] = {"timeout": self._retry.timeout}
        if not isinstance(self._files, AsyncFileSystem):  # those have timeouts of their own
            self._options = {"cache_type": "none"}  # no read-ahead

    def where(self, name: str) -> str:
        """Return a file's URL for messages."""
        return shown(join_url(self.url, name))

    def read(self, name: str, parse: Callable[[bytes], T]) -> T:
        """Read and parse a small file; if ``parse`` raises a ShardError, read it once more.

        Raises:
            ShardError: The file does not exist, or ``parse`` raised it twice.
            RemoteError: The server does not respond, fails repeatedly, refuses access, or sends
                more than ``MAX_JSON`` bytes.
        """
        data = self._read_small(name)
        try:
            return parse(data)
        except ShardError:
            return parse(self._read_small(name))  # it may have been damaged in transit

    def fetch(self, name: str, size: int, file: BinaryIO) -> None:
        """Append to ``file`` what is missing of the ``size`` bytes of a remote file.

        Errors are those of :meth:`read`, and ShortFile if the remote file is shorter than ``size``.
        """
        retries = _Retries(self._retry, self.where(name))
        at = file.seek(0, os.SEEK_END)
        if at > size:
            at = file.truncate(0)
        while at < size:
            end = min(at + self._retry.piece, size)
            most = min(size, max(MAX_WHOLE, end - at))
            try:
                data = self._request(name, at, end, most)
            except _Failure as failure:
                retries.failed(f"{failure} at byte {at} of {size}")
                continue
            if len(data) > end - at:  # a server without byte ranges sends everything
                if size > most:
                    raise RemoteError(
                        f"{self.where(name)}: expected {end - at} bytes, the server ignores byte "
                        f"ranges and sends all {size}; use a server with byte ranges, or shards of "
                        f"at most {MAX_WHOLE} bytes"
                    )
                data, end = data[at:size], size
            file.write(data[: end - at])
            file.flush()  # other processes watch it grow
            if len(data) == end - at:
                retries.count = 0
            else:
                retries.failed(f"{len(data)} of {end - at} requested bytes at byte {at}")
            at = file.tell()

    def rest(self, name: str, size: int) -> bytes:
        """Return up to 512 bytes of a remote file after the first ``size``, usually none.

        The byte before is requested too, because an empty range is an error for some servers.
        """
        data = self._read(name, size - 1, size + _REST, size + _REST)
        if len(data) > 1 + _REST:  # the server ignores byte ranges and sent the complete file
            return data[size:]
        return data[1:]

    def _read_small(self, name: str) -> bytes:
        # Object stores send ranges as asked; HTTP has its own limit, and servers without ranges.
        start, end = (None, None) if self._http else (0, MAX_JSON + 1)
        data = self._read(name, start, end, MAX_JSON)
        if len(data) > MAX_JSON:
            raise RemoteError(
                f"{self.where(name)}: expected at most {MAX_JSON} bytes, the server sends more; "
                "check the URL"
            )
        return data

    def _read(self, name: str, start: int | None, end: int | None, most: int) -> bytes:
        retries = _Retries(self._retry, self.where(name))
        while True:
            try:
                return self._request(name, start, end, most)
            except _Failure as failure:
                retries.failed(str(failure))

    def _request(self, name: str, start: int | None, end: int | None, most: int) -> bytes:
        """Make one request of ``most`` bytes; a temporary failure raises :class:`_Failure`."""
        options = self._options if start is None else {**self._options, "start": start, "end": end}
        if self._http:
            options = {**options, "most": most}
        try:
            return bytes(self._files.cat_file(join_url(self.url, name), **options))
        except Exception as error:  # noqa: BLE001 - every backend raises its own errors
            self._classify(error, self.where(name))

    def _classify(self, error: Exception, where: str) -> NoReturn:
        """Raise :class:`_Failure` for a temporary failure, and an error for any other."""
        status = _status(error)
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            raise MissingFile(
                f"{where}: not on the server; check the URL, or upload the complete set "
                "(manifest.json last)"
            ) from None
        name = type(error).__name__
        if isinstance(error, PermissionError) or status in (401, 403) or name in _NO_CREDENTIALS:
            raise RemoteError(
                f"{where}: access refused ({_reason(error)}); check the credentials in the "
                "environment (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN, or fsspec's "
                "configuration)"
            ) from None
        if status == 416:
            raise ShortFile(
                f"{where}: shorter than the manifest states; upload the set again"
            ) from None
        if status is not None and 400 <= status < 500 and status not in _TRANSIENT_4XX:
            raise RemoteError(f"{where}: refused ({_reason(error)}); check the URL") from None
        if isinstance(error, TimeoutError):
            raise _Failure(f"no answer within {self._retry.timeout:g} s") from None
        raise _Failure(_reason(error)) from None


class _Failure(Exception):
    """A request failed, but may succeed if it is repeated."""


class _Retries:
    """Counts the consecutive failures of the requests for one file."""

    def __init__(self, retry: Retry, where: str) -> None:
        self.count = 0
        self._retry, self._where = retry, where

    def failed(self, reason: str) -> None:
        """Count a failure and wait, or give up."""
        self.count += 1
        if self.count >= self._retry.attempts:
            raise RemoteError(
                f"{self._where}: gave up after {self.count} attempts ({reason}); check the network "
                "and the server, then run the same command again to resume"
            )
        time.sleep(self._retry.wait(self.count))


def _status(error: BaseException) -> int | None:
    """Find the HTTP status in an error of any backend."""
    response = getattr(error, "response", None)
    for owner, name in ((error, "status"), (response, "status_code"), (error, "code")):
        found = getattr(owner, name, None)
        if isinstance(found, int):
            return found
    # s3fs translates botocore's errors and keeps them as the cause.
    response = getattr(error.__cause__, "response", response)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    return None


def _reason(error: Exception) -> str:
    """Describe an error in one line, without secrets."""
    text = " ".join(str(error).split())
    text = re.sub(r"//[^\s/@'\"]+@", "//", text)
    text = re.sub(r"\?[^\s'\")]+", "", text)
    status = _status(error)
    return f"HTTP {status}" if status else f"{type(error).__name__}: {text[:200]}".rstrip(": ")
