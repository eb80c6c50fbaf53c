"""Layers of a clip and their rendering: one warp per layer and frame, straight from native pixels.

A scene is numbers and references only: for every layer one 3x3 matrix per frame that maps a pixel
of the clip to a pixel of the layer's source. Rendering samples each source once per frame, so
nothing is resized, flipped or cropped on the way.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Cutout", "Layer", "Scene", "cut_out", "render", "scaling", "transform", "translation"]

Pixels = NDArray[np.uint8]
Matrix = NDArray[np.float64]

_PAD = 2  # px around a cut-out, so that interpolation at its edge finds colours and not black
_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_NEAREST = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
_INSIDE = 128  # alpha from which a pixel belongs to the object


@dataclass(frozen=True)
class Cutout:
    """An object lifted from its image, at native size.

    Attributes:
        rgba: (h, w, 4) uint8; RGB and, as the fourth channel, 255 inside the object, 0 outside.
        area: Pixels inside the object.
    """

    rgba: Pixels
    area: int

    @property
    def centre(self) -> tuple[float, float]:
        """Return (x, y) of the middle of the cut-out, px."""
        height, width = self.rgba.shape[:2]
        return (width - 1) / 2, (height - 1) / 2


@dataclass(frozen=True)
class Layer:
    """A cut-out in motion.

    Attributes:
        cutout: What is pasted.
        matrices: (T, 3, 3), clip pixel to cut-out pixel, affine.
        object_id: Its id in the label map, above those of the image's instances.
        behind: The image's instances hide it.
    """

    cutout: Cutout
    matrices: Matrix
    object_id: int
    behind: bool = False


@dataclass(frozen=True)
class Scene:
    """Everything that decides a clip's pixels.

    Attributes:
        size: Side of the clip, px.
        base: (T, 3, 3), clip pixel to image pixel; a homography per frame.
        base_ids: Ids of the image's label map that may become objects.
        layers: Pasted objects, back to front: the depth order of all frames.
        hard_edges: Paste whole pixels; otherwise edges are blended over about two pixels.
        wedges: Black where a warp leaves the image; otherwise the image's edge is repeated.
    """

    size: int
    base: Matrix
    base_ids: tuple[int, ...]
    layers: tuple[Layer, ...]
    hard_edges: bool
    wedges: bool


def translation(x: float, y: float) -> Matrix:
    """Return the matrix that moves points by (x, y)."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def scaling(x: float, y: float | None = None) -> Matrix:
    """Return the matrix that scales points about the origin."""
    return np.diag([x, x if y is None else y, 1.0])


def transform(matrix: Matrix, points: Matrix) -> Matrix:
    """Apply a homography (..., 3, 3) to points (N, 2); the result is (..., N, 2)."""
    ahead = np.column_stack([points, np.ones(len(points))]) @ np.swapaxes(matrix, -1, -2)
    return ahead[..., :2] / ahead[..., 2:]


def cut_out(image: Pixels, mask: Pixels) -> Cutout:
    """Lift an object from its image.

    Args:
        image: (h, w, 3) uint8, the object's box.
        mask: (h, w) uint8, not 0 inside the object.

    Returns:
        The cut-out with a margin of two pixels.
    """
    alpha = np.where(mask > 0, np.uint8(255), np.uint8(0))
    around = (_PAD, _PAD, _PAD, _PAD)
    rgb = cv2.copyMakeBorder(image, *around, cv2.BORDER_REPLICATE)
    padded = cv2.copyMakeBorder(alpha, *around, cv2.BORDER_CONSTANT, value=0)
    return Cutout(np.dstack([rgb, padded]), cv2.countNonZero(alpha))


def render(image: Pixels, labels: Pixels, scene: Scene) -> tuple[Pixels, Pixels]:
    """Draw every frame of a scene.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8; 0 background, 1.. instances of the image.
        scene: What goes where.

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
    for t in range(num_frames):
        _warp(image, base[t], frames[t], _LINEAR, border)
        _warp(labels, base[t], masks[t], _NEAREST, border)
        for layer in layers:
            _paste(frames[t], masks[t], layer, t, scene.hard_edges)
    return frames, masks


def _warp(source: Pixels, matrix: Matrix, out: Pixels, flags: int, border: int) -> None:
    """Sample ``source`` at ``matrix @ pixel`` for every pixel of ``out``, (h, w[, C]) uint8."""
    size = (out.shape[1], out.shape[0])
    if matrix[2, 0] == 0 and matrix[2, 1] == 0:  # affine warps cost a third less
        cv2.warpAffine(source, matrix[:2] / matrix[2, 2], size, out, flags, border)
    else:
        cv2.warpPerspective(source, matrix, size, out, flags, border)


def _paste(frame: Pixels, mask: Pixels, layer: Layer, t: int, hard_edges: bool) -> None:
    """Draw one layer into frame ``t``, touching only the pixels within its outline's box."""
    box = _box(layer, t, frame.shape[0])
    if box is None:
        return
    x0, y0, x1, y1 = box
    inner = np.empty((y1 - y0, x1 - x0, 4), np.uint8)
    matrix = layer.matrices[t] @ translation(x0, y0)
    _warp(layer.cutout.rgba, matrix, inner, _LINEAR, cv2.BORDER_CONSTANT)
    rgb, alpha = cv2.cvtColor(inner, cv2.COLOR_RGBA2RGB), cv2.extractChannel(inner, 3)
    below, ids = frame[y0:y1, x0:x1], mask[y0:y1, x0:x1]
    if layer.behind:
        alpha[(ids > 0) & (ids < layer.object_id)] = 0
    if hard_edges:
        inside = cv2.threshold(alpha, _INSIDE - 1, 255, cv2.THRESH_BINARY)[1]
        cv2.copyTo(rgb, inside, below)
    else:
        alpha = inside = cv2.blur(alpha, (3, 3))
        _blend(below, rgb, alpha)
    np.copyto(ids, np.uint8(layer.object_id), where=inside >= _INSIDE)


def _blend(below: Pixels, above: Pixels, alpha: Pixels) -> None:
    """Mix ``above`` into ``below`` in place; ``alpha`` (h, w) uint8, 255 covers wholly."""
    weight = (alpha.astype(np.uint16) + (alpha > 127))[:, :, None]  # 0..256, so that 255 is exact
    np.copyto(below, (below * (256 - weight) + above * weight + 128) >> 8, casting="unsafe")


def _box(layer: Layer, t: int, size: int) -> tuple[int, int, int, int] | None:
    """Return (x0, y0, x1, y1) of a layer in frame ``t``, cut to the clip; None if outside."""
    height, width = layer.cutout.rgba.shape[:2]
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]]) - 0.5
    spots = transform(np.linalg.inv(layer.matrices[t]), corners)
    x0, y0 = np.maximum(np.floor(spots.min(0)), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(spots.max(0)) + 1, size).astype(int)
    return (int(x0), int(y0), int(x1), int(y1)) if x0 < x1 and y0 < y1 else None


def _step(matrices: Matrix) -> float:
    """Return the source pixels per clip pixel where they are fewest over the frames."""
    jacobians = matrices[:, :2, :2] / matrices[:, 2:, 2:]
    return float(np.sqrt(np.abs(np.linalg.det(jacobians)).min()))


def _shrink_base(
    image: Pixels, labels: Pixels, base: Matrix
) -> tuple[Pixels, Pixels, Matrix]:
    """Average whole blocks of pixels first where a warp would step over two or more (aliasing)."""
    factor = int(_step(base))
    if factor < 2:
        return image, labels, base
    middle = factor // 2
    small = labels[middle::factor, middle::factor]
    return _block_mean(image, factor), np.ascontiguousarray(small), _block_matrix(factor) @ base


def _shrink_layer(layer: Layer) -> Layer:
    """Do for a cut-out what :func:`_shrink_base` does for the image."""
    factor = int(_step(layer.matrices))
    if factor < 2:
        return layer
    small = Cutout(_block_mean(layer.cutout.rgba, factor), layer.cutout.area)
    return replace(layer, cutout=small, matrices=_block_matrix(factor) @ layer.matrices)


def _block_mean(image: Pixels, factor: int) -> Pixels:
    """Average blocks of ``factor`` x ``factor`` pixels; an incomplete last block is dropped."""
    height, width = (max(side // factor, 1) for side in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def _block_matrix(factor: int) -> Matrix:
    """Return the matrix from pixels to blocks, centre to centre."""
    return translation(-0.5, -0.5) @ scaling(1 / factor) @ translation(0.5, 0.5)
