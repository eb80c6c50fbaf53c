"""How a clip looks and how its objects bend: lighting, colour, blur, noise, JPEG, deformation.

Only this module imports imgaug. Values are drawn first (``draw_appearance`` of
``appearance_policy`` and :func:`draw_deformation`, which advance the generator by one number each);
:func:`apply_frame` and :func:`blur_along` are pure functions of these values. No global random
state is read or written, so a clip does not depend on the worker or the order.

The effects follow the physical order within a frame: optics (motion, defocus), light and sensor
response (shade, tone, colour), sensor noise, JPEG. imgaug is used where its operator costs no more
than the kernel below it; docs/decisions/0004-imgaug.md lists the replacements and their measured
costs.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.synthesis.appearance_policy import AppearancePolicy, FrameAppearance, spawn
from stmdata.synthesis.bending import Deformation
from stmtrain.errors import UsageError
from stmtrain.extras import pip_install

Array8 = NDArray[np.uint8]
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 weights of R, G, B
KERNEL = 11  # px: above this OpenCV filters through a DFT, 55 ms instead of 0.4 at 384x384
TILE, TILE_SIGMA = 640, 24.0  # px; levels of the stored noise: 5 sigma fit into int8
LATTICE, MARGIN = 32, 8  # nodes of the coarse displacement field, and those cropped at its border
STEEPEST = 0.6  # largest slope of a displacement field; from 1 on the image would fold over


def apply_frame(look: FrameAppearance, frame: Array8) -> Array8:
    """Return a frame as the camera would have recorded it, except for motion blur.

    Args:
        look: The values of this frame.
        frame: (H, W, 3) uint8 RGB; not modified, and returned itself if no effect is active.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"expected a (H, W, 3) uint8 frame, found {frame.shape} {frame.dtype}")
    if look.defocus > 0.2:  # px: below, the kernel is a single pixel
        size = 2 * math.ceil(2.5 * look.defocus) + 1  # imgaug's own size jumps as sigma drifts
        frame = _imgaug().blur.blur_gaussian_(frame.copy(), look.defocus, ksize=size)
    if look.shade:
        frame = _shade(frame, look.shade, look.shade_angle)
    if (look.exposure, look.contrast, look.gamma, look.balance) != (0.0, 1.0, 1.0, 0.0):
        frame = cv2.LUT(frame, _tone_curve(look))
    if (look.hue, look.saturation) != (0.0, 1.0):
        frame = cv2.transform(frame, _colour_matrix(look.hue, look.saturation))
    if look.noise:
        grain = _grain(frame.shape[:2], look.noise_at)
        frame = cv2.addWeighted(frame, 1.0, grain, look.noise / TILE_SIGMA, 0, dtype=cv2.CV_8U)
    return _recompress(frame, look.jpeg) if look.jpeg else frame


def blur_along(look: FrameAppearance, image: Array8, motion: tuple[float, float]) -> Array8:
    """Blur an image along its motion while the shutter is open.

    The streak is centred on the pixel, so masks do not move. A moving layer can be blurred on its
    own if its colours are premultiplied and its alpha is the fourth channel.

    Args:
        look: The values of this frame.
        image: (H, W) or (H, W, C) uint8; returned itself if the streak is below one pixel.
        motion: (dx, dy) in px per frame.
    """
    length = look.streak(motion)
    if length < 1.0:
        return image
    convolve: Callable[[Array8, NDArray[np.float32]], Array8] = _imgaug().convolutional.convolve
    step = np.array(motion) / math.hypot(*motion)
    if length > KERNEL - 2:  # a long line is two copies of a line of half its length
        image = convolve(image, _points(step * length / 4 * np.array([[-1.0], [1.0]])))
        length /= 2
    return convolve(image, _points(step * np.linspace(-length / 2, length / 2, 64)[:, None]))


def draw_deformation(
    policy: AppearancePolicy, num_frames: int, rng: np.random.Generator
) -> Deformation | None:
    """Draw how one object bends, or None; ``rng`` advances by one number under any policy."""
    rng = spawn(rng)
    chosen = rng.random(2) < (policy.elastic_p, policy.piecewise_p)
    seeds, sizes = rng.integers(2**31, size=2), rng.uniform(0.5, 1.0, 2)
    sizes *= np.where(chosen, (policy.elastic, policy.piecewise), 0.0)
    if not sizes.any():
        return None
    modes = np.zeros((2, LATTICE - 2 * MARGIN, LATTICE - 2 * MARGIN, 2))
    for draw, size, seed in zip((_elastic_field, _piecewise_field), sizes, seeds, strict=True):
        if size:
            field = draw(int(seed))
            # Two fields, mixed by an angle that drifts, change the shape but not the amount of
            # bending. The second is the first, rotated by 90 degrees, and costs nothing to draw.
            pair = np.stack([field, np.rot90(field)[..., ::-1] * [1, -1]])
            modes += pair * (size / _reach(pair))
    slopes = [np.abs(np.diff(modes, axis=axis)).max((1, 2, 3)) for axis in (1, 2)]
    steepest = max(np.hypot(*slope) for slope in slopes) * (modes.shape[1] - 1)
    modes *= min(1.0, STEEPEST / steepest)
    phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(*policy.period)
    angles = phase + 2 * np.pi * np.arange(num_frames) / period
    weights = tuple((math.cos(a), math.sin(a)) for a in angles)
    return Deformation(modes.astype(np.float32), weights, _reach(modes))


@functools.cache
def _imgaug() -> Any:
    """Import imgaug when the first effect needs it; the import takes a second and 130 MB."""
    try:
        import imgaug.augmenters as augmenters
    except ImportError as error:
        raise UsageError(
            f"appearance policies other than none need imgaug ({error}); "
            f"install it with: {pip_install('prep')}"
        ) from None
    return augmenters


def _tone_curve(look: FrameAppearance) -> Array8:
    """Return a (1, 256, 3) table: imgaug's operators on a 16-bit ramp, rounded only once."""
    ramp = np.repeat(np.arange(256, dtype=np.uint16)[None, :, None] * 257, 3, axis=2)
    # Pixel values are gamma-encoded: a stop of light is a factor of 2^(1/2.2) there.
    stops = look.exposure + look.balance * np.array([1.0, 0.0, -1.0])
    gains = (2 ** (stops / 2.2)).astype(np.float32)
    ramp = _imgaug().arithmetic.multiply_scalar(ramp, gains)
    ramp = _imgaug().contrast.adjust_contrast_linear(ramp, look.contrast)
    ramp = _imgaug().contrast.adjust_contrast_gamma(ramp, look.gamma)
    return np.asarray((ramp.astype(np.uint32) + 128) // 257, dtype=np.uint8)


def _shade(frame: Array8, amount: float, angle: float) -> Array8:
    """Multiply by a linear gradient: 1 in the centre, 1 ± amount at the middle of a side."""
    height, width = frame.shape[:2]
    x = np.linspace(-amount, amount, width, dtype=np.float32) * np.float32(math.cos(angle))
    y = np.linspace(-amount, amount, height, dtype=np.float32) * np.float32(math.sin(angle))
    field = np.maximum(1 + y[:, None] + x, 0)
    lit = frame.astype(np.float32)
    cv2.multiply(lit, cv2.merge([field, field, field]), dst=lit)  # mixed types take 30 ms
    return np.asarray(cv2.convertScaleAbs(lit))


def _colour_matrix(hue: float, saturation: float) -> NDArray[np.float64]:
    """Return the 3x3 matrix that rotates and scales chroma and keeps luma and greys."""
    angle = math.radians(hue)
    axis = np.full((3, 3), 1 / 3)  # projection on the grey axis
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = axis + math.cos(angle) * (np.eye(3) - axis) + math.sin(angle) * cross
    grey = np.tile(LUMA, (3, 1))
    return np.asarray(grey + saturation * (np.eye(3) - grey) @ turn)


@functools.cache
def _noise_tile() -> NDArray[np.int8]:
    """Return (TILE, TILE, 3) int8 noise of TILE_SIGMA, mostly luma; computed once per process."""
    grey = np.full((TILE, TILE, 3), 128, np.uint8)
    sigma, noise = TILE_SIGMA, _imgaug().AdditiveGaussianNoise
    luma = noise(scale=0.85 * sigma, per_channel=False, seed=1)(image=grey)
    chroma = noise(scale=0.53 * sigma, per_channel=True, seed=2)(image=grey)
    total = luma.astype(np.int16) + chroma - 256
    return np.asarray(np.clip(total, -127, 127), dtype=np.int8)


def _grain(shape: tuple[int, ...], at: tuple[float, float]) -> NDArray[np.int8]:
    """Return (H, W, 3) from a position of the noise tile, which is repeated if it is too small."""
    tile = _noise_tile()
    repeats = [math.ceil(side / TILE) for side in shape]
    if max(repeats) > 1:
        tile = np.tile(tile, (*repeats, 1))
    y, x = (int(u * (have - s + 1)) for u, have, s in zip(at, tile.shape, shape, strict=False))
    return tile[y : y + shape[0], x : x + shape[1]]


def _recompress(frame: Array8, quality: int) -> Array8:
    # The codec converts to luma and chroma, so the channel order matters.
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _points(offsets: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return an odd square kernel, sum 1: points at (N, 2) offsets (x, y), splatted bilinearly."""
    radius = math.ceil(np.abs(offsets).max())
    kernel = np.zeros((2 * radius + 2, 2 * radius + 2), np.float32)
    corner = np.floor(offsets).astype(int)
    fraction = offsets - corner
    for dx in (0, 1):
        for dy in (0, 1):
            share = np.abs([1 - dx, 1 - dy] - fraction).prod(axis=1)
            np.add.at(kernel, (corner[:, 1] + radius + dy, corner[:, 0] + radius + dx), share)
    kernel /= len(offsets)
    return kernel[:-1, :-1]


def _elastic_field(seed: int) -> NDArray[np.float64]:
    warp = _imgaug().ElasticTransformation(alpha=16, sigma=5, order=1, mode="nearest", seed=seed)
    return _displacement(warp)


def _piecewise_field(seed: int) -> NDArray[np.float64]:
    warp = _imgaug().PiecewiseAffine(scale=0.06, nb_rows=3, nb_cols=3, mode="edge", seed=seed)
    return _displacement(warp)


def _displacement(warp: Any) -> NDArray[np.float64]:
    """Return the (16, 16, 2) displacement of an augmenter, as shares of its span.

    The augmenter warps a small image of coordinates, which takes 0.2 to 3 ms once per object;
    warping every frame and mask at full size would take up to 80 ms each.
    """
    y, x = np.mgrid[:LATTICE, :LATTICE].astype(np.float64)
    grid = np.stack([x, y], axis=2)
    inner = slice(MARGIN, LATTICE - MARGIN)  # near the border coordinates are clamped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # imgaug calls an old name of scikit-image
        warped = warp(image=grid)
    field = (warped - grid)[inner, inner] / (LATTICE - 2 * MARGIN)
    field -= field.mean(axis=(0, 1))  # bending must not move the object
    if not np.abs(field).max() > 0:
        raise RuntimeError(
            f"{type(warp).__name__} of imgaug has no effect with this NumPy; install an older NumPy"
        )
    return np.asarray(field)


def _reach(modes: NDArray[np.float64]) -> float:
    """Return the largest displacement along x or y that any mix of the two modes reaches."""
    return float(np.hypot(modes[0], modes[1]).max())
