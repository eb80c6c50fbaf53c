"""Drawing a scene: one warp per layer and frame, directly from native pixels to the clip.

Nothing is resized, flipped or cropped in between, and a pasted object is computed only within its
box. Label maps are sampled at the nearest pixel, images are interpolated.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from stmdata.synthesis.appearance import apply_frame, blur_along
from stmdata.synthesis.appearance_policy import FrameAppearance
from stmdata.synthesis.bending import bend_map
from stmdata.synthesis.layers import (
    Cutout,
    Layer,
    Matrix,
    Pixels,
    Scene,
    inverse,
    scaling,
    transform,
    translation,
)

_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_NEAREST = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
_INSIDE = 128  # alpha from which a pixel belongs to the object
_UNCHANGED = FrameAppearance()

Motion = tuple[float, float]
Box = tuple[int, int, int, int]


def render(
    image: Pixels, labels: Pixels, scene: Scene, looks: Sequence[FrameAppearance] | None = None
) -> tuple[Pixels, Pixels]:
    """Draw every frame of a scene.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8; 0 background, 1.. instances of the image.
        scene: The geometry.
        looks: Appearance of each frame; each layer is blurred along its own motion.

    Returns:
        Frames (T, S, S, 3) uint8 and label maps (T, S, S) uint8 with the ids of ``labels`` and of
        the layers.
    """
    num_frames, size = len(scene.base), scene.size
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    masks = np.empty((num_frames, size, size), np.uint8)
    image, labels, base = _shrink_base(image, labels, scene.base)
    layers = [_shrink_layer(layer) for layer in scene.layers]
    border = cv2.BORDER_CONSTANT if scene.wedges else cv2.BORDER_REPLICATE
    centre = np.full(2, (size - 1) / 2)
    for t in range(num_frames):
        look = _UNCHANGED if looks is None else looks[t]
        frame, mask = frames[t], masks[t]
        _warp(image, base[t], frame, _LINEAR, border)
        _warp(labels, base[t], mask, _NEAREST, border)
        if look.shutter:
            point = transform(base[t], centre[None])[0]
            frame = blur_along(look, frame, _motion(base, t, point))
        for layer in layers:
            _draw(frame, mask, layer, t, scene.hard_edges, look)
        frame = apply_frame(look, frame)
        if frame is not frames[t]:
            frames[t] = frame
    return frames, masks


def _warp(source: Pixels, matrix: Matrix, out: Pixels, flags: int, border: int) -> None:
    """Sample ``source`` at ``matrix @ pixel`` for every pixel of ``out``, (h, w[, C]) uint8."""
    size = (out.shape[1], out.shape[0])
    if matrix[2, 0] == 0 and matrix[2, 1] == 0:  # affine warps take a third less time
        cv2.warpAffine(source, matrix[:2] / matrix[2, 2], size, out, flags, border)
    else:
        cv2.warpPerspective(source, matrix, size, out, flags, border)


def _draw(
    frame: Pixels, mask: Pixels, layer: Layer, t: int, hard_edges: bool, look: FrameAppearance
) -> None:
    """Draw one layer into frame ``t``, changing only the pixels within its box."""
    motion = (0.0, 0.0)
    if look.shutter:
        motion = _motion(layer.matrices, t, np.array(layer.cutout.centre))
    streak = look.streak(motion)
    box = _box(layer, t, frame.shape[0], streak)
    if box is None:
        return
    x0, y0, x1, y1 = box
    below, ids = frame[y0:y1, x0:x1], mask[y0:y1, x0:x1]
    rgba = _sample(layer, t, box)
    alpha = cv2.extractChannel(rgba, 3)
    if hard_edges:
        alpha = cv2.threshold(alpha, _INSIDE - 1, 255, cv2.THRESH_BINARY)[1]
    else:
        alpha = cv2.blur(alpha, (3, 3))
    hidden = (ids > 0) & (ids <= layer.behind) if layer.behind else None
    inside = alpha >= _INSIDE
    if hidden is not None:
        inside &= ~hidden
    if hard_edges and streak < 1:
        cv2.copyTo(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), inside.view(np.uint8), below)
    else:
        _blend(below, _u8(rgba), _u8(alpha), hidden, look, motion)
    np.copyto(ids, np.uint8(layer.object_id), where=inside)


def _blend(
    below: Pixels,
    rgba: Pixels,
    alpha: Pixels,
    hidden: NDArray[np.bool_] | None,
    look: FrameAppearance,
    motion: Motion,
) -> None:
    """Blend a layer, blurred along its motion, over ``below`` (h, w, 3), except where hidden."""
    weight = _threefold(alpha)
    light = _product(_u8(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)), weight)
    if look.streak(motion) >= 1:
        premultiplied = cv2.merge([*cv2.split(light), alpha])
        over = blur_along(look, _u8(premultiplied), motion)
        light, weight = _u8(cv2.cvtColor(over, cv2.COLOR_RGBA2RGB)), _threefold(over[..., 3])
    if hidden is not None:
        seen = _threefold(_u8(cv2.blur((~hidden).astype(np.uint8) * 255, (3, 3))))
        light, weight = _product(light, seen), _product(weight, seen)
    cv2.add(light, _product(below, _u8(cv2.bitwise_not(weight))), below)


def _sample(layer: Layer, t: int, box: Box) -> Pixels:
    """Return the layer's (h, w, 4) pixels within a box of frame ``t``."""
    x0, y0, x1, y1 = box
    matrix = layer.matrices[t] @ translation(x0, y0)
    rgba = layer.cutout.rgba
    if layer.deformation is None:
        out = np.empty((y1 - y0, x1 - x0, 4), np.uint8)
        _warp(rgba, matrix, out, _LINEAR, cv2.BORDER_CONSTANT)
        return out
    height, width = rgba.shape[:2]
    spots = bend_map(layer.deformation, t, (width, height), matrix, (x1 - x0, y1 - y0))
    return _u8(cv2.remap(rgba, spots, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _threefold(alpha: Pixels) -> Pixels:
    """Repeat (h, w) to (h, w, 3), because OpenCV's arithmetic requires equal shapes."""
    return _u8(cv2.merge([alpha, alpha, alpha]))


def _product(pixels: Pixels, weight: Pixels) -> Pixels:
    """Multiply by a weight of 0..255, where 255 keeps a pixel."""
    return _u8(cv2.multiply(pixels, weight, scale=1 / 255))


def _motion(matrices: Matrix, t: int, point: Matrix) -> Motion:
    """Return how far (x, y), clip px per frame, a ``point`` (2,) of the source moves at frame t."""
    pair = matrices[max(min(t, len(matrices) - 2), 0) :][:2]
    spots = transform(inverse(pair), point[None])[:, 0]
    dx, dy = (spots[-1] - spots[0]).tolist()
    return dx, dy


def _box(layer: Layer, t: int, size: int, streak: float) -> Box | None:
    """Return (x0, y0, x1, y1) that a layer may touch in frame ``t``; None if outside the clip."""
    height, width = layer.cutout.rgba.shape[:2]
    reach = layer.deformation.reach if layer.deformation else 0.0
    more = np.array([width, height]) * reach + 0.5
    low, high = -more, np.array([width - 1, height - 1]) + more
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    spots = transform(inverse(layer.matrices[t]), corners)
    margin = streak / 2 + 1 if streak >= 1 else 0
    x0, y0 = (int(v) for v in np.maximum(np.floor(spots.min(0) - margin), 0))
    x1, y1 = (int(v) for v in np.minimum(np.ceil(spots.max(0) + margin) + 1, size))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _step(matrices: Matrix) -> float:
    """Return the fewest source pixels per clip pixel in any frame."""
    jacobians = matrices[:, :2, :2] / matrices[:, 2:, 2:]
    return float(np.sqrt(np.abs(np.linalg.det(jacobians)).min()))


def _shrink_base(image: Pixels, labels: Pixels, base: Matrix) -> tuple[Pixels, Pixels, Matrix]:
    """Average blocks of pixels beforehand if a warp would skip pixels (two or more per step)."""
    factor = int(_step(base))
    if factor < 2:
        return image, labels, base
    middle = factor // 2
    small = labels[middle::factor, middle::factor]
    return _block_mean(image, factor), np.ascontiguousarray(small), _blocks(factor) @ base


def _shrink_layer(layer: Layer) -> Layer:
    """Do for a cut-out what :func:`_shrink_base` does for the image."""
    factor = int(_step(layer.matrices))
    if factor < 2:
        return layer
    small = Cutout(_block_mean(layer.cutout.rgba, factor), layer.cutout.area)
    return replace(layer, cutout=small, matrices=_blocks(factor) @ layer.matrices)


def _block_mean(image: Pixels, factor: int) -> Pixels:
    """Average blocks of ``factor`` x ``factor`` pixels; an incomplete last block is dropped."""
    height, width = (max(side // factor, 1) for side in image.shape[:2])
    complete = image[: height * factor, : width * factor]
    return _u8(cv2.resize(complete, (width, height), interpolation=cv2.INTER_AREA))


def _blocks(factor: int) -> Matrix:
    """Return the matrix from pixels to blocks, centre to centre."""
    out: Matrix = translation(-0.5, -0.5) @ scaling(1 / factor) @ translation(0.5, 0.5)
    return out


def _u8(pixels: object) -> Pixels:
    """Tell the type checker that OpenCV returns uint8 for uint8, which its own types leave open."""
    return cast(Pixels, pixels)
