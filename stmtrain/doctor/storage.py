"""Speed and room of a disk, the cache for shards from URLs, and the tree of a data set."""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from stmtrain.datasets.dataset import DATASETS
from stmtrain.datasets.tree import AUTO, Tree, open_dataset
from stmtrain.doctor.finding import Finding
from stmtrain.errors import DataError, UsageError
from stmtrain.processes import Progress
from stmtrain.shards.cache import DEFAULT_GIGABYTES, default_folder, user_cache

_BLOCK, _MOST_BLOCKS, _MOST_SECONDS = 4 << 20, 32, 2.0
_SLOW = 50e6  # bytes per second; below it, reading shards is slower than decoding them
_LITTLE = 10e9  # bytes; a set of pseudo-videos of COCO alone needs more


def disk(folder: Path) -> Iterator[Finding]:
    """Measure how fast a file is written and read in ``folder``, in at most a few seconds."""
    try:
        written, read = _speeds(folder)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = f"{'free some room, or ' if full else ''}choose another folder with --disk"
        yield Finding("disk", f"{folder}: {error.strerror}", "bad", cure)
        return
    free = shutil.disk_usage(folder).free
    numbers = {"write": written, "read": read, "free": free}
    text = (
        f"{folder.absolute()}: writes {written / 1e6:.0f} MB/s, reads {read / 1e6:.0f} MB/s, "
        f"{free / 1e9:.1f} GB free"
    )
    if read < _SLOW:
        cure = "keep shards on a local disk; stm train reads them in parts, at random"
        yield Finding("disk", text, "note", cure, numbers)
    elif free < _LITTLE:
        cure = "free some room, or write shards and runs to another disk with --out"
        yield Finding("disk", text, "note", cure, numbers)
    else:
        yield Finding("disk", text, numbers=numbers)


def _speeds(folder: Path) -> tuple[float, float]:
    """Return bytes per second of writing, and of reading what is no longer in memory."""
    block = os.urandom(_BLOCK)
    with TemporaryFile(dir=folder, prefix=".stm-doctor-", buffering=0) as file:
        began, blocks = time.perf_counter(), 0
        while blocks < _MOST_BLOCKS and time.perf_counter() - began < _MOST_SECONDS:
            file.write(block)
            blocks += 1
        os.fsync(file.fileno())
        written = blocks * _BLOCK / (time.perf_counter() - began)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        began, size = time.perf_counter(), 0
        while time.perf_counter() - began < _MOST_SECONDS and (data := file.read(_BLOCK)):
            size += len(data)
        return written, size / (time.perf_counter() - began)


def cache(folder: Path | None) -> Finding:
    """Look at the folder for shards from URLs."""
    place = folder or default_folder()
    if not place.exists():
        return Finding("cache", f"{place}: not made yet (only --shards URL needs it)")
    try:
        user_cache(place)
    except UsageError as error:
        return Finding("cache", str(error), "bad", "choose a folder on a local disk with --cache")
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    free = shutil.disk_usage(place).free
    numbers = {"bytes": size, "free": free}
    text = f"{place}: {size / 1e9:.1f} GB of at most {DEFAULT_GIGABYTES:g}"
    if free + size < DEFAULT_GIGABYTES * 1e9:
        cure = "give a smaller --cache-size, or another disk with --cache"
        return Finding("cache", f"{text}, {free / 1e9:.1f} GB free", "note", cure, numbers)
    return Finding("cache", text, numbers=numbers)


def tree(root: Path, layout: str | None, progress: Progress = lambda *_: None) -> Iterator[Finding]:
    """List what is in the tree of a data set, split by split.

    Args:
        root: Root folder of the data set.
        layout: Its name; without it the data set is recognised.
        progress: Called after each video of a split, with its name.

    Raises:
        UsageError: There is no data set of that name.
    """
    try:
        found = open_dataset(root, layout or AUTO)
    except (DataError, UsageError) as error:
        if layout is not None and layout not in DATASETS:
            raise
        unnamed = layout is None and root.is_dir()
        cure = f"check --tree {root}" + (", or name its --layout" if unnamed else "")
        yield Finding("tree", str(error), "bad", cure)
        return
    if found.why:
        yield Finding("tree", f"{root}: {found.why}")
    yield from _splits(found, progress)


def _splits(tree: Tree, progress: Progress) -> Iterator[Finding]:
    """List the videos of each split; of a split that is not there, say what is missing."""
    reasons, some = [], False
    for split in _names(tree):
        check = f"tree, {tree.dataset.name} {split}".rstrip()
        try:
            count = _count(tree, split, progress)
        except (DataError, UsageError, OSError) as error:
            reasons.append((check, str(error)))
            continue
        some = True
        yield Finding(check, ", ".join(f"{n} {what}" for what, n in count.items()), numbers=count)
    for check, reason in reasons:
        cure = "needed only if you use this split" if some else f"check --tree {tree.root}"
        yield Finding(check, f"cannot be used: {reason}", "note" if some else "bad", cure)


def _names(tree: Tree) -> tuple[str, ...]:
    """Return the splits that the data set may have, or those that are there."""
    try:
        return tree.dataset.splits or tree.dataset.form.splits(tree.root)
    except DataError:
        return (tree.dataset.scored_split,)


def _count(tree: Tree, split: str, progress: Progress) -> dict[str, int]:
    """Count what a split has, video by video."""
    listing, frames, masks = tree.listing(split), 0, 0
    for done, entry in enumerate(listing.entries, start=1):
        video = entry.open()
        frames, masks = frames + len(video.frames), masks + len(video.masks)
        progress(done, len(listing.entries), entry.name)
    left_out = {"videos without masks": len(listing.left_out)} if listing.left_out else {}
    return {"videos": len(listing.entries), "frames": frames, "masks": masks, **left_out}
