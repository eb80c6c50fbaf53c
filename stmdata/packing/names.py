"""Names in a shard: those of the data set where the format allows them, else safe ones.

The format's names are plain, so that any tar and loader can read them. A data set's own names, with
blanks, dots or any other characters, are in the record: ``origin["video"]``, ``origin["frames"]``.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from stmtrain.shards.sample import MAX_FRAME_NAME, MAX_MEMBER, MAX_SAMPLE_KEY

_OTHERS = re.compile(r"[^A-Za-z0-9_-]")
_HASH = 8


def sample_keys(videos: Sequence[tuple[str, str]], reserve: int = 0) -> list[str]:
    """Return a key for each (split, name) of a set; names that are plain and distinct are kept.

    Other characters become ``_``. A name that is too long, or equal to another after that, ends in
    a hash of split and name.

    Args:
        videos: Split and name of each video.
        reserve: Characters to leave free at the end of a key.
    """
    plain = [_OTHERS.sub("_", name) for _, name in videos]
    counts = Counter(plain)
    return [
        key
        if counts[key] == 1 and 0 < len(key) <= MAX_SAMPLE_KEY - reserve
        else f"{key[: MAX_SAMPLE_KEY - reserve - _HASH - 1]}-{_digest(*video)}"
        for key, video in zip(plain, videos, strict=True)
    ]


def frame_names(names: Sequence[str], key: str) -> tuple[str, ...]:
    """Return distinct plain names for the frames of a sample, in their order.

    They are the given ones where these are plain; with other characters as ``_`` where that leaves
    them distinct; else their positions, ``00000``, ``00001``, ...
    """
    plain = tuple(_OTHERS.sub("_", name) for name in names)
    longest = min(MAX_FRAME_NAME, MAX_MEMBER - len(f"{key}..jpg"))
    if len(set(plain)) == len(plain) and all(0 < len(name) <= longest for name in plain):
        return plain
    return tuple(f"{number:05d}" for number in range(len(plain)))


def _digest(split: str, name: str) -> str:
    text = f"{split}\0{name}".encode(errors="surrogatepass")
    return hashlib.sha256(text).hexdigest()[:_HASH]
