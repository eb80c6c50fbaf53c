"""The files of a folder behind a URL: requests that are bounded and retried, through fsspec.

``fsspec`` and the package of a scheme are imported when the first URL is opened. Where credentials
come from is theirs (environment, profiles, ``~/.config/fsspec``); no message shows a URL's user,
password or query. A file is asked for in pieces, so a dropped connection costs one piece.
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
from stmtrain.shards.urls import join_url, shown

__all__ = ["MissingFile", "Remote", "Retry", "ShortFile"]

T = TypeVar("T")

_EXTRAS = {"s3": "remote", "gs": "gcs", "hf": "remote", "https": "remote", "http": "remote"}
_REST = 512
_TRANSIENT_4XX = {408, 425, 429}
_NO_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}


class MissingFile(ShardError):
    """A file is not on the server."""


class ShortFile(ShardError):
    """A file ends before the bytes that were asked for."""


@dataclass(frozen=True)
class Retry:
    """How failures are met.

    Attributes:
        attempts: Failures in a row after which to give up.
        first: Seconds to wait after the first failure; each further one doubles it.
        longest: Seconds to wait at most. Each wait is shortened at random by up to a half, so that
            many clients do not come back together.
        timeout: Seconds that a request may take.
        piece: Bytes asked for at a time.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 20.0
    timeout: float = 60.0
    piece: int = 8 << 20

    def wait(self, failures: int) -> float:
        """Return the seconds to wait after this many failures in a row."""
        whole = min(self.longest, self.first * 2.0 ** (failures - 1))
        return whole * (1.0 - secrets.randbelow(1001) / 2000)


class Remote:
    """The files of one folder behind a URL; safe for threads."""

    def __init__(self, url: str, retry: Retry | None = None) -> None:
        """Load what the URL's scheme needs; nothing is asked of the server yet.

        Raises:
            UsageError: A needed package is not installed.
        """
        self.url, self._retry = url, retry or Retry()
        scheme = urlsplit(url).scheme
        try:
            import fsspec
            from fsspec.asyn import AsyncFileSystem

            self._files: Any = fsspec.filesystem(scheme, skip_instance_cache=True)
        except ImportError as error:
            raise UsageError(
                f"{scheme}:// needs a package that is not installed ({error}); run "
                f"pip install 'stm-toolkit[{_EXTRAS[scheme]}]'"
            ) from None
        # The others have timeouts of their own.
        self._options: dict[str, Any] = (
            {"timeout": self._retry.timeout}
            if isinstance(self._files, AsyncFileSystem)
            else {"cache_type": "none"}  # no reading ahead of a piece; timeouts of its own
        )

    def where(self, name: str) -> str:
        """Return a file's URL for messages."""
        return shown(join_url(self.url, name))

    def read(
        self,
        name: str,
        parse: Callable[[bytes], T],
        start: int | None = None,
        end: int | None = None,
    ) -> T:
        """Read and parse a small file, or some bytes; what does not parse is asked for once more.

        Raises:
            ShardError: The file is not there, or ``parse`` refuses it twice.
            RemoteError: The server gives up, or refuses.
        """
        retries = _Retries(self._retry, self.where(name))
        refused = False
        while True:
            try:
                data = self._ask(name, start, end)
            except _Failure as failure:
                retries.failed(str(failure))
                continue
            try:
                return parse(data)
            except ShardError:
                if refused:
                    raise
                refused = True

    def fetch(self, name: str, size: int, file: BinaryIO) -> None:
        """Append to ``file`` what it lacks of the ``size`` bytes of a remote file.

        Raises:
            ShardError: The file is not there.
            RemoteError: The server gives up, or refuses.
        """
        retries = _Retries(self._retry, self.where(name))
        at = file.seek(0, os.SEEK_END)
        if at > size:
            at = file.truncate(0)
        while at < size:
            end = min(at + self._retry.piece, size)
            try:
                data = self._ask(name, at, end)
            except _Failure as failure:
                retries.failed(f"{failure} at byte {at} of {size}")
                continue
            if len(data) > end - at:  # a server without byte ranges sends everything
                data, end = data[at:size], size
            file.write(data[: end - at])
            file.flush()  # others watch it grow
            if len(data) == end - at:
                retries.count = 0
            else:
                reason = f"{len(data)} bytes at byte {at} where {end - at} were asked for"
                retries.failed(reason)
            at = file.tell()

    def rest(self, name: str, size: int) -> bytes:
        """Return the first 512 bytes that a remote file has behind ``size``; commonly none.

        The last byte is asked for too: to some servers a range that holds nothing is an error.
        """
        data = self.read(name, bytes, size - 1, size + _REST)
        return data[1:] if len(data) <= 1 + _REST else data[size:]  # else it has no byte ranges

    def _ask(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Make one request; failures that may pass are :class:`_Failure`, others final errors."""
        options = self._options if start is None else {**self._options, "start": start, "end": end}
        try:
            return bytes(self._files.cat_file(join_url(self.url, name), **options))
        except Exception as error:  # noqa: BLE001 - each backend has its own kinds of errors
            self._sort_out(error, self.where(name))

    def _sort_out(self, error: Exception, where: str) -> NoReturn:
        """Tell what may pass from what will not."""
        status = _status(error)
        if isinstance(error, FileNotFoundError) or status in (404, 410):
            raise MissingFile(
                f"{where}: not on the server; check the URL, or upload the whole set (manifest.json"
                " last)"
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
                f"{where}: shorter than the manifest says; upload the set again"
            ) from None
        if status is not None and 400 <= status < 500 and status not in _TRANSIENT_4XX:
            raise RemoteError(f"{where}: refused ({_reason(error)}); check the URL") from None
        if isinstance(error, TimeoutError):
            raise _Failure(f"no answer within {self._retry.timeout:g} s") from None
        raise _Failure(_reason(error)) from None


class _Failure(Exception):
    """A request failed in a way that may pass."""


class _Retries:
    """Failures in a row of one file."""

    def __init__(self, retry: Retry, where: str) -> None:
        self.count = 0
        self._retry, self._where = retry, where

    def failed(self, reason: str) -> None:
        """Count a failure and wait, or give up."""
        self.count += 1
        if self.count >= self._retry.attempts:
            raise RemoteError(
                f"{self._where}: gave up after {self.count} attempts ({reason}); check the network "
                "and the server, then run the same command again, it goes on where it stopped"
            )
        time.sleep(self._retry.wait(self.count))


def _status(error: BaseException) -> int | None:
    """Find the HTTP status in an error of any backend."""
    response = getattr(error, "response", None)
    for source, name in ((error, "status"), (response, "status_code"), (error, "code")):
        found = getattr(source, name, None)
        if isinstance(found, int):
            return found
    # s3fs translates botocore's errors and keeps them as the cause.
    response = getattr(error.__cause__, "response", response)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return found if isinstance(found, int) else None
    return None


def _reason(error: Exception) -> str:
    """Say what happened in one line, without secrets."""
    text = " ".join(str(error).split())
    text = re.sub(r"//[^\s/@'\"]+@", "//", text)
    text = re.sub(r"\?[^\s'\")]+", "", text)
    status = _status(error)
    return f"HTTP {status}" if status else f"{type(error).__name__}: {text[:200]}".rstrip(": ")
