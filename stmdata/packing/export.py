"""Shards back to a tree of frames and masks, with the names that the data set gave them.

``records.json``, written last, holds what else the shards knew of each video: its split and the
data set's own object ids. With it, packing the tree gives the same samples again.
"""

import json
from pathlib import Path

from stmtrain.datasets.exported import RECORDS
from stmtrain.datasets.packed import shard_videos
from stmtrain.errors import UsageError
from stmtrain.files import write_whole, writing
from stmtrain.processes import Progress


def export_tree(location: Path | str, out: Path, progress: Progress | None = None) -> int:
    """Write ``JPEGImages/VIDEO/FRAME.jpg``, ``Annotations/VIDEO/FRAME.png`` and ``records.json``.

    Args:
        location: Folder or URL of the shard set.
        out: Folder of the tree; it must be empty or absent.
        progress: Called after each video.

    Returns:
        The number of videos.

    Raises:
        UsageError: ``out`` contains files.
        ShardError: The set is damaged, or a sample has a name that no file can have.
    """
    videos = shard_videos(location)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: expected an empty folder for the tree; choose another --out")
    records = []
    for number, video in enumerate(videos, start=1):
        sample = video.shards.read(video.index)
        for name, packed in video.frames.items():
            write_whole(out / "JPEGImages" / video.name / f"{name}.jpg", sample.frames[packed])
        with writing(out):
            (out / "Annotations" / video.name).mkdir(parents=True, exist_ok=True)
        for name, packed in video.masks.items():
            write_whole(out / "Annotations" / video.name / f"{name}.png", sample.masks[packed])
        origin = dict(video.record.origin)
        records.append({"folder": video.name, "frames": list(video.frames), "origin": origin})
        if progress is not None:
            progress(number, len(videos), video.name)
    write_whole(out / RECORDS, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    return len(videos)
