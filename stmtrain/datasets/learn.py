"""Which objects a video has, learned from its masks where nothing else states them."""

from dataclasses import replace

import numpy as np

from stmtrain.datasets.video import Video
from stmtrain.images.masks import VOID, areas, counts_binary, ids_counted


def learn_objects(video: Video, own: bool) -> Video | None:
    """Read all masks of a video to learn where its objects first appear.

    Any frame may have a mask, which gives the objects that no earlier mask has.

    Args:
        video: The video.
        own: Whether masks that hold only 0 and 255 show one object.

    Returns:
        The video with ``first_seen`` and ``binary``; None if no mask shows an object.
    """
    counts = {frame: areas(video.read_mask(frame)) for frame in video.masks}
    total = sum(counts.values(), np.zeros(256, np.int64))
    if own and counts_binary(total):
        video = replace(video, binary=True)
        objects = {frame: [1] if count[VOID] else [] for frame, count in counts.items()}
    else:
        objects = {f: ids_counted(c) for f, c in counts.items()}
    first_seen: dict[int, str] = {}
    for frame, ids in objects.items():
        for object_id in ids:
            first_seen.setdefault(object_id, frame)
    if not first_seen:
        return None
    late = set(first_seen.values()) != {next(iter(video.frames))}
    return replace(video, first_seen=dict(sorted(first_seen.items())) if late else {})
