"""Appearance policies, and the numbers drawn from them: what varies in a clip, and how much.

Numbers only: neither pictures nor imgaug. :mod:`stmdata.synthesis.appearance` applies them.
"""

import functools
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stmtrain.settings import load_named, setting

__all__ = [
    "LIGHT",
    "NONE",
    "POLICIES",
    "STRONG",
    "Appearance",
    "AppearancePolicy",
    "FrameAppearance",
    "draw_appearance",
    "load_policy",
    "spawn",
]


@dataclass(frozen=True)
class AppearancePolicy:
    """How much clips may differ in look and shape; the defaults are the policy ``light``.

    ``*_p`` are probabilities per clip (``elastic_p``, ``piecewise_p``: per object). A range such
    as ``exposure`` is the largest deviation from the untouched image, either way.
    """

    tone_p: float = setting(0.8, "probability of lighting that drifts: exposure to balance")
    exposure: float = setting(0.6, "stops, either way")
    contrast: float = setting(0.15, "share, either way, around mid-grey")
    gamma: float = setting(0.2, "log2 of the exponent, either way")
    balance: float = setting(0.15, "stops: red against blue, either way (warm, cold)")
    shade_p: float = setting(0.25, "probability of a light gradient over the frame that turns")
    shade: float = setting(0.25, "share of light lost or won at the frame's border")
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
        """Refuse values outside what the operators take."""
        for f in fields(self):
            value, least = getattr(self, f.name), _LEAST.get(f.name, 0.0)
            most = 1.0 if f.name.endswith("_p") else _MOST.get(f.name, math.inf)
            low, high = value if isinstance(value, tuple) else (least, value)
            if not least <= low <= high <= most or math.isinf(high):
                raise ValueError(f"{f.name}: expected {least:g} to {most:g}, found {value}")


_LEAST = {"jpeg": 1.0, "period": 4.0}
_MOST = {
    **dict.fromkeys(["contrast", "shade", "saturation", "drift", "shutter"], 1.0),
    **{"exposure": 4.0, "gamma": 2.0, "balance": 2.0, "hue": 180.0, "defocus": 8.0},
    **{"motion_max": 19.0, "noise": 60.0, "jpeg": 100.0, "elastic": 0.25, "piecewise": 0.25},
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
    """One frame's appearance; the defaults leave a frame as it is."""

    exposure: float = 0.0  # stops
    contrast: float = 1.0  # factor around mid-grey
    gamma: float = 1.0  # exponent on values in [0, 1]
    balance: float = 0.0  # stops, red up and blue down
    shade: float = 0.0  # share of light, won on one side and lost on the other
    shade_angle: float = 0.0  # radians, towards the light
    hue: float = 0.0  # degrees
    saturation: float = 1.0  # factor
    defocus: float = 0.0  # px, sigma
    shutter: float = 0.0  # share of the frame's time
    motion_max: float = 0.0  # px
    noise: float = 0.0  # levels, sigma; the sign is drawn too
    noise_at: tuple[float, float] = (0.0, 0.0)  # where the noise tile is read, in [0, 1)
    jpeg: int = 0  # quality; 0 is off


@dataclass(frozen=True)
class Appearance:
    """The looks of a clip's frames, ``looks[t]``."""

    looks: tuple[FrameAppearance, ...]


def draw_appearance(
    policy: AppearancePolicy, num_frames: int, rng: np.random.Generator
) -> Appearance:
    """Draw the looks of a clip; whatever the policy, ``rng`` advances by one number.

    Thus clips that differ in their policy only have the same objects and motion.
    """
    rng = spawn(rng)
    p = policy
    switches = (p.tone_p, p.shade_p, p.colour_p, p.defocus_p, p.motion_p, p.noise_p, p.jpeg_p)
    names = ("tone", "shade", "colour", "defocus", "motion", "noise", "jpeg")
    on = dict(zip(names, rng.random(len(names)) < switches, strict=True))
    # Everything is drawn, used or not: switching one effect leaves the others as they are.
    drift = functools.partial(_drift, rng, num_frames, p)
    tracks: dict[str, NDArray[np.float64]] = {
        "exposure": p.exposure * on["tone"] * drift(),
        "contrast": 1 + p.contrast * on["tone"] * drift(),
        "gamma": 2 ** (p.gamma * on["tone"] * drift()),
        "balance": p.balance * on["tone"] * drift(),
        "shade": p.shade * on["shade"] * (0.75 + 0.25 * drift()),
        "shade_angle": rng.uniform(0, 2 * np.pi) + p.drift * np.pi / 2 * drift(),
        "hue": p.hue * on["colour"] * drift(),
        "saturation": 1 + p.saturation * on["colour"] * drift(),
        "defocus": p.defocus * on["defocus"] * (0.6 + 0.4 * drift()),
    }
    clip: dict[str, Any] = {"shutter": float(rng.uniform(*p.shutter) * on["motion"])}
    clip["motion_max"] = p.motion_max
    clip["jpeg"] = int(rng.integers(p.jpeg[0], p.jpeg[1] + 1)) * int(on["jpeg"])
    sigma = float(rng.uniform(*p.noise)) * on["noise"]
    noises, places = sigma * rng.choice([-1.0, 1.0], num_frames), rng.random((num_frames, 2))
    looks = []
    for t in range(num_frames):
        frame: dict[str, Any] = {name: float(track[t]) for name, track in tracks.items()}
        place = (float(places[t, 0]), float(places[t, 1]))
        looks.append(FrameAppearance(**frame, **clip, noise=float(noises[t]), noise_at=place))
    return Appearance(tuple(looks))


def spawn(rng: np.random.Generator) -> np.random.Generator:
    """Return a generator of its own, for one number of ``rng``."""
    return np.random.default_rng(int(rng.integers(2**63)))


def _drift(
    rng: np.random.Generator, num_frames: int, policy: AppearancePolicy
) -> NDArray[np.float64]:
    """Return (T,) values in [-1, 1]: one constant of the clip plus a slow sine."""
    constant, phase = rng.uniform(-1, 1), rng.uniform(0, 2 * np.pi)
    cycles = np.arange(num_frames) / rng.uniform(*policy.period)
    swing = np.sin(phase + 2 * np.pi * cycles)
    return (1 - policy.drift) * constant + policy.drift * swing
