"""Overlays of a tracked video: an MP4 if PyAV is installed, else a folder of JPEGs.

Frames are written as they come; an unfinished film is removed. Free of torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stmtrain.errors import StmError
from stmtrain.files import write_whole
from stmtrain.images.draw import overlay
from stmtrain.images.encode import encode_frame
from stmtrain.images.mp4 import mp4

FILM_NAME, FOLDER_NAME = "overlay.mp4", "overlay"

_JPEG_QUALITY = 90

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
    with mp4(out / FILM_NAME, rate) as write:

        def draw(name: str, frame: Pixels, mask: Pixels) -> None:
            try:
                write(overlay(frame, mask), name)
            except StmError as error:
                raise StmError(f"{error}; use --no-overlay") from None

        yield draw


@contextmanager
def pictures(out: Path) -> Iterator[Draw]:
    """Write ``overlay/<frame>.jpg``."""

    def draw(name: str, frame: Pixels, mask: Pixels) -> None:
        picture = encode_frame(overlay(frame, mask), _JPEG_QUALITY)
        write_whole(out / FOLDER_NAME / f"{name}.jpg", picture)

    yield draw
