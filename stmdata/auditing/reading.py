"""The stored frames and masks of a video, of a tree or of shards, decoded as little as needed."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmdata.auditing.fingerprint import jpeg_thumb, shrink
from stmtrain.datasets.packed import ShardVideo
from stmtrain.datasets.video import Video
from stmtrain.files import read_file
from stmtrain.images.upright import jpeg_orientation

AnyVideo = Video | ShardVideo
Size = tuple[int, int]
"""(height, width), pixels."""

_JPEG = b"\xff\xd8"


def read_thumb(video: AnyVideo, frame: str) -> tuple[Size, NDArray[np.uint8]]:
    """Read a frame.

    Returns:
        Its size, upright if it has an EXIF orientation, and its thumbnail (16, 16) as stored.

    Raises:
        DataError: It is missing or damaged.
    """
    data, where = _stored(video, frame, "frame")
    if not data.startswith(_JPEG):
        pixels = video.read_frame(frame)
        return (pixels.shape[0], pixels.shape[1]), shrink(np.ascontiguousarray(pixels[..., 1]))
    (height, width), thumb = jpeg_thumb(data, where)
    return ((width, height) if jpeg_orientation(data) >= 5 else (height, width)), thumb


def mask_bytes(video: AnyVideo, frame: str) -> tuple[bytes, str]:
    """Return the bytes of a frame's mask, and its name in messages; no bytes if it is drawn.

    Raises:
        DataError: It is missing.
    """
    if isinstance(video, Video) and video.wide:
        return b"", ""
    return _stored(video, frame, "mask")


def deep_values(data: bytes) -> int | None:
    """Return the largest value of a mask of more than 8 bits; None for any other file."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "TIFF"]) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I") else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _stored(video: AnyVideo, frame: str, kind: str) -> tuple[bytes, str]:
    """Return the bytes of a file or member, and its name; no bytes for what is in another file."""
    if isinstance(video, ShardVideo):
        where = f"{video.shards.where(video.index)}, {kind} {frame}"
        packed = video.frames[frame]
        read = video.shards.read_masks if kind == "mask" else video.shards.read_frames
        return read(video.index, [packed])[0], where
    place = (video.frames if kind == "frame" else video.masks)[frame]
    return (read_file(place), str(place)) if isinstance(place, Path) else (b"", "")
