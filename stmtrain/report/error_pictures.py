"""Small pictures of the errors of a result: missed, extra and mistaken pixels over the frame.

They are drawn from a frame and two label maps, as RGB arrays and ``data:`` URIs. The three colours
are from the palette of Okabe and Ito, which is safe for colour-blind readers. Free of torch.
"""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stmtrain.images.draw import contours
from stmtrain.images.masks import VOID

Pixels = NDArray[np.uint8]
Window = tuple[slice, slice]

ERROR_COLOURS = {"missed": (230, 159, 0), "extra": (86, 180, 233), "mistaken": (213, 94, 160)}
"""RGB of missed object pixels, of background predicted as an object, and of wrong ids."""

_LEAST = 0.4
"""Smallest window, as a share of the frame's sides, so that it remains recognisable."""

_MARGIN = 1.15
_TINT = 0.7
_OUTLINE = (255, 255, 255)


def window(shown: NDArray[np.bool_]) -> Window:
    """Choose the part of a frame to show: around the set pixels, in the frame's proportions.

    Args:
        shown: (H, W) bool, the pixels that must be visible.

    Returns:
        Rows and columns; the complete frame if no pixel is set.
    """
    height, width = shown.shape
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if not rows.size:
        return slice(0, height), slice(0, width)
    needed = max((np.ptp(rows) + 1) / height, (np.ptp(columns) + 1) / width) * _MARGIN
    share = min(1.0, max(_LEAST, float(needed)))
    return (
        _span(int(rows[0] + rows[-1] + 1) / 2, math.ceil(share * height), height),
        _span(int(columns[0] + columns[-1] + 1) / 2, math.ceil(share * width), width),
    )


def error_picture(frame: Pixels, truth: Pixels, predicted: Pixels, size: tuple[int, int]) -> Pixels:
    """Draw the errors of a result over its frame.

    The frame is nearly grey, with light objects on a dark background, so that any colour is an
    error; a white line is the contour of the ground truth. Void is background, as in scoring.

    Args:
        frame: (H,W,3) uint8 RGB.
        truth: (H,W) uint8 object ids, 255 void.
        predicted: (H,W) uint8 object ids, all of which occur in the ground truth.
        size: (height, width) of the picture, pixels.

    Returns:
        (*size, 3) uint8 RGB.
    """
    height, width = size
    # Pillow's bilinear filter covers all pixels when it scales down.
    picture = np.asarray(
        Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR), np.float32
    )
    true, own = (
        np.asarray(Image.fromarray(m).resize((width, height), Image.Resampling.NEAREST))
        for m in (truth, predicted)
    )
    true = np.where(true == VOID, 0, true)
    grey = picture.mean(axis=2, keepdims=True)
    light, dark = 0.66 * grey + 0.22 * picture + 28, 0.42 * grey + 0.08 * picture + 12
    picture = np.where((true > 0)[..., None], light, dark)
    errors = {
        "missed": (true > 0) & (own == 0),
        "extra": (true == 0) & (own > 0),
        "mistaken": (true > 0) & (own > 0) & (true != own),
    }
    for kind, where in errors.items():
        tint = np.array(ERROR_COLOURS[kind], np.float32)
        picture[where] = (1 - _TINT) * picture[where] + _TINT * tint
    picture[contours(true, width=1)] = _OUTLINE
    return (picture + 0.5).clip(0, 255).astype(np.uint8)


def data_uri(picture: Pixels, quality: int = 72) -> str:
    """Encode (H,W,3) uint8 RGB as a WebP ``data:`` URI, ASCII."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _span(centre: float, length: int, limit: int) -> slice:
    """Return ``length`` positions around a centre, shifted into 0..limit."""
    start = min(max(0, math.floor(centre - length / 2)), limit - length)
    return slice(start, start + length)
