"""Locations of shard sets: folders and URLs of known schemes, and their names in messages."""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from stmtrain.errors import UsageError

SCHEMES = ("s3", "gs", "hf", "https", "http")


def parse_location(text: str) -> Path | str:
    """Return a folder as a path and a URL as text.

    Raises:
        UsageError: A URL of an unknown scheme, a chained URL, a pipe, or a URL without a host.

    Example:
        >>> parse_location("s3://bucket/davis/")
        's3://bucket/davis'
    """
    scheme, is_url, _ = text.partition("://")
    if not is_url and not text.startswith("pipe:"):
        return Path(text)
    if scheme not in SCHEMES or "::" in text:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(
            f"{shown(text)}: expected a folder or a URL that starts with one of {known}"
        )
    parts = urlsplit(text)
    if not parts.netloc:
        raise UsageError(f"{shown(text)}: expected a host or bucket after {scheme}://")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/"), fragment=""))


def join_url(folder: str, name: str) -> str:
    """Return the URL of a file in a folder; a query, such as a signature, stays at the end.

    Example:
        >>> join_url("https://host/set?key=5", "a.tar")
        'https://host/set/a.tar?key=5'
    """
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def name_of(location: Path | str) -> str:
    """Return the name of a location in messages: its folder, or its URL without secrets."""
    return str(location) if isinstance(location, Path) else shown(location)


def local_folder(text: str, command: str) -> Path:
    """Return a folder as a path, for a command that changes files in place.

    Raises:
        UsageError: The location is a URL.
    """
    location = parse_location(text)
    if isinstance(location, str):
        raise UsageError(
            f'{shown(location)}: "{command}" needs a folder, found a URL; copy the set to this '
            "machine, run the command there and upload what has changed (manifest.json last)"
        )
    return location


def split_weight(text: str) -> tuple[str, str]:
    """Split ``LOCATION=WEIGHT``; the weight is empty if there is none.

    In the query of a URL only the second ``=`` of a pair separates: ``?key=abc`` has no weight,
    ``?key=abc=2`` has the weight 2.
    """
    location, equals, weight = text.rpartition("=")
    if not equals:
        return text, ""
    if "://" in text and "?" in location:
        last_pair = re.split(r"[?&]", location)[-1]
        try:
            float(weight)
        except ValueError:
            return text, ""  # padding of a signature
        if "=" not in last_pair:
            return text, ""
    return location, weight or "''"


def shown(url: str) -> str:
    """Return a URL without the parts that may be secret: user, password and query."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=netloc, query="", fragment=""))
