"""Drawn scenes: textured blobs that move in front of a textured background. NumPy only.

Blobs rotate, deform, move and occlude one another. They are large relative to the model's stride-16
grid and move so far that the first mask is a poor guess for later frames. Their colours and
textures stay constant, so that a model can learn to track them.

Lengths are in units of the frame's short side, times in frames, angles in radians.
"""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

TEXTURES = ("stripes", "checks", "dots", "rings")
_RADII = ((0.20, 0.28), (0.17, 0.23), (0.15, 0.19))
"""Radius with 1, 2 and more objects: diameters of 30 to 56 % of the short side."""
_SPEED = (0.03, 0.05)
"""Peak speed along each axis: 3 to 5 pixels a frame at 96 pixels."""
_ARRIVAL = 0.4
"""Speed at which a late blob enters from the left."""
_TRIES = 6


@dataclass(frozen=True)
class Blob:
    """A textured shape: its outline, colours and motion.

    Attributes:
        radius: Mean radius.
        waves: (3, 3) amplitude, phase and rate of the outline's 2nd to 4th harmonic.
        middle: (2,) x, y around which it oscillates.
        reach: (2,) amplitude of the oscillation in x and y.
        rate: (2,) radians per frame.
        phase: (2,) radians.
        angle: Orientation at time 0.
        spin: Rotation per frame.
        texture: Position in ``TEXTURES``.
        frequency: Of the texture, radians per radius.
        colours: (2, 3) RGB in [0, 1].
        enters: Frame at which it has entered from the left; 0 is present from the start.
    """

    radius: float
    waves: Floats
    middle: Floats
    reach: Floats
    rate: Floats
    phase: Floats
    angle: float
    spin: float
    texture: int
    frequency: float
    colours: Floats
    enters: int = 0

    def centre(self, time: float) -> Floats:
        """Return x, y at ``time``, (2,) float32."""
        place = self.middle + self.reach * np.sin(self.rate * time + self.phase)
        place[0] -= _ARRIVAL * max(0.0, self.enters - time)
        return np.asarray(place, np.float32)

    def outline(self, theta: Floats, time: float) -> Floats:
        """Return the radius in direction ``theta`` of the shape's own axes."""
        out = np.ones_like(theta)
        for order, (amplitude, phase, rate) in enumerate(self.waves, start=2):
            out += amplitude * np.cos(order * theta + phase + rate * time)
        return np.asarray(self.radius * out, np.float32)

    def paint(self, size: tuple[int, int], time: float) -> tuple[Floats, Floats]:
        """Return coverage (H, W) with soft edges and colour (H, W, 3), float32 in [0, 1]."""
        x, y = _grid(size)
        cx, cy = self.centre(time)
        distance = np.hypot(x - cx, y - cy)
        theta = np.arctan2(y - cy, x - cx) - np.float32(self.angle + self.spin * time)
        cover = np.clip((self.outline(theta, time) - distance) * min(size) + 0.5, 0, 1)
        u, v = distance / self.radius * np.cos(theta), distance / self.radius * np.sin(theta)
        blend = _texture(self.texture, self.frequency, u, v)[..., None]
        light = 1 - 0.3 * np.clip(distance / self.radius, 0, 1.3) ** 2
        colour = (self.colours[0] * blend + self.colours[1] * (1 - blend)) * light[..., None]
        return cover, np.asarray(colour, np.float32)

    def polygon(self, size: tuple[int, int]) -> Floats:
        """Return the outline at time 0 as (64, 2) x, y in pixels, clipped to the image."""
        theta = np.linspace(0, 2 * np.pi, 64, endpoint=False, dtype=np.float32)
        rays = np.stack([np.cos(theta + self.angle), np.sin(theta + self.angle)], axis=1)
        points = self.centre(0) + self.outline(theta, 0)[:, None] * rays
        return np.asarray(np.clip(points * min(size), 0, size[::-1]), np.float32)


@dataclass(frozen=True)
class ToyScene:
    """A background that pans slowly, and blobs in front of it, the nearest first.

    Attributes:
        colours: (2, 3) RGB in [0, 1] of the background.
        waves: (6, 4) frequency in x and y, phase, phase per frame; the last two are fine detail.
        blobs: Nearest first.
    """

    colours: Floats
    waves: Floats
    blobs: tuple[Blob, ...]

    def render(self, size: tuple[int, int], time: float = 0) -> tuple[Bytes, Bytes]:
        """Return the frame (H, W, 3) uint8 RGB and its mask (H, W) uint8, blob i as id i + 1."""
        x, y = _grid(size)
        swing = [np.sin(fx * x + fy * y + p + r * time) for fx, fy, p, r in self.waves]
        blend = (0.5 + sum(swing[:4]) / 6)[..., None]
        frame = self.colours[0] * blend + self.colours[1] * (1 - blend)
        frame += 0.05 * (swing[4] + swing[5])[..., None]
        mask = np.zeros(size, np.uint8)
        for number in range(len(self.blobs), 0, -1):
            cover, colour = self.blobs[number - 1].paint(size, time)
            frame += (colour - frame) * cover[..., None]
            mask[cover > 0.5] = number
        return (np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8), mask

    def least_visible(self, size: tuple[int, int]) -> float:
        """Return the visible share of the most occluded blob's disc, once it has entered."""
        taken = np.zeros(size, bool)
        shares = [1.0]
        for blob in self.blobs:
            cover = blob.paint(size, blob.enters)[0] > 0.5
            disc = np.pi * (blob.radius * min(size)) ** 2
            shares.append(float((cover & ~taken).sum() / disc))
            taken |= cover
        return min(shares)


def draw_scene(
    rng: np.random.Generator,
    size: tuple[int, int],
    objects: int,
    enters: Mapping[int, int] | None = None,
) -> ToyScene:
    """Draw six arrangements; return the one whose most occluded object is the most visible.

    Args:
        rng: Source of every random choice.
        size: (height, width); only the ratio counts.
        objects: Number of objects, >= 0.
        enters: Object number (1..) to the frame at which it has entered from the left.

    Returns:
        The scene, with objects of distinct hues.
    """
    value, hue = rng.uniform(0.3, 0.8), rng.uniform()
    tint = hue + rng.uniform(-0.2, 0.2)
    colours = [_rgb(hue, rng.uniform(0.1, 0.45), value)]
    colours.append(_rgb(tint, rng.uniform(0.1, 0.45), 1.1 - value))
    frequency = np.array([[8], [8], [8], [8], [40], [40]]) * rng.uniform(-1, 1, (6, 2))
    waves = np.column_stack([frequency, rng.uniform(0, 6.28, 6), rng.uniform(-0.06, 0.06, 6)])
    hues = rng.uniform() + (np.arange(objects) + rng.uniform(-0.1, 0.1, objects)) / max(objects, 1)
    extent = np.array(size[::-1], np.float32) / np.float32(min(size))
    late = enters or {}
    scenes = []
    for _ in range(_TRIES):
        blobs = tuple(
            _blob(rng, float(hue), objects, extent, late.get(i, 0)) for i, hue in enumerate(hues, 1)
        )
        scenes.append(ToyScene(np.array(colours, np.float32), waves.astype(np.float32), blobs))
    small = (round(40 * float(extent[1])), round(40 * float(extent[0])))
    return max(scenes, key=lambda scene: scene.least_visible(small))


def draw_video(
    rng: np.random.Generator,
    *,
    frames: int,
    size: tuple[int, int],
    objects: int,
    enters: Mapping[int, int] | None = None,
) -> tuple[Bytes, Bytes]:
    """Draw one video; arguments as for :func:`draw_scene`.

    Returns:
        Frames (T, H, W, 3) uint8 RGB and masks (T, H, W) uint8 with ids 1..``objects``.
    """
    scene = draw_scene(rng, size, objects, enters)
    rendered = [scene.render(size, time) for time in range(frames)]
    return np.stack([frame for frame, _ in rendered]), np.stack([mask for _, mask in rendered])


def _blob(rng: np.random.Generator, hue: float, objects: int, extent: Floats, enters: int) -> Blob:
    radius = rng.uniform(*_RADII[min(objects, len(_RADII)) - 1])
    reach = (extent / 2 - 0.7 * radius) * rng.uniform(0.8, 1, 2)
    speed = rng.uniform(*_SPEED) * rng.choice([-1.0, 1.0], 2)
    # The second phase lags by about a quarter turn: when one axis rests, the other one moves.
    first = rng.uniform(0, 6.28)
    phase = [first, first + rng.uniform(0.3, 0.7) * np.pi]
    amplitude = rng.uniform(0.04, 0.12, 3) * (1, 0.8, 0.6)
    waves = np.column_stack([amplitude, rng.uniform(0, 6.28, 3), rng.uniform(-0.25, 0.25, 3)])
    other = hue + rng.uniform(0.06, 0.16) * rng.choice([-1, 1])
    colours = [_rgb(hue, rng.uniform(0.75, 1), rng.uniform(0.8, 1))]
    colours.append(_rgb(other, rng.uniform(0.5, 1), rng.uniform(0.35, 0.7)))
    return Blob(
        radius=float(radius),
        waves=waves.astype(np.float32),
        middle=extent / np.float32(2),
        reach=reach.astype(np.float32),
        rate=(speed / reach).astype(np.float32),
        phase=np.array(phase, np.float32),
        angle=float(rng.uniform(0, 6.28)),
        spin=float(rng.uniform(0.03, 0.12) * rng.choice([-1, 1])),
        texture=int(rng.integers(len(TEXTURES))),
        frequency=float(rng.uniform(4, 7)),
        colours=np.array(colours, np.float32),
        enters=enters,
    )


def _texture(kind: int, frequency: float, u: Floats, v: Floats) -> Floats:
    """Return stripes, checks, dots or rings with soft edges, (H, W) in [0, 1]."""
    a, b = np.sin(frequency * u), np.sin(frequency * v)
    wave = (a, 2 * a * b, a + b - 0.4, np.sin(1.3 * frequency * np.hypot(u, v)))[kind]
    return np.asarray(0.5 + 0.5 * np.tanh(3 * wave), np.float32)


def _grid(size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return x (1, W) and y (H, 1) of the pixel centres."""
    y, x = np.ogrid[: size[0], : size[1]]
    short = np.float32(min(size))
    return (x.astype(np.float32) + 0.5) / short, (y.astype(np.float32) + 0.5) / short


def _rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)
