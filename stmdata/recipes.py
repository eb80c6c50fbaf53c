"""Synthesis recipes: how a still image becomes a clip, every number with its unit and source.

``ClassicRecipe`` is the published distribution, ``SmoothRecipe`` our default that mends it. Both
are plain values: they read from TOML, print as TOML and are stored in a shard set's manifest.
Lengths and areas marked "at 384" are in pixels of a 384x384 clip and scale with ``--size``.
"""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stmtrain.errors import UsageError
from stmtrain.settings import from_mapping, setting

__all__ = [
    "CLASSIC",


    "REFERENCE_SIZE",
    "ClassicRecipe",

    "SynthRecipe",

]

REFERENCE_SIZE = 384
"""Side of the clips for which the pixel numbers below are stated (Oh et al. 2019, "Training")."""


@dataclass(frozen=True)
class SynthRecipe:
    """What both families share: which objects are used and which clips are good enough."""

    min_instance_area: float = setting(
        2000.0, "px at native size; smaller instances of the image stay background (published)"
    )
    min_cutout_box: float = setting(
        3000.0, "px, width times height of an instance's box; smaller are never pasted (published)"
    )
    pastes: tuple[int, int] = setting((1, 3), "fewest and most objects pasted, if any (published)")
    flip: float = setting(0.5, "probability of mirroring the image, all frames alike (published)")
    min_object_area: float = setting(
        350.0, "px at 384; fewer in frame 0 and the object is background (published)"
    )
    max_objects: int = setting(5, "most objects of a clip, drawn at random (published)")
    pool_size: int = setting(
        96, "cut-outs drawn per shard, at most two per clip; the published code draws one per use"
    )
    max_draws: int = setting(
        8, "tries until a clip shows an object of min_object_area in frame 0; then it is skipped"
    )
    appearance: str = setting("none", "colour, blur, noise and deformation: none, light, strong")

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        fewest, most = self.pastes
        if not 0 <= fewest <= most <= 32:
            raise ValueError(f"pastes: expected 0 <= fewest <= most <= 32, found {self.pastes}")
        if not 1 <= self.max_objects <= 254:
            raise ValueError(f"max_objects: expected 1..254, found {self.max_objects}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip: expected a probability in 0..1, found {self.flip}")
        if self.min_object_area < 1:
            raise ValueError(f"min_object_area: expected at least 1 px, found {self.min_object_area}")
        if self.max_draws < 1 or self.pool_size < 0:
            raise ValueError("max_draws must be at least 1 and pool_size at least 0")


@dataclass(frozen=True)
class ClassicRecipe(SynthRecipe):
    """The published pre-training distribution (re-training code of STM, stage 1), kept as it is.

    Known flaws are kept too, because the statistics depend on them: motion of pasted objects is
    always right and down, cut-outs are pasted at native size whatever that is, edges are hard and
    black wedges show where the warp leaves the image.
    """

    family: Literal["classic"] = setting("classic", "motion model: classic or smooth")
    paste_probability: float = setting(
        0.5, "probability of branch B; in branch A only an image without instances gets pastes"
    )
    max_base_objects: int = setting(5, "instances of the image kept in branch B")
    short_side: float = setting(480.0, "px at 384, the image's short side before cropping")
    corner_shift: float = setting(
        0.1, "of width and height: each corner's largest move from one frame to the next"
    )
    paste_right: int = setting(40, "px at 384 per frame, uniform from 0")
    paste_down: int = setting(20, "px at 384 per frame, uniform from 0")
    paste_rotate: float = setting(30.0, "degrees per frame, either way, compounding")
    paste_shear: float = setting(20.0, "degrees per frame, either way, compounding")
    paste_scale: tuple[float, float] = setting(
        (0.8, 1.2), "factor per frame, x and y independent, compounding"
    )


CLASSIC = ClassicRecipe()
