"""Overlays of a tracked video: an MP4 if PyAV is installed, else a folder of JPEGs.

Frames are written as they come; an unfinished film is removed. Free of torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import StmError
from stmtrain.files import whole_file, write_whole
from stmtrain.images.draw import overlay
from stmtrain.images.encode import encode_frame

FILM_NAME, FOLDER_NAME = "overlay.mp4", "overlay"

_JPEG_QUALITY = 90
_CODECS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))

Pixels = NDArray[np.uint8]
Draw = Callable[[str, Pixels, Pixels], None]
"""Receives a frame's name, its (H, W, 3) uint8 RGB and its (H, W) uint8 mask."""


@contextmanager
def film(out: Path, rate: Fraction) -> Iterator[Draw]:
    """Write ``overlay.mp4``: complete if the block ends without an error, else absent.

    Args:
        out: Folder of the film.
        rate: Frames per second.
    """
    import av

    path = out / FILM_NAME
    stream: Any = None
    with whole_file(path) as file, av.open(file, "w", format="mp4") as container:

        def draw(name: str, frame: Pixels, mask: Pixels) -> None:
            nonlocal stream
            picture = _even(overlay(frame, mask))
            try:
                stream = stream or _add_stream(container, picture.shape, rate)
                shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(shown))
            except av.FFmpegError as error:
                raise StmError(
                    f"{path}: frame {name} cannot be encoded ({error}); use --no-overlay"
                ) from None

        yield draw
        if stream is not None:
            container.mux(stream.encode(None))


@contextmanager
def pictures(out: Path) -> Iterator[Draw]:
    """Write ``overlay/<frame>.jpg``."""

    def draw(name: str, frame: Pixels, mask: Pixels) -> None:
        picture = encode_frame(overlay(frame, mask), _JPEG_QUALITY)
        write_whole(out / FOLDER_NAME / f"{name}.jpg", picture)

    yield draw


def _add_stream(container: Any, shape: tuple[int, ...], rate: Fraction) -> Any:
    import av

    name, options = next(c for c in _CODECS if c[0] in av.codecs_available)
    stream = container.add_stream(name, rate=rate, options=options)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    return stream


def _even(picture: Pixels) -> Pixels:
    """Repeat the last row or column of an odd size: video has colour for every second pixel."""
    height, width = picture.shape[:2]
    if height % 2 == 0 == width % 2:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
