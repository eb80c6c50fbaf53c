"""MP4 files, encoded picture by picture by PyAV (the extra ``video``)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import StmError
from stmtrain.files import whole_file

Pixels = NDArray[np.uint8]

_CODECS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))


@contextmanager
def mp4(path: Path, rate: Fraction) -> Iterator[Callable[[Pixels, str], None]]:
    """Write a film: complete if the block ends without an error, else absent.

    Args:
        path: The file.
        rate: Pictures per second.

    Yields:
        A function of the next picture, (H, W, 3) uint8 RGB of one size, and its name in messages.

    Raises:
        StmError: A picture cannot be encoded.
    """
    import av

    stream: Any = None
    with whole_file(path) as file, av.open(file, "w", format="mp4") as container:

        def write(picture: Pixels, name: str) -> None:
            nonlocal stream
            picture = _even(picture)
            try:
                stream = stream or _add_stream(container, picture.shape, rate)
                shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(shown))
            except av.FFmpegError as error:
                raise StmError(f"{path}: frame {name} cannot be encoded ({error})") from None

        yield write
        if stream is not None:
            container.mux(stream.encode(None))


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
