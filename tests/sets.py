"""Pack data sets in one call, for tests that need a shard set and do not test its packing."""

from pathlib import Path
from typing import Any

from stmdata.packing.clips import ClipOptions, prepare_coco
from stmdata.packing.pack import pack
from stmdata.packing.videos import prepare_videos
from stmtrain.shards.manifest import Manifest

__all__ = ["pack_coco", "pack_davis", "pack_videos", "pack_youtube_vos"]


def pack_coco(
    tree: Path, out: Path, options: ClipOptions, *, limit: int | None = None, **more: Any
) -> Manifest:
    """Pack pseudo-videos of ``train2017`` of a COCO tree; ``more`` as for ``pack``."""
    annotations = tree / "annotations" / "instances_train2017.json"
    return pack(prepare_coco(tree / "train2017", annotations, options, limit), out, **more)


def pack_videos(
    dataset: str,
    root: Path,
    split: str | None,
    out: Path,
    resize: int | None = None,
    *,
    workers: int = 1,
    overwrite: bool = False,
    **more: Any,
) -> Manifest:
    """Pack a split of a data set, or all; ``more`` as for ``prepare_videos``."""
    plan = prepare_videos(dataset, root, split, resize, **more)
    return pack(plan, out, workers=workers, overwrite=overwrite)


def pack_davis(
    root: Path, year: int, split: str, out: Path, resize: int | None = None, **more: Any
) -> Manifest:
    """Pack a split of DAVIS 2016 or 2017."""
    return pack_videos(f"davis{year}", root, split, out, resize, **more)


def pack_youtube_vos(
    root: Path, split: str, out: Path, resize: int | None = None, **more: Any
) -> Manifest:
    """Pack a split of YouTube-VOS."""
    return pack_videos("youtube-vos", root, split, out, resize, **more)
