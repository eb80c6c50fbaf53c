"""A video of one's own, drawn: frames, masks, a film."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.images.encode import encode_mask

SIZE = (48, 64)
Mask = NDArray[np.uint8]


def picture(t: int, size: tuple[int, int] = SIZE) -> Mask:
    """A smooth picture that survives video coding, brighter on the left, changing with ``t``."""
    column = np.linspace(200, 40, size[1]).astype(np.uint8)
    image = np.broadcast_to(column[None, :, None], (*size, 3)).copy()
    image[..., 1] += np.uint8(5 * t)
    return image


def save(path: Path, mask: Mask, *, palette: bool = True) -> Path:
    if palette:
        path.write_bytes(encode_mask(mask))
    else:
        Image.fromarray(mask).save(path)
    return path


def film(
    path: Path,
    frames: int = 6,
    size: tuple[int, int] = SIZE,
    turn: int = 0,
    times: Sequence[int] = (),
) -> Path:
    """Write a video of drawn pictures at 12 frames/s, or with frames at ``times``, in 1/12 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(12), options={"crf": "8"})
        stream.height, stream.width, stream.pix_fmt = size[0], size[1], "yuv420p"
        if turn:
            stream.set_display_rotation(turn)
        for t in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(t, size), format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def exif_folder(path: Path, stored: Mask, orientation: int) -> Path:
    """Write two PNG frames with an EXIF orientation."""
    path.mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    for t in range(2):
        Image.fromarray(stored).save(path / f"{t}.png", exif=exif)
    return path
