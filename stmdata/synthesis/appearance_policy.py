"""Appearance policies: what varies in a clip, and how much; and the values drawn from them.

This module has numbers only; :mod:`stmdata.synthesis.appearance` applies them to images.
"""

import functools
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.settings import load_named, setting


@dataclass(frozen=True)
class AppearancePolicy:
    """How much the appearance and shape of clips may vary; the defaults are the policy ``light``.

    ``*_p`` are probabilities per clip (``elastic_p``, ``piecewise_p``: per object). A range such
    as ``exposure`` is the largest deviation from the original image, either way.
    """

    tone_p: float = setting(0.8, "probability of lighting that drifts: exposure to balance")
    exposure: float = setting(0.6, "stops, either way")
    contrast: float = setting(0.15, "share, either way, around mid-grey")
    gamma: float = setting(0.2, "log2 of the exponent, either way")
    balance: float = setting(0.15, "stops: red against blue, either way (warm, cold)")
    shade_p: float = setting(0.25, "probability of a light gradient over the frame that turns")
    shade: float = setting(0.25, "share of light lost or gained at the frame's border")
    colour_p: float = setting(0.4, "probability of a change of hue and saturation")
    hue: float = setting(6.0, "degrees, either way")
    saturation: float = setting(0.25, "share, either way")
    defocus_p: float = setting(0.15, "probability of blur by defocus")
    defocus: float = setting(1.2, "px, largest sigma")
    motion_p: float = setting(0.3, "probability of blur along the motion")
    shutter: tuple[float, float] = setting((0.1, 0.4), "share of the frame's time it is open")
    motion_max: float = setting(9.0, "px, longest streak; at most 19")
    noise_p: float = setting(0.3, "probability of sensor noise")
    noise: tuple[float, float] = setting((1.5, 5.0), "levels of 255, sigma")
    jpeg_p: float = setting(0.25, "probability of JPEG artefacts")
    jpeg: tuple[int, int] = setting((55, 90), "JPEG quality")
    elastic_p: float = setting(0.3, "probability that an object bends smoothly")
    elastic: float = setting(0.04, "share of the object's box: largest displacement")
    piecewise_p: float = setting(0.1, "probability that an object bends in flat pieces")
    piecewise: float = setting(0.05, "share of the object's box: largest displacement")
    drift: float = setting(0.4, "share of a range that changes within a clip, the rest is fixed")
    period: tuple[float, float] = setting((10.0, 30.0), "frames of one full cycle of the drift")

    def __post_init__(self) -> None:
        """Refuse values outside the ranges of the operators."""
        for f in fields(self):
            value, minimum = getattr(self, f.name), _MINIMUM.get(f.name, 0.0)
            maximum = 1.0 if f.name.endswith("_p") else _MAXIMUM.get(f.name, math.inf)
            low, high = value if isinstance(value, tuple) else (minimum, value)
            if not minimum <= low <= high <= maximum or math.isinf(high):
                raise ValueError(f"{f.name}: expected {minimum:g} to {maximum:g}, found {value}")


_MINIMUM = {"jpeg": 1.0, "period": 4.0}
_MAXIMUM = dict.fromkeys(["contrast", "shade", "saturation", "drift", "shutter"], 1.0) | {
    "exposure": 4.0,
    "gamma": 2.0,
    "balance": 2.0,
    "hue": 180.0,
    "defocus": 8.0,
    "motion_max": 19.0,
    "noise": 60.0,
    "jpeg": 100.0,
    "elastic": 0.25,
    "piecewise": 0.25,
}

LIGHT = AppearancePolicy()
_OFF: dict[str, Any] = {f.name: 0.0 for f in fields(LIGHT) if f.name.endswith("_p")}
NONE = replace(LIGHT, **_OFF)
STRONG = AppearancePolicy(
    tone_p=1.0,
    exposure=1.2,
    contrast=0.4,
    gamma=0.5,
    balance=0.5,
    shade_p=0.6,
    shade=0.55,
    colour_p=0.8,
    hue=20.0,
    saturation=0.7,
    defocus_p=0.3,
    defocus=2.2,
    motion_p=0.5,
    shutter=(0.2, 0.7),
    motion_max=18.0,
    noise_p=0.6,
    noise=(3.0, 16.0),
    jpeg_p=0.5,
    jpeg=(15, 60),
    elastic_p=0.7,
    elastic=0.12,
    piecewise_p=0.3,
    piecewise=0.15,
    drift=0.6,
    period=(8.0, 24.0),
)
POLICIES = {"none": NONE, "light": LIGHT, "strong": STRONG}


def load_policy(name_or_path: str | Path) -> AppearancePolicy:
    """Return ``none``, ``light``, ``strong``, or the policy of a TOML file.

    Fields that a file leaves out keep the value of ``light``.

    Raises:
        UsageError: There is no such policy or file; a field is unknown or out of range.
    """
    return load_named(name_or_path, POLICIES, lambda _: LIGHT, "appearance")


@dataclass(frozen=True)
class FrameAppearance:
    """Appearance of one frame; the defaults leave a frame unchanged."""

    exposure: float = 0.0  # stops
    contrast: float = 1.0  # factor around mid-grey
    gamma: float = 1.0  # exponent on values in [0, 1]
    balance: float = 0.0  # stops, red up and blue down
    shade: float = 0.0  # share of light, gained on one side and lost on the other
    shade_angle: float = 0.0  # radians, direction of the light
    hue: float = 0.0  # degrees
    saturation: float = 1.0  # factor
    defocus: float = 0.0  # px, sigma
    shutter: float = 0.0  # share of the frame's time
    motion_max: float = 0.0  # px
    noise: float = 0.0  # levels, sigma; its sign is drawn too
    noise_at: tuple[float, float] = (0.0, 0.0)  # where the noise tile is read, in [0, 1)
    jpeg: int = 0  # quality; 0 is off

    def streak(self, motion: tuple[float, float]) -> float:
        """Return the length of the motion blur, px, for a motion (dx, dy) in px per frame."""
        return min(self.shutter * math.hypot(*motion), self.motion_max)


def draw_appearance(
    policy: AppearancePolicy, num_frames: int, rng: np.random.Generator
) -> tuple[FrameAppearance, ...]:
    """Draw the appearance of a clip, one value per frame; ``rng`` advances by one number.

    It does so under any policy, so clips that differ only in their policy have the same objects
    and motion.
    """
    rng = spawn(rng)
    p = policy
    names = ("tone", "shade", "colour", "defocus", "motion", "noise", "jpeg")
    on = {name: rng.random() < getattr(policy, f"{name}_p") for name in names}

    def switched(name: str, amount: float) -> float:
        return amount if on[name] else 0.0

    # Everything is drawn, used or not, so that switching one effect does not change the others.
    drift = functools.partial(_drift, rng, num_frames, p)
    tracks: dict[str, NDArray[np.float64]] = {
        "exposure": switched("tone", p.exposure) * drift(),
        "contrast": 1 + switched("tone", p.contrast) * drift(),
        "gamma": 2 ** (switched("tone", p.gamma) * drift()),
        "balance": switched("tone", p.balance) * drift(),
        "shade": switched("shade", p.shade) * (0.75 + 0.25 * drift()),
        "shade_angle": rng.uniform(0, 2 * np.pi) + p.drift * np.pi / 2 * drift(),
        "hue": switched("colour", p.hue) * drift(),
        "saturation": 1 + switched("colour", p.saturation) * drift(),
        "defocus": switched("defocus", p.defocus) * (0.6 + 0.4 * drift()),
    }
    clip: dict[str, Any] = {"shutter": switched("motion", float(rng.uniform(*p.shutter)))}
    clip["motion_max"] = p.motion_max
    clip["jpeg"] = int(switched("jpeg", int(rng.integers(p.jpeg[0], p.jpeg[1] + 1))))
    sigma = switched("noise", float(rng.uniform(*p.noise)))
    noises, positions = sigma * rng.choice([-1.0, 1.0], num_frames), rng.random((num_frames, 2))
    looks = []
    for t in range(num_frames):
        frame: dict[str, Any] = {name: float(track[t]) for name, track in tracks.items()}
        position = (float(positions[t, 0]), float(positions[t, 1]))
        looks.append(FrameAppearance(**frame, **clip, noise=float(noises[t]), noise_at=position))
    return tuple(looks)


def spawn(rng: np.random.Generator) -> np.random.Generator:
    """Return a new generator; ``rng`` advances by one number."""
    return np.random.default_rng(int(rng.integers(2**63)))


def _drift(
    rng: np.random.Generator, num_frames: int, policy: AppearancePolicy
) -> NDArray[np.float64]:
    """Return (T,) values in [-1, 1]: a constant of the clip plus a slow sine."""
    constant, phase = rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi)
    cycles = np.arange(num_frames) / rng.uniform(*policy.period)
    swing = np.sin(phase + 2 * np.pi * cycles)
    return (1 - policy.drift) * constant + policy.drift * swing
